//! Wires the house: opens the store, activates the table, starts the loops, and drains them on SIGTERM.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, Notify, mpsc},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{
        health::Snapshot,
        run::{Failure, ReplicaId},
        settle::Ended,
    },
    engine::{
        Engine, Parts, Settings, attempt::ABORT_GRACE, chores, chores::Chore, lease, lease::Keeper, loops,
        observe::Observer, settler, settler::Finished,
    },
    handlers::{AppDatabase, AppTx, Tools},
    http,
    job_table::JobTable,
    metrics::Metrics,
    store::{ActivateRequest, AppConnection, DatabaseConfig, DaemonLock, Store, StoreError},
};

/// Threads of the handlers' runtime at least: one that blocks must leave another.
const LEAST_HANDLER_THREADS: usize = 4;
/// First wait between two tries to open the database; doubles up to `LONGEST_OPEN_RETRY`.
const OPEN_RETRY: Duration = Duration::from_millis(250);
const LONGEST_OPEN_RETRY: Duration = Duration::from_secs(5);
/// A loop that died is started again this often.
const LOOP_RESTARTS: usize = 3;
/// For the last settlements, after everything was stopped.
const SETTLE_GRACE: Duration = Duration::from_secs(3);
/// Between two tries to become the active table.
const ACTIVATION_RETRY: Duration = Duration::from_secs(10);

/// Everything a process needs to know to start.
pub struct Options {
    pub table: Arc<JobTable>,
    pub database: DatabaseConfig,
    pub settings: Settings,
    /// `None` = no HTTP at all.
    pub listen: Option<SocketAddr>,
    pub access: http::Access,
    pub tools: Tools,
    /// The commit this binary was built from, or empty.
    pub revision: &'static str,
    /// Given what is known once the database is open; prints it.
    pub banner: Box<dyn Fn(&Engine) + Send + Sync>,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goodbye {
    Drained,
    /// A second signal cut the draining short.
    Forced,
    /// Something could not be mended from inside.
    Fatal(String),
}

/// Runs the daemon until SIGTERM or SIGINT. Errors are those of the start; a database that does not answer is none.
pub async fn start(options: Options) -> anyhow::Result<Goodbye> {
    let signals = Signals::listen()?;
    let clock = Clock::system();
    let replica = ReplicaId(Uuid::now_v7());
    let snapshot = Snapshot::starting(replica, options.settings.version.clone(), clock.now());
    let observer = Arc::new(Observer::new(Arc::new(ArcSwap::from_pointee(snapshot))));
    let jobs: Vec<_> = options.table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect();
    let metrics = Arc::new(Metrics::new(&jobs, &options.settings.version, options.revision));
    let web = Web::open(&options, &observer, &metrics, &clock).await?;

    let opened = tokio::select! {
        opened = open(&options.database) => opened?,
        () = signals.first.cancelled() => return Ok(Goodbye::Drained),
    };
    let handlers = handlers_runtime()?;
    let parts = Parts {
        database: app_database(&opened.store),
        store: opened.store.clone(),
        clock,
        table: Arc::clone(&options.table),
        metrics,
        settings: options.settings.clone(),
        handlers: handlers.handle().clone(),
        tools: options.tools.clone(),
    };
    let (engine, finished) = Engine::new(parts, replica);
    let house = House::new(engine, observer, finished);
    let goodbye = tokio::select! {
        goodbye = house.live(&options, &signals) => goodbye,
        () = signals.second.cancelled() => Ok(Goodbye::Forced),
    };
    web.close().await;
    handlers.shutdown_background();
    drop(opened.lock);
    goodbye
}

/// The listener, and how to close it.
struct Web {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Web {
    async fn open(options: &Options, observer: &Arc<Observer>, metrics: &Arc<Metrics>, clock: &Clock) -> anyhow::Result<Self> {
        let web = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let Some(address) = options.listen else { return Ok(web) };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: stop what listens there, or set PORT or WORKERS_LISTEN"))?;
        let state = http::HttpState::new(Arc::clone(&options.table), observer.reader(), Arc::clone(metrics), clock.clone());
        web.tasks.spawn(http::serve(listener, state, options.access.clone(), web.stop.clone()));
        Ok(web)
    }

    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        time::timeout(Duration::from_secs(1), self.tasks.wait()).await.unwrap_or_default();
    }
}


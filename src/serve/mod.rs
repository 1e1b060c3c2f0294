//! Wires the house: opens the store, activates the table, starts the loops, and drains them on SIGTERM.

mod options;
mod banner;
mod demo;
mod once;
mod prepare;
mod signals;
mod volume;
mod opening;
mod house;
pub mod queue;
mod table;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    clock::Clock,
    domain::{
        health::Snapshot,
        lasting::Lasting,
        run::{Outcome, ReplicaId},
    },
    engine::{Engine, Parts, Settings, observe::Observer},
    handlers::{Tools, kill_children},
    http::{self, Access, HttpState},
    job_table::JobTable,
    logs,
    metrics::Metrics,
    store::DatabaseConfig,
};

pub use crate::http::ListenError;
pub use demo::{Demonstration, demonstrate};
pub use once::{Once, once_elsewhere};
pub use options::database;
pub use prepare::{database_is_there, doubtful_tables, refused_statements, written_address};
pub use table::{Reader, Watched};

use house::House;
use opening::{app_database, handlers_runtime, open};
use prepare::Written;
use signals::Signals;
use table::Reloading;

/// Open answers may end for this long after the rest has stopped.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// Says what is known once the database is open, and where it listens.
pub type Banner = dyn Fn(&Arc<Engine>, Option<SocketAddr>) + Send + Sync;

/// Everything a process needs to know to start.
pub struct Options {
    pub table: Arc<JobTable>,
    pub database: DatabaseConfig,
    /// What becomes of the database with the container.
    pub lasting: Lasting,
    pub settings: Settings,
    /// `None` = no HTTP at all.
    pub listen: Option<SocketAddr>,
    /// Run this job now, once, and end.
    pub once: Option<Once>,
    pub access: Arc<Access>,
    pub tools: Tools,
    /// The commit this binary was built from, or empty.
    pub revision: &'static str,
    /// Where a reload reads the new table.
    pub reader: Arc<Reader>,
    /// Prints what is known.
    pub banner: Box<Banner>,
}

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goodbye {
    Drained,
    /// The run that was asked for ended so.
    Ran(Outcome),
    /// The run that was asked for had no end within this time.
    TookTooLong(Duration),
    /// A second signal cut the draining short.
    Forced,
    /// Something could not be mended from inside.
    Fatal(String),
}

/// Runs the daemon until SIGTERM or SIGINT. Errors are those of the start; a database that does not answer is none.
pub async fn start(options: Options) -> anyhow::Result<Goodbye> {
    if options.lasting == Lasting::Refused {
        return Err(volume::refusal(&options.database).into());
    }
    let signals = Signals::listen()?;
    let clock = Clock::system();
    let replica = ReplicaId(Uuid::now_v7());
    logs::name_replica(replica);
    let snapshot = Snapshot {
        ephemeral: options.lasting != Lasting::Yes,
        ..Snapshot::starting(replica, options.settings.version.clone(), clock.now())
    };
    let observer = Arc::new(Observer::new(Arc::new(ArcSwap::from_pointee(snapshot))));
    let jobs: Vec<_> = options.table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect();
    let metrics = Arc::new(Metrics::new(&jobs, &options.settings.version, options.revision));
    metrics.count_dropped_lines(logs::dropped_lines);
    let (bell, store) = (Arc::new(Notify::new()), Arc::new(OnceLock::new()));
    let jobs = Arc::new(ArcSwap::from_pointee(jobs));
    let state = HttpState {
        jobs: Arc::clone(&jobs),
        store: Arc::clone(&store),
        bell: Arc::clone(&bell),
        snapshot: observer.reader(),
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        access: Arc::clone(&options.access),
    };
    let web = Web::open(&options, state).await?;

    let opened = tokio::select! {
        opened = open(&options.database) => opened?,
        () = signals.first.cancelled() => return Ok(Goodbye::Drained),
    };
    let store = store.get_or_init(|| opened.store.clone());
    let handlers = handlers_runtime()?;
    let parts = Parts {
        database: app_database(&opened.store),
        store: store.clone(),
        bell,
        clock,
        table: Arc::clone(&options.table),
        metrics,
        settings: options.settings.clone(),
        handlers: handlers.handle().clone(),
        tools: options.tools.clone(),
    };
    let (engine, finished) = Engine::new(parts, replica);
    let reloading = Reloading {
        reader: Arc::clone(&options.reader),
        hangup: Arc::clone(&signals.hangup),
        jobs,
        turn: Arc::default(),
    };
    let house = House::new(engine, observer, finished);
    let goodbye = tokio::select! {
        goodbye = house.live(&options, &signals, reloading) => goodbye,
        () = signals.second.cancelled() => Ok(house.leave_at_once()),
    };
    web.close().await;
    kill_children();
    handlers.shutdown_background();
    if !matches!(goodbye, Ok(Goodbye::Forced)) {
        // Leaves a SQLite file in one piece; a database that hangs is left as it is.
        time::timeout(CLOSING_TIME, store.close()).await.unwrap_or_default();
    }
    drop(opened.lock);
    goodbye
}

/// The listener, and how to close it.
struct Web {
    stop: CancellationToken,
    tasks: TaskTracker,
    written: Option<Written>,
}

impl Web {
    async fn open(options: &Options, state: HttpState) -> Result<Self, ListenError> {
        let mut web = Self { stop: CancellationToken::new(), tasks: TaskTracker::new(), written: None };
        if let Some(address) = options.listen {
            let listener = http::listen(address).await?;
            let real = listener.local_addr().unwrap_or(address);
            web.written = Some(Written::at(&options.database.data_dir, real));
            web.tasks.spawn(http::serve(listener, state, web.stop.clone()));
        }
        Ok(web)
    }

    async fn close(self) {
        self.stop.cancel();
        drop(self.written);
        self.tasks.close();
        time::timeout(CLOSING_TIME, self.tasks.wait()).await.unwrap_or_default();
    }
}

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

/// An open store, and the proof that no other daemon holds its file.
struct Opened {
    store: Store,
    lock: DaemonLock,
}

/// Opens and migrates, as long as it takes: only what waiting cannot mend is an error.
async fn open(config: &DatabaseConfig) -> Result<Opened, StoreError> {
    let mut wait = OPEN_RETRY;
    loop {
        match try_open(config).await {
            Err(error) if lease::is_passing(&error) => {
                warn!(component = "scheduler", "{error}: trying again in {} ms", wait.as_millis());
                time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_OPEN_RETRY);
            }
            other => return other,
        }
    }
}

async fn try_open(config: &DatabaseConfig) -> Result<Opened, StoreError> {
    let store = Store::open(config).await?;
    let lock = store.lock_daemon()?;
    store.migrate().await?;
    Ok(Opened { store, lock })
}

fn handlers_runtime() -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(LEAST_HANDLER_THREADS, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(LEAST_HANDLER_THREADS))
        .thread_name("handler")
        .enable_all()
        .build()
        .context("cannot start the threads of the handlers")
}

/// The handlers' way to the daemon's own database.
fn app_database(store: &Store) -> AppDatabase {
    let store = store.clone();
    AppDatabase {
        begin: Arc::new(move || {
            let store = store.clone();
            Box::pin(async move {
                match store.begin_app().await {
                    Ok(AppConnection::Postgres(tx)) => Ok(AppTx::Postgres(tx)),
                    Ok(AppConnection::Sqlite(guard)) => Ok(AppTx::Sqlite(guard)),
                    Err(error) => Err(Failure::retry(format!("cannot begin a transaction: {error}")).before_effect()),
                }
            })
        }),
    }
}

/// The engine with its loops.
struct House {
    engine: Arc<Engine>,
    observer: Arc<Observer>,
    finished: Arc<Mutex<mpsc::UnboundedReceiver<Finished>>>,
    /// Stops planning, claiming and the chores.
    stop: CancellationToken,
    /// Stops the renewal, last of all.
    end: CancellationToken,
    loops: TaskTracker,
}

impl House {
    fn new(engine: Arc<Engine>, observer: Arc<Observer>, finished: mpsc::UnboundedReceiver<Finished>) -> Self {
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        Self { engine, observer, finished: Arc::new(Mutex::new(finished)), stop, end, loops: TaskTracker::new() }
    }

    async fn live(&self, options: &Options, signals: &Signals) -> anyhow::Result<Goodbye> {
        self.engine.database_answered();
        self.engine.status.change(|condition| condition.migrated = true);
        tokio::select! {
            joined = self.join() => joined?,
            () = signals.first.cancelled() => return Ok(Goodbye::Drained),
        }
        (options.banner)(&self.engine);
        self.start_loops().await?;
        self.engine.status.change(|condition| condition.ready = true);
        self.observer.refresh(&self.engine);
        tokio::select! {
            () = signals.first.cancelled() => info!(component = "scheduler", "stopping: finishing what runs, starting nothing"),
            () = self.engine.wake.fatal.notified() => error!(component = "scheduler", "stopping: cannot go on"),
        }
        self.drain().await;
        Ok(self.engine.status.get().fatal.map_or(Goodbye::Drained, Goodbye::Fatal))
    }

    /// Registers this replica, frees what a dead one left on SQLite, and activates the table.
    async fn join(&self) -> Result<(), StoreError> {
        let engine = &self.engine;
        lease::sample_clock(engine).await?;
        let mut keeper = Keeper::new(Arc::clone(engine));
        keeper.register().await?;
        if !engine.store.needs_lease() {
            let freed = engine.store.free_all(engine.clock.now()).await?;
            if !freed.is_empty() {
                warn!(component = "scheduler", runs = freed.len(), "freed runs that the last process left running");
            }
        }
        activate(engine).await?;
        self.supervise("lease", {
            let (engine, end) = (Arc::clone(engine), self.end.clone());
            move || loops::keep(Arc::clone(&engine), Keeper::new(Arc::clone(&engine)), end.clone())
        });
        Ok(())
    }

    async fn start_loops(&self) -> anyhow::Result<()> {
        let (engine, stop, end) = (&self.engine, &self.stop, &self.end);
        let start = |run: fn(Arc<Engine>, CancellationToken) -> BoxedLoop| {
            let (engine, stop) = (Arc::clone(engine), stop.clone());
            move || run(Arc::clone(&engine), stop.clone())
        };
        self.supervise("settler", {
            let (engine, finished) = (Arc::clone(engine), Arc::clone(&self.finished));
            move || settler::run(Arc::clone(&engine), Arc::clone(&finished))
        });
        self.supervise("planner", start(|engine, stop| Box::pin(loops::plan(engine, stop))));
        self.supervise("runner", start(|engine, stop| Box::pin(loops::run(engine, stop))));
        self.supervise("rescue", start(|engine, stop| Box::pin(loops::rescue(engine, stop))));
        self.supervise("clock", start(|engine, stop| Box::pin(loops::watch_clock(engine, stop))));
        self.supervise("activation", start(|engine, stop| Box::pin(stay_active(engine, stop))));
        self.supervise("observer", {
            let (engine, observer, end) = (Arc::clone(engine), Arc::clone(&self.observer), end.clone());
            move || loops::observe(Arc::clone(&engine), Arc::clone(&observer), end.clone())
        });
        self.start_chores().await
    }

    async fn start_chores(&self) -> anyhow::Result<()> {
        let pokes: Vec<(Chore, Arc<Notify>)> = Chore::ALL.map(|chore| (chore, Arc::default())).into();
        for (chore, poke) in pokes.clone() {
            let (engine, observer, stop) = (Arc::clone(&self.engine), Arc::clone(&self.observer), self.stop.clone());
            self.supervise("chore", move || {
                chores::supervise(Arc::clone(&engine), Arc::clone(&observer), (chore, Arc::clone(&poke)), stop.clone())
            });
        }
        let ticker = chores::start_ticker(&pokes).await.context("cannot start the ticker of the chores")?;
        // Nothing depends on it, so nobody waits for it: it goes with the process.
        std::mem::forget(ticker);
        Ok(())
    }

    /// Runs a loop; one that dies is started again a few times, then the process ends.
    fn supervise<F>(&self, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let engine = Arc::clone(&self.engine);
        self.loops.spawn(async move {
            for _ in 0..=LOOP_RESTARTS {
                match tokio::spawn(make()).await {
                    Ok(()) => return,
                    Err(death) => error!(component = "scheduler", "loop {name} died: {death}"),
                }
            }
            engine.fail_for_good(format!("loop {name} died {} times", LOOP_RESTARTS + 1));
        });
    }

    /// Finishes what runs within the grace, stops the rest, settles it, and leaves.
    async fn drain(&self) {
        let engine = &self.engine;
        engine.status.change(|condition| {
            condition.draining = true;
            condition.ready = false;
        });
        self.observer.refresh(engine);
        self.stop.cancel();
        engine.draining.cancel();
        self.wait_until_idle(engine.settings.shutdown_grace).await;
        engine.running.stop_all(&Ended::Interrupted);
        self.wait_until_idle(ABORT_GRACE + SETTLE_GRACE).await;
        if let Err(error) = engine.store.leave(engine.running.replica(), engine.clock.now()).await {
            warn!(component = "scheduler", "could not say goodbye to the database: {error}");
        }
        self.end.cancel();
        info!(component = "scheduler", left_running = engine.running.by_job().len(), "stopped");
    }

    /// Waits until no attempt is running or unsettled, at most this long.
    async fn wait_until_idle(&self, most: Duration) {
        let idle = async {
            while !self.engine.running.is_empty() {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A time-out is not an error: the caller goes on with what is left.
        time::timeout(most, idle).await.unwrap_or_default();
    }
}

type BoxedLoop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Asks to become the active table, unless this process was told to leave something out; then only a database that
/// has no table at all is given one.
async fn activate(engine: &Engine) -> Result<(), StoreError> {
    let whole = engine.settings.scope.is_whole();
    if !whole && engine.store.active_table().await?.is_some() {
        return Ok(());
    }
    let request = ActivateRequest {
        table_hash: engine.table_hash().to_owned(),
        revision: engine.table.revision,
        jobs: engine.table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect(),
        replica: engine.running.replica(),
        now: engine.clock.now(),
        force: false,
    };
    let activation = engine.store.activate(&request).await?;
    let was_active = engine.status.get().active;
    if activation.changed {
        info!(component = "scheduler", table = engine.table_hash(), "job table activated");
    } else if !activation.active && was_active {
        warn!(component = "scheduler", "another job table is active now: what differs here is neither planned nor claimed");
    }
    engine.status.change(|condition| condition.active = activation.active);
    engine.wake.planner.notify_one();
    Ok(())
}

/// A table that lost its place gets it back when nobody has held the active one for a minute.
async fn stay_active(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(ACTIVATION_RETRY) => {}
        }
        match engine.store.active_table().await {
            Ok(active) if active.as_deref() == Some(engine.table_hash()) => {
                engine.status.change(|condition| condition.active = true);
            }
            Ok(_) => {
                if let Err(error) = activate(&engine).await {
                    engine.database_failed(&error);
                }
            }
            Err(error) => engine.database_failed(&error),
        }
    }
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

/// SIGTERM and SIGINT: the first drains, the second ends at once. Works as PID 1, where neither has a default.
#[derive(Clone)]
struct Signals {
    first: CancellationToken,
    second: CancellationToken,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let signals = Self { first: CancellationToken::new(), second: CancellationToken::new() };
        let heard = signals.clone();
        tokio::spawn(async move {
            for token in [heard.first, heard.second] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}

//! The engine with its loops: joins the other replicas, lives, and drains.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::{Mutex, mpsc},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    Goodbye, Options, once,
    signals::Signals,
    table::{Reloading, activate, foreign_jobs, reload, stay_active},
};
use crate::{
    clock::Observation,
    domain::{job::JobName, settle::Ended},
    engine::{
        Engine,
        chores::{self, Chore, Duty},
        lease,
        lease::Keeper,
        loops,
        observe::Observer,
        running::ABORT_GRACE,
        settler,
        settler::Finished,
    },
    store::StoreError,
};

/// A loop that died is started again this often.
const LOOP_RESTARTS: usize = 3;
/// Tries to get a first sample of the database's clock.
const FIRST_SAMPLES: usize = 5;
/// The planner's first turn is waited for this long before the daemon says that it is ready.
const FIRST_TURN: Duration = Duration::from_secs(1);
/// The first look at the queues is waited for this long before the daemon says that it is ready.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// For the last settlements, after everything was stopped.
const SETTLE_GRACE: Duration = Duration::from_secs(3);

/// The engine with its loops.
pub struct House {
    engine: Arc<Engine>,
    observer: Arc<Observer>,
    finished: Arc<Mutex<mpsc::UnboundedReceiver<Finished>>>,
    /// Stops planning, claiming and the chores.
    stop: CancellationToken,
    /// Stops the renewal, last of all.
    end: CancellationToken,
    loops: TaskTracker,
    /// The loops that start attempts.
    starters: TaskTracker,
}

impl House {
    pub fn new(engine: Arc<Engine>, observer: Arc<Observer>, finished: mpsc::UnboundedReceiver<Finished>) -> Self {
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        Self {
            engine,
            observer,
            finished: Arc::new(Mutex::new(finished)),
            stop,
            end,
            loops: TaskTracker::new(),
            starters: TaskTracker::new(),
        }
    }

    /// Joins, works until told to stop, and drains.
    pub async fn live(&self, options: &Options, signals: &Signals, reloading: Reloading) -> anyhow::Result<Goodbye> {
        self.engine.database_answered();
        self.engine.status.change(|condition| condition.migrated = true);
        tokio::select! {
            joined = self.join() => joined?,
            () = signals.first.cancelled() => return Ok(Goodbye::Drained),
        }
        (options.banner)(&self.engine, options.listen);
        self.start_loops().await?;
        self.supervise("activation", {
            let (engine, turn, stop) = (Arc::clone(&self.engine), Arc::clone(&reloading.turn), self.stop.clone());
            move || stay_active(Arc::clone(&engine), Arc::clone(&turn), stop.clone())
        });
        self.supervise("reload", {
            let (engine, stop) = (Arc::clone(&self.engine), self.stop.clone());
            move || reload(Arc::clone(&engine), reloading.clone(), stop.clone())
        });
        self.first_turn().await;
        self.first_look().await;
        self.engine.status.change(|condition| condition.ready = true);
        self.start_observer();
        let mut ended = Ok(Goodbye::Drained);
        tokio::select! {
            ran = once::here(&self.engine, options.once.as_ref()) => ended = ran,
            () = signals.first.cancelled() => info!(component = "scheduler", "stopping: finishing what runs, starting nothing"),
            () = self.engine.wake.fatal.notified() => error!(component = "scheduler", "stopping: cannot go on"),
        }
        self.drain().await;
        match self.engine.status.get().fatal {
            Some(why) => Ok(Goodbye::Fatal(why)),
            None => Ok(ended?),
        }
    }

    /// Registers this replica, frees what a dead one left on SQLite, and activates the table.
    async fn join(&self) -> Result<(), StoreError> {
        let engine = &self.engine;
        for _ in 0..FIRST_SAMPLES {
            // The first one may have had to connect, and until one is believed the host's clock goes.
            if lease::sample_clock(engine).await? != Observation::Refused {
                break;
            }
        }
        let mut keeper = Keeper::new(Arc::clone(engine));
        keeper.register().await?;
        if !engine.store.needs_lease() {
            let freed = engine.store.free_all(engine.clock.now()).await?;
            lease::note_freed(engine, &freed);
            if !freed.is_empty() {
                warn!(component = "scheduler", runs = freed.len(), "freed runs that the last process left running");
            }
        }
        activate(engine, &engine.table()).await?;
        self.refuse_foreign_jobs().await?;
        self.supervise("lease", {
            let (engine, end) = (Arc::clone(engine), self.end.clone());
            move || loops::keep(Arc::clone(&engine), Keeper::new(Arc::clone(&engine)), end.clone())
        });
        self.supervise("deadline", {
            let (engine, end) = (Arc::clone(engine), self.end.clone());
            move || loops::watch_deadline(Arc::clone(&engine), end.clone())
        });
        Ok(())
    }

    /// A lone worker whose job is not the active one would wait for ever; it says so instead.
    async fn refuse_foreign_jobs(&self) -> Result<(), StoreError> {
        if self.engine.settings.scope.only.is_empty() {
            return Ok(());
        }
        let foreign = foreign_jobs(&self.engine).await?;
        if foreign.is_empty() {
            return Ok(());
        }
        let names = foreign.iter().map(JobName::as_str).collect::<Vec<_>>().join(", ");
        Err(StoreError::Conflict(format!(
            "{names}: this job table is not the active one, and describes it otherwise; start the service with this table, or \
            run `workers config activate`"
        )))
    }

    async fn start_loops(&self) -> anyhow::Result<()> {
        let (engine, stop) = (&self.engine, &self.stop);
        let start = |run: fn(Arc<Engine>, CancellationToken) -> BoxedLoop| {
            let (engine, stop) = (Arc::clone(engine), stop.clone());
            move || run(Arc::clone(&engine), stop.clone())
        };
        self.supervise("settler", {
            let (engine, finished) = (Arc::clone(engine), Arc::clone(&self.finished));
            move || settler::run(Arc::clone(&engine), Arc::clone(&finished))
        });
        self.supervise_in(&self.starters, "planner", start(|engine, stop| Box::pin(loops::plan(engine, stop))));
        self.supervise_in(&self.starters, "runner", start(|engine, stop| Box::pin(loops::run(engine, stop))));
        self.supervise("rescue", start(|engine, stop| Box::pin(loops::rescue(engine, stop))));
        self.supervise("clock", start(|engine, stop| Box::pin(loops::watch_clock(engine, stop))));
        self.start_chores().await
    }

    /// Waits until the planner has turned once, well or not: health must not say ready and `starting` in one breath.
    async fn first_turn(&self) {
        let turned = async {
            while self.engine.status.get().planner_turned_at.is_none() {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        // A database that hangs must not hide behind a daemon that says nothing.
        time::timeout(FIRST_TURN, turned).await.unwrap_or_default();
    }

    /// Waits until the queues were looked at: who asks a ready daemon for the size of one is told a number.
    async fn first_look(&self) {
        let looked = async {
            while !self.observer.is_first_look_over() && !self.stop.is_cancelled() {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        // A table that hangs, or is large, keeps nobody from ready.
        time::timeout(FIRST_LOOK, looked).await.unwrap_or_default();
    }

    fn start_observer(&self) {
        self.observer.refresh(&self.engine);
        let (engine, observer, end) = (Arc::clone(&self.engine), Arc::clone(&self.observer), self.end.clone());
        self.supervise("observer", move || loops::observe(Arc::clone(&engine), Arc::clone(&observer), end.clone()));
    }

    #[expect(clippy::mem_forget, reason = "nothing depends on the ticker, so nobody waits for it to stop")]
    async fn start_chores(&self) -> anyhow::Result<()> {
        let duties = Chore::ALL.map(Duty::new);
        for duty in duties.clone() {
            if duty.chore == Chore::Look {
                // The size of a queue is asked for from the first moment on.
                duty.poke.notify_one();
            }
            let (engine, observer, stop) = (Arc::clone(&self.engine), Arc::clone(&self.observer), self.stop.clone());
            self.supervise("chore", move || {
                chores::supervise(Arc::clone(&engine), Arc::clone(&observer), duty.clone(), stop.clone())
            });
        }
        let ticker = chores::start_ticker(&duties).await.context("cannot start the ticker of the chores")?;
        // It goes with the process.
        std::mem::forget(ticker);
        Ok(())
    }

    /// Runs a loop; one that dies is started again a few times, then the process ends.
    fn supervise<F>(&self, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.supervise_in(&self.loops, name, make);
    }

    fn supervise_in<F>(&self, tracker: &TaskTracker, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let engine = Arc::clone(&self.engine);
        tracker.spawn(async move {
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
        self.wait_until_idle(engine.settings.shutdown_grace, || {}).await;
        // Again and again: the answer to the last claim may come late.
        self.wait_until_idle(ABORT_GRACE + SETTLE_GRACE, || engine.running.stop_all(&Ended::Interrupted)).await;
        if let Err(error) = engine.store.leave(engine.running.replica(), engine.clock.now()).await {
            warn!(component = "scheduler", "could not say goodbye to the database: {error}");
        }
        self.end.cancel();
        engine.news.sum_up();
        info!(component = "scheduler", left_running = engine.running.by_job().len(), "stopped");
    }

    /// A second signal: what runs is left to the next process.
    pub fn leave_at_once(&self) -> Goodbye {
        self.engine.news.sum_up();
        let left_running = self.engine.running.by_job().len();
        warn!(component = "scheduler", left_running, "stopping at once: told to a second time");
        Goodbye::Forced
    }

    /// Waits until no attempt is running or unsettled and none can start any more, at most this long.
    async fn wait_until_idle(&self, most: Duration, meanwhile: impl Fn()) {
        let idle = async {
            while !(self.starters.is_empty() && self.engine.running.is_empty()) {
                meanwhile();
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A time-out is not an error: the caller goes on with what is left.
        time::timeout(most, idle).await.unwrap_or_default();
    }
}

type BoxedLoop = Pin<Box<dyn Future<Output = ()> + Send>>;

//! The World: a whole daemon whose clock only tests move. The real planner, runner and settler work on a real database;
//! attempts are not executed but end when their script says, so that a week takes seconds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::PathBuf,
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    clock::Clock,
    domain::{
        job::{JobName, Overlap},
        ledger::{Account, reconcile},
        run::{ReplicaId, Report, Run},
        settle::{Ended, settle},
    },
    engine::{
        Engine, Parts, Scope, Settings, chores,
        planner::Planner,
        runner::Runner,
        running::Claimed,
        settler::{self, Finished},
    },
    handlers::{AppDatabase, Tools},
    job_table::{Environment, JobTable, parse},
    metrics::Metrics,
    store::{ActivateRequest, DatabaseConfig, Replica, RunFilter, Store},
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How the attempts of a job end: after how long, and how.
pub type Script = Box<dyn Fn(&Run) -> (TimeDelta, Ended) + Send + Sync>;

pub struct World {
    pub clock: Clock,
    pub store: Store,
    pub database: DatabaseConfig,
    pub house: Option<House>,
    scripts: HashMap<String, Script>,
    table: Arc<JobTable>,
    folder: tempfile::TempDir,
}

/// One living replica of the World.
pub struct House {
    pub engine: Arc<Engine>,
    /// Ends of attempts that a test starts for real.
    pub finished: mpsc::UnboundedReceiver<Finished>,
    planner: Planner,
    runner: Runner,
    in_flight: Vec<InFlight>,
    next_due: Option<DateTime<Utc>>,
}

struct InFlight {
    claimed: Claimed,
    ends_at: DateTime<Utc>,
    ended: Ended,
}

/// Reads a time such as `2026-03-02 08:00` as UTC.
pub fn utc(text: &str) -> DateTime<Utc> {
    let text = if text.len() == 16 { format!("{text}:00") } else { text.to_owned() };
    format!("{}Z", text.replace(' ', "T")).parse().expect("a time such as 2026-03-02 08:00")
}

pub fn read_table(text: &str) -> Arc<JobTable> {
    let environment = Environment::default();
    match parse(text, "jobs.toml", &environment) {
        Ok(table) => Arc::new(table),
        Err(problems) => panic!("the test's table is broken: {problems:?}"),
    }
}

pub fn success() -> Ended {
    Ended::Answered(Ok(Report::items(1)))
}

impl World {
    /// A World on a SQLite file of its own, with a running replica.
    pub async fn new(table: &str, start: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = DatabaseConfig::sqlite_for_tests(folder.path().join("world.db"));
        Self::on(database, folder, table, start).await
    }

    pub async fn on(database: DatabaseConfig, folder: tempfile::TempDir, table: &str, start: &str) -> Self {
        let store = Store::open(&database).await.expect("the database opens");
        store.migrate().await.expect("the migrations apply");
        let clock = Clock::manual(utc(start));
        let mut world =
            Self { clock, store, database, house: None, scripts: HashMap::new(), table: read_table(table), folder };
        world.start().await;
        world
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// From now on the attempts of this job end like this. Without a script they succeed at once.
    pub fn script(&mut self, job: &str, script: impl Fn(&Run) -> (TimeDelta, Ended) + Send + Sync + 'static) {
        self.scripts.insert(job.to_owned(), Box::new(script));
    }

    /// The attempts of this job succeed after so long.
    pub fn lasts(&mut self, job: &str, length: TimeDelta) {
        self.script(job, move |_| (length, success()));
    }

    /// Starts a replica with the current table, as the daemon would.
    pub async fn start(&mut self) {
        let house = House::open(&self.store, &self.clock, &self.table, Scope::default()).await;
        self.house = Some(house);
    }

    /// Another table is deployed: the old process ends gracefully, the new one starts.
    pub async fn deploy(&mut self, table: &str) {
        self.stop().await;
        self.table = read_table(table);
        self.start().await;
    }

    /// The process ends as on SIGTERM with no grace: what runs is interrupted.
    pub async fn stop(&mut self) {
        if let Some(mut house) = self.house.take() {
            let now = self.clock.now();
            for flight in std::mem::take(&mut house.in_flight) {
                house.settle(flight.claimed, Ended::Interrupted, now).await;
            }
            house.engine.store.leave(house.engine.running.replica(), now).await.expect("leaving works");
        }
    }

    /// The process dies: nobody settles anything.
    pub fn crash(&mut self) {
        self.house = None;
    }

    /// Lets time pass, with whatever lives in it.
    pub async fn run_until(&mut self, until: &str) {
        let until = utc(until);
        while self.clock.now() < until {
            let now = self.clock.now();
            let next = match &mut self.house {
                Some(house) => house.tick(&self.scripts, now).await,
                None => until,
            };
            self.clock.set(next.max(now + TimeDelta::milliseconds(1)).min(until));
        }
        if let Some(house) = &mut self.house {
            house.tick(&self.scripts, until).await;
        }
    }

    /// Every row, one line each: `job due..  state outcome reason xN attempts lag`.
    pub async fn ledger(&self) -> String {
        let filter = RunFilter { limit: 1_000_000, ..RunFilter::default() };
        let mut runs = self.store.runs(&filter).await.expect("the runs are readable");
        runs.sort_by_key(|run| (run.job.clone(), run.scheduled_for.or(Some(run.due_at)), run.id));
        runs.iter().map(line).collect()
    }

    pub async fn ledger_of(&self, job: &str) -> Vec<String> {
        let prefix = format!("{job} ");
        let ledger = self.ledger().await;
        ledger.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The account of each job from its first instant to its cursor.
    pub async fn accounts(&self) -> BTreeMap<String, Account> {
        let mut accounts = BTreeMap::new();
        for row in self.store.job_rows().await.expect("the jobs are readable") {
            let Some(until) = row.planned_until else { continue };
            let epochs = self.store.epochs(&row.name).await.expect("the epochs are readable");
            let entries =
                self.store.ledger_entries(&row.name, row.first_seen, until).await.expect("the ledger is readable");
            let account = reconcile(&epochs, &entries, row.first_seen, until).expect("the schedules are readable");
            accounts.insert(row.name.to_string(), account);
        }
        accounts
    }

    /// Asserts that nothing is missing, doubled or extra, and that the audit agrees.
    #[track_caller]
    pub fn assert_conserved(accounts: &BTreeMap<String, Account>) {
        for (job, account) in accounts {
            assert_eq!(account.unexplained(), 0, "{job}: {account:?}");
        }
    }

    pub async fn audit(&self) {
        let house = self.house.as_ref().expect("a replica lives");
        chores::audit(&house.engine).await.expect("the audit works");
    }
}

impl House {
    pub async fn open(store: &Store, clock: &Clock, table: &Arc<JobTable>, scope: Scope) -> Self {
        let jobs: Vec<_> = table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect();
        let settings = Settings {
            scope,
            scheduled_slots: 64,
            queue_slots: 4,
            command_slots: 4,
            shutdown_grace: std::time::Duration::from_secs(8),
            log_success: emponto::engine::news::LogSuccess::All,
            host: "world".into(),
            version: "0.0.0".into(),
        };
        let parts = Parts {
            store: store.clone(),
            clock: clock.clone(),
            table: Arc::clone(table),
            metrics: Arc::new(Metrics::new(&jobs, "0.0.0", "")),
            settings,
            handlers: tokio::runtime::Handle::current(),
            tools: Tools::new(table.targets.clone()),
            bell: Arc::new(tokio::sync::Notify::new()),
            database: AppDatabase {
                begin: Arc::new(|| panic!("attempts are not executed in the World")),
                begin_reading: Arc::new(|| panic!("attempts are not executed in the World")),
                history: Arc::new(|_, _| panic!("attempts are not executed in the World")),
            },
        };
        let (engine, finished) = Engine::new(parts, ReplicaId(Uuid::now_v7()));
        let now = clock.now();
        let replica = Replica {
            id: engine.running.replica(),
            host: "world".into(),
            version: "0.0.0".into(),
            table_hash: table.hash.clone(),
            state: "running".into(),
            started_at: now,
            lease_until: now + TimeDelta::days(365),
        };
        store.register(&replica).await.expect("a replica registers");
        if !store.needs_lease() {
            store.free_all(now).await.expect("freeing works");
        }
        let request = ActivateRequest {
            table_hash: table.hash.clone(),
            revision: table.revision,
            jobs,
            replica: replica.id,
            now,
            force: true,
        };
        store.activate(&request).await.expect("activation works");
        let mut planner = Planner::new(Arc::clone(&engine));
        planner.read_cursors(&store.job_rows().await.expect("the jobs are readable"));
        let runner = Runner::new(Arc::clone(&engine));
        Self { engine, finished, planner, runner, in_flight: Vec::new(), next_due: None }
    }

    /// Everything that happens at this instant; returns the next one at which something does.
    pub async fn tick(&mut self, scripts: &HashMap<String, Script>, now: DateTime<Utc>) -> DateTime<Utc> {
        self.land(now).await;
        // Passes that were cut follow at once.
        while self.planner.next_look().is_some_and(|look| look <= now) {
            let planned = self.planner.tick(now).await.expect("planning works");
            self.launch(planned.started, scripts, now);
        }
        self.cancel(now).await;
        // What ends at once makes room at once.
        loop {
            self.land(now).await;
            let claims = self.runner.tick(now).await.expect("claiming works");
            self.next_due = claims.next_due;
            if claims.claimed.is_empty() {
                break;
            }
            self.launch(claims.claimed, scripts, now);
        }
        let landing = self.in_flight.iter().map(|flight| flight.ends_at).min();
        let next = [self.planner.next_look(), self.next_due, landing].into_iter().flatten().min();
        next.unwrap_or(now + TimeDelta::days(1))
    }

    /// What the renewal does in the daemon: brings cancel flags home. Asked only where a job may be replaced.
    async fn cancel(&mut self, now: DateTime<Utc>) {
        let replaces = |entry: &emponto::job_table::Entry| entry.job.policy.overlap == Overlap::Replace;
        if self.in_flight.is_empty() || !self.engine.table().jobs.values().any(replaces) {
            return;
        }
        let until = now + TimeDelta::days(365);
        let held = self.engine.store.renew(self.engine.running.replica(), now, until).await.expect("renewing works");
        let unknown = self.engine.running.compare(&held.expect("the replica lives"));
        assert!(unknown.is_empty(), "runs that nobody knows: {unknown:?}");
        for flight in self.in_flight.iter_mut().filter(|flight| flight.claimed.live.stop.is_cancelled()) {
            flight.ends_at = now;
            flight.ended = flight.claimed.live.cause();
        }
        self.land(now).await;
    }

    fn launch(&mut self, claimed: Vec<Claimed>, scripts: &HashMap<String, Script>, now: DateTime<Utc>) {
        for claimed in claimed {
            let script = scripts.get(claimed.run.job.as_str());
            let (length, ended) = script.map_or_else(|| (TimeDelta::zero(), success()), |script| script(&claimed.run));
            self.in_flight.push(InFlight { claimed, ends_at: now + length, ended });
        }
    }

    async fn land(&mut self, now: DateTime<Utc>) {
        let flights = std::mem::take(&mut self.in_flight);
        let (landed, flying): (Vec<_>, Vec<_>) = flights.into_iter().partition(|flight| flight.ends_at <= now);
        self.in_flight = flying;
        let mut batch = Vec::new();
        for InFlight { claimed, ended, .. } in landed {
            batch.push(Self::judge(claimed, ended, now));
        }
        if !batch.is_empty() {
            settler::write(&self.engine, batch).await;
        }
    }

    async fn settle(&self, claimed: Claimed, ended: Ended, now: DateTime<Utc>) {
        settler::write(&self.engine, vec![Self::judge(claimed, ended, now)]).await;
    }

    fn judge(claimed: Claimed, ended: Ended, now: DateTime<Utc>) -> Finished {
        let job = claimed.desk.entry(&claimed.run.job).job;
        let settlement = settle(&claimed.run, &job.policy, ended, now);
        Finished { lease: claimed.lease, settlement, run: Arc::new(claimed.run) }
    }
}

fn line(run: &Run) -> String {
    let mut text = format!("{} ", run.job);
    let clock = |at: DateTime<Utc>| at.format("%d %H:%M:%S").to_string();
    match (run.covers_from, run.scheduled_for) {
        (Some(from), Some(to)) if from == to => text.push_str(&clock(to)),
        (Some(from), Some(to)) => {
            write!(text, "{}..{} x{}", clock(from), clock(to), run.covers).expect("a string takes all");
        }
        _ => text.push_str(run.trigger.word()),
    }
    write!(text, " {}", run.outcome.map_or(run.state.word(), |outcome| outcome.word())).expect("a string takes all");
    if let Some(reason) = run.reason {
        write!(text, " {reason}").expect("a string takes all");
    }
    if run.trigger != emponto::domain::run::Trigger::Schedule && run.scheduled_for.is_some() {
        write!(text, " ({})", run.trigger).expect("a string takes all");
    }
    if 1 < run.attempt {
        write!(text, " attempt {}", run.attempt).expect("a string takes all");
    }
    if let Some(lag_ms) = run.lag_ms.filter(|lag_ms| 0 < *lag_ms) {
        write!(text, " late {}s", lag_ms / 1_000).expect("a string takes all");
    }
    text.push('\n');
    text
}

/// The name of a job, checked.
pub fn name(text: &str) -> JobName {
    JobName::parse(text).expect("a job name")
}

//! Work that an application only accepted, followed by the real daemon through its own deaths: posted once, finished once.

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection, SqliteConnection};
use support::{
    daemon::{Daemon, Setup},
    postgres::Database,
    target::Target,
};

/// The ledger's row of the work that is followed.
#[derive(Debug, Clone, PartialEq, FromRow)]
struct Followed {
    state: String,
    outcome: String,
    reason: String,
    attempt: i64,
    crashes: i64,
    /// As the database writes it: to be compared, not read.
    started_at: String,
    lag_ms: i64,
    items: i64,
    errors: String,
    resume: String,
}

impl Followed {
    fn has_ended_well(&self) -> bool {
        (self.state.as_str(), self.outcome.as_str(), self.items) == ("finished", "success", 3)
    }
}

async fn followed(url: &str, key: &str) -> Followed {
    let columns = "state, coalesce(outcome, '') as outcome, coalesce(reason, '') as reason,
        cast(attempt as bigint) as attempt, cast(crashes as bigint) as crashes,
        cast(started_at as text) as started_at, cast(lag_ms as bigint) as lag_ms,
        cast(coalesce(items, 0) as bigint) as items, coalesce(cast(errors as text), '') as errors,
        coalesce(cast(resume as text), '') as resume";
    let row = if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await.expect("the daemon made its file");
        let query = format!("select {columns} from workers_runs where lower(id) = $1 or lower(hex(id)) = $2");
        let query = AssertSqlSafe(query);
        sqlx::query_as(query).bind(key).bind(key.replace('-', "")).fetch_one(&mut connection).await
    } else {
        let mut connection = PgConnection::connect(url).await.expect("the database answers");
        let query = AssertSqlSafe(format!("select {columns} from workers.runs where cast(id as text) = $1"));
        sqlx::query_as(query).bind(key).fetch_one(&mut connection).await
    };
    row.expect("the run is in the ledger")
}

/// A daemon that follows work at a target, as it was before anything happened to it.
struct Scene {
    target: Target,
    daemon: Daemon,
    url: String,
    /// The run's id, which is its idempotency key.
    key: String,
    before: Followed,
}

impl Scene {
    /// `more` are lines of the job; the daemon's own database is SQLite unless one is given.
    async fn new(more: &str, database: Option<&Database>) -> Self {
        let target = Target::start();
        let setup = Setup::new(&format!(
            "version = 1\n[defaults]\ntimezone = \"UTC\"\n[targets.default]\nbase_url = \"http://127.0.0.1:{}\"\n\
             headers = {{ Authorization = \"Bearer c4nary\" }}\n[jobs.export]\nevery = \"1s\"\ntimeout = \"5s\"\n{more}\n\
             run.http = {{ post = \"/accept\", poll = {{ every = \"200ms\" }} }}\n",
            target.port
        ));
        let url = match database {
            Some(database) => database.url.clone(),
            None => format!("sqlite://{}", setup.path("workers.db").display()),
        };
        let setup = match database {
            Some(database) => setup.database(&database.url),
            None => setup,
        };
        // Else a job as frequent as this one is summed up.
        let mut daemon = setup.env("WORKERS_LOG_SUCCESS", "all").start();
        daemon.wait_for("some looks", |_| target.accepted().first().is_some_and(|key| 3 <= target.looks(key)));
        let key = target.accepted().remove(0);
        let before = followed(&url, &key).await;
        assert!(before.resume.contains(&format!("/work/{key}")) && !before.resume.contains("c4nary"), "{before:?}");
        Self { target, daemon, url, key, before }
    }

    /// Lets the work end, and looks at what became of the run.
    async fn end(&mut self) -> Followed {
        let looks = self.target.looks(&self.key);
        self.daemon.wait_for("another look", |_| looks < self.target.looks(&self.key));
        self.target.end_work();
        let begun = Instant::now();
        loop {
            let row = followed(&self.url, &self.key).await;
            if row.state == "finished" {
                return row;
            }
            assert!(begun.elapsed() < support::daemon::PATIENCE, "{row:?}\n{}", self.daemon.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posted once, finished once, as one run that started when it was accepted.
    fn assert_followed(&self, row: &Followed) {
        assert!(row.has_ended_well(), "{row:?}\n{}", self.daemon.output());
        let posted = self.target.accepted().iter().filter(|key| **key == self.key).count();
        assert_eq!(posted, 1, "posted once");
        assert_eq!((&row.started_at, row.lag_ms), (&self.before.started_at, self.before.lag_ms), "{row:?}");
        let finished = format!("\"run_id\":\"{}\"", self.key);
        let lines = || -> Vec<String> {
            self.daemon.output().lines().filter(|line| line.contains(&finished)).map(Into::into).collect()
        };
        // The row is there before the line about it.
        let begun = Instant::now();
        while !lines().iter().any(|line| line.contains("job finished")) && begun.elapsed() < support::daemon::PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let lines = lines();
        let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
        assert_eq!((count("job started"), count("job finished")), (1, 1), "{lines:#?}");
        assert!(!self.daemon.output().contains("c4nary"));
    }

    fn assert_balanced(&self) {
        let account = self.daemon.setup.run(&["ledger"]);
        assert_eq!(account.status.code(), Some(0), "{}", String::from_utf8_lossy(&account.stdout));
    }
}

#[tokio::test]
async fn work_is_followed_through_a_kill_between_two_looks_on_both_databases() {
    let database = Database::new().await;
    for database in [None, Some(&database)] {
        let mut scene = Scene::new("", database).await;

        scene.daemon = scene.daemon.start_again();
        let row = scene.end().await;

        scene.assert_followed(&row);
        scene.daemon.terminate();
        scene.assert_balanced();
    }
}

#[tokio::test]
async fn work_is_followed_through_a_kill_in_the_middle_of_a_look() {
    for delivery in ["at_least_once", "at_most_once"] {
        let mut scene = Scene::new(&format!("delivery = \"{delivery}\""), None).await;
        scene.target.let_looks_hang(true);
        let looks = scene.target.looks(&scene.key);
        scene.daemon.wait_for("a look that hangs", |_| looks < scene.target.looks(&scene.key));
        let hanging = followed(&scene.url, &scene.key).await;
        assert_eq!(hanging.state, "running", "{hanging:?}");

        scene.daemon.kill();
        scene.target.let_looks_hang(false);
        scene.daemon = scene.daemon.start_again();
        let row = scene.end().await;

        scene.assert_followed(&row);
        assert_eq!(
            (row.crashes, row.attempt),
            (1, 2),
            "{delivery}: the look that was killed is the one attempt more: {row:?}"
        );
        scene.daemon.terminate();
        scene.assert_balanced();
    }
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_look_costs_nothing_and_takes_no_time() {
    for delivery in ["at_least_once", "at_most_once"] {
        let mut scene = Scene::new(&format!("delivery = \"{delivery}\""), None).await;
        scene.target.let_looks_hang(true);
        let looks = scene.target.looks(&scene.key);
        scene.daemon.wait_for("a look that hangs", |_| looks < scene.target.looks(&scene.key));
        let begun = Instant::now();

        scene.daemon.signal(Signal::TERM);
        let status = scene.daemon.wait();

        assert!(status.success(), "{status}\n{}", scene.daemon.output());
        assert!(begun.elapsed() < Duration::from_secs(6), "sooner than the grace of 8 s: {:?}", begun.elapsed());
        let waiting = followed(&scene.url, &scene.key).await;
        assert!(["waiting", "due"].contains(&waiting.state.as_str()), "{waiting:?}");
        scene.target.let_looks_hang(false);
        scene.daemon = scene.daemon.start_again();
        let row = scene.end().await;
        scene.assert_followed(&row);
        assert_eq!((row.crashes, row.attempt, row.errors.as_str()), (0, 1, "[]"), "{delivery}: {row:?}");
    }
}

#[tokio::test]
async fn a_gate_that_closes_after_the_acceptance_does_not_call_the_work_back() {
    let gate = "when = { sql = \"select not exists (select 1 from workers_runs where resume is not null)\" }";
    let mut scene = Scene::new(gate, None).await;

    let row = scene.end().await;

    scene.assert_followed(&row);
}

#[tokio::test]
async fn looks_are_seen_neither_in_the_log_nor_in_health_nor_as_attempts() {
    let mut scene = Scene::new("", None).await;
    scene.daemon.wait_for("many looks", |_| 20 <= scene.target.looks(&scene.key));

    let health = scene.daemon.get("/health/workers").json()["jobs"]["export"].clone();
    let output = scene.daemon.output();
    let row = scene.end().await;

    // A run that is not born running is also claimed, once.
    let about_it = output.lines().filter(|line| line.contains(&scene.key) && !line.contains("claimed job id=")).count();
    assert_eq!(about_it, 1, "one line: that it started\n{output}");
    assert_eq!((&health["failures_24h"], &health["consecutive_failures"]), (&0.into(), &0.into()), "{health}");
    scene.assert_followed(&row);
    assert_eq!((row.attempt, row.crashes, row.errors.as_str()), (1, 0, "[]"), "{row:?}");
}

//! What the contract tests stand on: an empty store, a job table from text, a clock that is a number of seconds.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        job::{Job, JobName},
        run::{Fence, Lease, Outcome, Reason, ReplicaId, Run, State, Trigger},
        settle::{Next, Settlement},
    },
    job_table::{Environment, JobTable, parse},
    store::{
        ActivateRequest, Activation, ClaimRequest, NewRun, PlanRequest, Planned, Replica, RunFilter, Settled, Store,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::database::Ledger;

/// Defines tests that run on both databases.
#[macro_export]
macro_rules! both {
    ($($(#[$about:meta])* async fn $name:ident($house:ident: House) $body:block)+) => {
        $(mod $name {
            use super::*;

            $(#[$about])*
            async fn on($house: House) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                on(House::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                on(House::postgres().await).await;
            }
        })+
    };
}

pub struct House {
    pub ledger: Ledger,
    pub store: Store,
    pub table: JobTable,
    pub replica: ReplicaId,
}

/// Seconds after 2026-03-02 08:00 UTC.
pub fn at(seconds: i64) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-03-02T08:00:00Z".parse().unwrap();
    start + TimeDelta::seconds(seconds)
}

pub fn name(job: &str) -> JobName {
    JobName::parse(job).unwrap()
}

pub fn read_table(text: &str) -> JobTable {
    parse(text, "jobs.toml", &Environment::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub fn fence() -> Fence {
    Fence(Uuid::now_v7())
}

pub fn finish(outcome: Outcome) -> Settlement {
    Settlement {
        next: Next::Finish { outcome, reason: None },
        attempt_spent: true,
        items: Some(3),
        items_failed: Some(0),
        left: Some(7),
        response_code: Some(200),
        result: Some(json!({ "done": true })),
        error: None,
        resume: None,
        pause_job: false,
        delete: false,
    }
}

pub fn again(seconds: i64) -> Settlement {
    Settlement {
        next: Next::Again { at: at(seconds), reason: None },
        error: Some("it failed".into()),
        ..finish(Outcome::Success)
    }
}

pub fn new_run(job: &str, seconds: i64) -> NewRun {
    NewRun {
        job: name(job),
        trigger: Trigger::Enqueue,
        payload: json!({ "n": 1 }),
        due_at: at(seconds),
        priority: None,
        key: None,
        dedupe_key: None,
        max_attempts: None,
        retry_of: None,
    }
}

/// A minute job and a queue.
pub const MINUTE: &str = "[jobs.tick]\nevery = \"1min\"\nrun.noop = {}\n\n[jobs.mail]\nrun.noop = {}\n";

impl House {
    pub async fn sqlite() -> Self {
        Self::on(Ledger::sqlite().await)
    }

    pub async fn postgres() -> Self {
        Self::on(Ledger::postgres().await)
    }

    fn on(ledger: Ledger) -> Self {
        let store = ledger.store.clone();
        Self { ledger, store, table: read_table(MINUTE), replica: ReplicaId(Uuid::now_v7()) }
    }

    /// Makes this table the active one.
    pub async fn deploy(&mut self, table: &str, seconds: i64) -> Activation {
        self.table = read_table(table);
        self.activate(seconds, true).await
    }

    pub async fn activate(&self, seconds: i64, force: bool) -> Activation {
        self.store.activate(&self.activation(seconds, force)).await.expect("activation works")
    }

    pub fn activation(&self, seconds: i64, force: bool) -> ActivateRequest {
        ActivateRequest {
            table_hash: self.table.hash.clone(),
            revision: self.table.revision,
            jobs: self.jobs(),
            replica: self.replica,
            now: at(seconds),
            force,
        }
    }

    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect()
    }

    pub fn scheduled(&self) -> Vec<Arc<Job>> {
        self.jobs().into_iter().filter(|job| job.schedule.is_some()).collect()
    }

    pub fn plan_request(&self, seconds: i64, free_slots: u32) -> PlanRequest {
        PlanRequest { jobs: self.scheduled(), replica: self.replica, fence: fence(), now: at(seconds), free_slots }
    }

    /// Plans without slots: whatever runs is born due.
    pub async fn plan(&self, seconds: i64) -> Planned {
        self.store.plan(&self.plan_request(seconds, 0)).await.expect("planning works")
    }

    pub fn claim_request(&self, seconds: i64, limit: u32) -> ClaimRequest {
        ClaimRequest {
            replica: self.replica,
            fence: fence(),
            now: at(seconds),
            jobs: Arc::new(self.jobs()),
            limit,
            suspects: false,
        }
    }

    pub async fn claim(&self, seconds: i64, limit: u32) -> Vec<(Lease, Run)> {
        self.store.claim(&self.claim_request(seconds, limit)).await.expect("claiming works")
    }

    /// Claims exactly one run.
    pub async fn claim_one(&self, seconds: i64) -> (Lease, Run) {
        let mut claimed = self.claim(seconds, 1).await;
        assert_eq!(claimed.len(), 1, "one run is due");
        claimed.remove(0)
    }

    pub async fn settle(&self, lease: Lease, settlement: Settlement, seconds: i64) -> Settled {
        let mut settled = self.store.settle(&[(lease, settlement)], at(seconds)).await.expect("settling works");
        settled.remove(0)
    }

    pub async fn register(&self, replica: ReplicaId, seconds: i64) {
        let replica = Replica {
            id: replica,
            host: "here".into(),
            version: "0.0.0".into(),
            table_hash: self.table.hash.clone(),
            state: "live".into(),
            started_at: at(seconds),
            lease_until: at(seconds + 30),
        };
        self.store.register(&replica).await.expect("registering works");
    }

    /// All runs of a job, by instant.
    pub async fn runs(&self, job: &str) -> Vec<Run> {
        let filter = RunFilter { job: Some(name(job)), limit: 10_000, ..RunFilter::default() };
        let mut runs = self.store.runs(&filter).await.expect("the runs are readable");
        runs.sort_by_key(|run| (run.scheduled_for.unwrap_or(run.due_at), run.id));
        runs
    }

    /// Rows of a job as text: first and last instant in seconds, count, trigger, state or outcome, reason, attempt.
    pub async fn rows(&self, job: &str) -> Vec<String> {
        let seconds =
            |instant: Option<DateTime<Utc>>| instant.map_or(Value::Null, |at_| json!((at_ - at(0)).num_seconds()));
        let line = |run: Run| {
            let state = run.outcome.map_or(run.state.word(), Outcome::word);
            let reason = run.reason.map_or("-", Reason::word);
            let (from, until) = (seconds(run.covers_from), seconds(run.scheduled_for));
            format!("{from}..{until} x{} {} {state} {reason} #{}", run.covers, run.trigger, run.attempt)
        };
        self.runs(job).await.into_iter().map(line).collect()
    }

    pub async fn state(&self, run: &Run) -> State {
        self.store.run(run.id).await.unwrap().expect("the run is there").state
    }
}

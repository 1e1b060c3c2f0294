//! What `assess` answers, in the words and the key order of `GET /health/workers`.

use std::{fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::domain::{
    job::JobName,
    run::{Outcome, ReplicaId, words},
};

/// The job whose status word the documented answer shows in second place.
const DOCUMENTED_JOB: &str = "fila_worker";

words! {
    /// The verdict on the whole.
    Status {
        Healthy = "healthy",
        Degraded = "degraded",
        Critical = "critical",
    }
}

words! {
    /// How the planner stands.
    PlannerState {
        Running = "running",
        /// It has not turned yet.
        Starting = "starting",
        Draining = "draining",
        /// It has not turned for `PLANNER_PATIENCE`.
        Stalled = "stalled",
        ClockHold = "clock_hold",
    }
}

words! {
    /// The verdict on one job.
    JobStatus {
        Healthy = "healthy",
        Degraded = "degraded",
        Stale = "stale",
        /// Past its first expected success, and no attempt was ever started.
        NeverRan = "never_ran",
        /// Its cursor is ahead of the clock.
        Ahead = "ahead",
        /// It has nothing to do here, and says so.
        Idle = "idle",
        /// Its work is not written yet.
        Placeholder = "placeholder",
        Paused = "paused",
        Disabled = "disabled",
    }
}

words! {
    /// Why a job has its status; a closed list.
    Why {
        /// The newest run failed, or too many did.
        Failing = "failing",
        /// The last success took longer than `slow_after`.
        Slow = "slow",
        /// It succeeds without an item, and is expected to have some.
        Suspicious = "suspicious",
        /// An attempt goes on after its time-out.
        Stuck = "stuck",
        /// No success when one was due.
        NoSuccess = "no_success",
        NeverStarted = "never_started",
        CursorAhead = "cursor_ahead",
        NotConfigured = "not_configured",
        GateClosed = "gate_closed",
        /// The handler was asked and had nothing to do.
        NothingToDo = "nothing_to_do",
        Noop = "noop",
        Paused = "paused",
        Disabled = "disabled",
        /// Another job table is the active one, and its schedule of the job differs.
        OtherTable = "other_table",
        /// The database has not answered yet.
        NotSeenYet = "not_seen_yet",
    }
}

words! {
    Severity {
        Warning = "warning",
        Critical = "critical",
    }
}

words! {
    /// Every rule that can turn health from `healthy`; what each means stands in [`super::RULES`].
    AlertName {
        SchedulerStalled = "SchedulerStalled",
        SchedulerLag = "SchedulerLag",
        ClockHold = "ClockHold",
        DatabaseAway = "DatabaseAway",
        DatabaseLost = "DatabaseLost",
        FiguresOld = "FiguresOld",
        DatabaseEphemeral = "DatabaseEphemeral",
        OccurrencesUnexplained = "OccurrencesUnexplained",
        ReloadFailed = "ReloadFailed",
        JobAhead = "JobAhead",
        JobStuck = "JobStuck",
        JobNeverRan = "JobNeverRan",
        JobStale = "JobStale",
        JobFailingRepeatedly = "JobFailingRepeatedly",
        JobFailures = "JobFailures",
        JobErrorRate = "JobErrorRate",
        JobFailing = "JobFailing",
        JobSlow = "JobSlow",
        JobSuspicious = "JobSuspicious",
        QueueBacklog = "QueueBacklog",
        QueueUnseen = "QueueUnseen",
        FilaBacklog = "FilaBacklog",
        FilaStuck = "FilaStuck",
        FilaStuckMany = "FilaStuckMany",
        FilaErrors = "FilaErrors",
        FilaLate = "FilaLate",
    }
}

words! {
    /// Why `/readyz` says no.
    NotReady {
        DatabaseAway = "database_away",
        NotMigrated = "not_migrated",
        Draining = "draining",
    }
}

/// The answer of `GET /health/workers`. Its first four keys are `scheduler`, `fila_worker`, `last_job_at` and
/// `queue_size` (the second only when the table has such a job); every job has a flat key with its status word.
#[derive(Debug, Clone)]
pub struct Health {
    pub scheduler: PlannerState,
    /// Start of the newest attempt of any job; shown in whole seconds.
    pub last_job_at: Option<DateTime<Utc>>,
    pub queue_size: i64,
    pub status: Status,
    pub lag_seconds: f64,
    pub replicas: u32,
    pub version: String,
    pub timestamp: DateTime<Utc>,
    pub replica: ReplicaId,
    pub database: DatabaseHealth,
    /// In the order of the job table.
    pub jobs: Vec<JobVerdict>,
    pub queues: Vec<(JobName, QueueHealth)>,
    pub alerts: Vec<Alert>,
}

#[derive(Debug, Clone, Serialize)]
pub struct DatabaseHealth {
    /// `up` or `away`.
    pub status: &'static str,
    #[serde(serialize_with = "instant")]
    pub since: DateTime<Utc>,
    /// When it last answered what this verdict rests on.
    #[serde(serialize_with = "maybe_instant")]
    pub sampled_at: Option<DateTime<Utc>>,
}

/// One job's name and verdict.
#[derive(Debug, Clone)]
pub struct JobVerdict {
    pub name: JobName,
    pub health: JobHealth,
}

#[derive(Debug, Clone, Serialize)]
pub struct JobHealth {
    pub status: JobStatus,
    /// `critical` or `normal`.
    pub criticality: &'static str,
    pub last_outcome: Option<Outcome>,
    #[serde(serialize_with = "maybe_instant")]
    pub last_run: Option<DateTime<Utc>>,
    #[serde(serialize_with = "maybe_instant")]
    pub next_run: Option<DateTime<Utc>>,
    pub runs_24h: i64,
    pub failures_24h: i64,
    pub consecutive_failures: i64,
    pub p95_duration_ms: Option<i64>,
    pub max_lag_ms_24h: Option<i64>,
    /// The instant at which it is stale unless it succeeds before.
    #[serde(serialize_with = "maybe_instant")]
    pub stale_after: Option<DateTime<Utc>>,
    pub reason: Option<Why>,
    /// How long it may be without a success, counted from the last one or from what excuses it since.
    #[serde(skip)]
    pub allowed: Option<TimeDelta>,
    /// `JobStale` or `JobNeverRan`, when it holds.
    #[serde(skip)]
    pub silence: Option<AlertName>,
    /// Attempts that go on after their time-out.
    #[serde(skip)]
    pub stuck: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct QueueHealth {
    /// Runs that wait or are due; of a drained table, what waits there and is due.
    pub size: i64,
    pub oldest_age_seconds: i64,
    /// What is being worked on: rows, or runs where the table cannot tell.
    pub running: Option<i64>,
    /// Runs that failed in the last 24 h; of a drained table, what was given up and waits for a person. `None` = it cannot tell.
    pub failed: Option<i64>,
    /// Age of these numbers.
    pub sampled_age_seconds: Option<i64>,
}

/// A rule that holds now.
#[derive(Debug, Clone, Serialize)]
pub struct Alert {
    pub name: AlertName,
    pub severity: Severity,
    pub job: Option<JobName>,
    #[serde(serialize_with = "maybe_instant")]
    pub since: Option<DateTime<Utc>>,
    /// One sentence, made of names and numbers only.
    pub message: String,
    /// Words from outside: the newest error, what is wrong with a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Health {
    pub fn job(&self, name: &str) -> Option<&JobHealth> {
        self.jobs.iter().find(|job| job.name.as_str() == name).map(|job| &job.health)
    }

    /// Takes the words from outside away, for those who have no token.
    pub fn without_free_text(mut self) -> Self {
        self.alerts.iter_mut().for_each(|alert| alert.detail = None);
        self
    }
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("scheduler", &self.scheduler)?;
        if let Some(job) = self.job(DOCUMENTED_JOB) {
            map.serialize_entry(DOCUMENTED_JOB, &job.status)?;
        }
        map.serialize_entry("last_job_at", &self.last_job_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)))?;
        map.serialize_entry("queue_size", &self.queue_size)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("lag_seconds", &self.lag_seconds)?;
        map.serialize_entry("replicas", &self.replicas)?;
        map.serialize_entry("version", &self.version)?;
        map.serialize_entry("timestamp", &rfc3339(self.timestamp))?;
        map.serialize_entry("replica", &self.replica)?;
        map.serialize_entry("database", &self.database)?;
        map.serialize_entry("jobs", &Pairs(&self.jobs, |job| (&job.name, &job.health)))?;
        map.serialize_entry("queues", &Pairs(&self.queues, |(name, queue)| (name, queue)))?;
        map.serialize_entry("alerts", &self.alerts)?;
        for job in self.jobs.iter().filter(|job| job.name.as_str() != DOCUMENTED_JOB) {
            map.serialize_entry(&job.name, &job.health.status)?;
        }
        map.end()
    }
}

/// A list shown as a map in its own order.
pub(super) struct Pairs<'a, T, V>(pub &'a [T], pub fn(&T) -> (&JobName, &V));

impl<T, V: Serialize> Serialize for Pairs<'_, T, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(self.1))
    }
}

pub(super) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(super) fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

pub(super) fn maybe_instant<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

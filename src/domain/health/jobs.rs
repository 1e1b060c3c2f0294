//! What `GET /health/jobs` says: the jobs as executions of the last 24 h, judged by the same rules.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use super::{
    snapshot::{Day, JobStats, Snapshot},
    verdict::{AlertName, DatabaseHealth, Health, JobHealth, Pairs, Status, instant, maybe_instant},
};
use crate::domain::{
    job::{Job, JobName},
    run::Outcome,
};

/// The answer of `GET /health/jobs`.
#[derive(Debug, Clone, Serialize)]
pub struct JobsHealth {
    /// That of `/health/workers`.
    pub status: Status,
    /// Every job of the table, in its order.
    #[serde(serialize_with = "by_name")]
    pub jobs: Vec<(JobName, Executions)>,
    pub alerts: JobLists,
    pub sla_config: Promises,
    pub period: &'static str,
    /// Runs of all jobs in the period.
    pub total_executions: i64,
    #[serde(serialize_with = "instant")]
    pub timestamp: DateTime<Utc>,
    pub database: DatabaseHealth,
    /// Age of the counts; `None` = never counted.
    pub sampled_age_seconds: Option<i64>,
}

/// One job's executions.
#[derive(Debug, Clone, Serialize)]
pub struct Executions {
    #[serde(serialize_with = "maybe_instant")]
    pub last_run: Option<DateTime<Utc>>,
    /// In the words of `job_executions`: running, success, partial, skipped, timeout, error.
    pub last_status: Option<&'static str>,
    pub runs_24h: i64,
    pub success_24h: i64,
    /// Failures that are no time-outs.
    pub errors_24h: i64,
    pub timeouts_24h: i64,
    pub avg_duration_ms: Option<i64>,
    pub total_items_processed: i64,
    /// Free text: for holders of a token.
    pub last_error: Option<String>,
    /// How long the job may be without a success, counted from the last one or from what excuses it since.
    pub sla_seconds: Option<i64>,
    /// `JobStale` or `JobNeverRan` holds.
    pub is_stale: bool,
    pub seconds_since_last_run: Option<i64>,
}

/// Names of jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobLists {
    pub jobs_with_errors: Vec<JobName>,
    pub jobs_with_timeouts: Vec<JobName>,
    /// Stale, or never ran.
    pub stale_jobs: Vec<JobName>,
    pub critical_stale: Vec<JobName>,
    /// Critical jobs that have never run although they were due.
    pub missing_critical: Vec<JobName>,
}

/// What is expected of the jobs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Promises {
    pub critical_jobs: Vec<JobName>,
    /// Seconds, by job.
    #[serde(serialize_with = "seconds_by_name")]
    pub sla_definitions: Vec<(JobName, i64)>,
}

impl JobsHealth {
    /// The same verdict in the other shape; `health` is what `assess` made of these jobs and this snapshot.
    pub fn new(jobs: &[Arc<Job>], snapshot: &Snapshot, health: &Health) -> Self {
        let mut answer = Self {
            status: health.status,
            jobs: Vec::with_capacity(jobs.len()),
            alerts: JobLists::default(),
            sla_config: Promises::default(),
            period: "24h",
            total_executions: 0,
            timestamp: health.timestamp,
            database: health.database.clone(),
            sampled_age_seconds: snapshot.counted_at.map(|at| age(at, health.timestamp)),
        };
        for (job, verdict) in jobs.iter().zip(&health.jobs) {
            answer.add(job, &verdict.health, snapshot.jobs.get(&job.name));
        }
        answer
    }

    /// Takes the words from outside away, for those who have no token.
    pub fn without_free_text(mut self) -> Self {
        self.jobs.iter_mut().for_each(|(_, job)| job.last_error = None);
        self
    }

    fn add(&mut self, job: &Job, verdict: &JobHealth, stats: Option<&JobStats>) {
        let executions = executions(verdict, stats, self.timestamp);
        let (name, lists) = (&job.name, &mut self.alerts);
        let is_critical = job.policy.critical;
        let listed = [
            (0 < executions.errors_24h, &mut lists.jobs_with_errors),
            (0 < executions.timeouts_24h, &mut lists.jobs_with_timeouts),
            (executions.is_stale, &mut lists.stale_jobs),
            (executions.is_stale && is_critical, &mut lists.critical_stale),
            (is_critical && verdict.silence == Some(AlertName::JobNeverRan), &mut lists.missing_critical),
            (is_critical, &mut self.sla_config.critical_jobs),
        ];
        for (_, list) in listed.into_iter().filter(|(belongs, _)| *belongs) {
            list.push(name.clone());
        }
        self.sla_config.sla_definitions.extend(executions.sla_seconds.map(|seconds| (name.clone(), seconds)));
        self.total_executions += executions.runs_24h;
        self.jobs.push((name.clone(), executions));
    }
}

fn executions(verdict: &JobHealth, stats: Option<&JobStats>, now: DateTime<Utc>) -> Executions {
    let never = Day::default();
    let day = stats.map_or(&never, |stats| &stats.day);
    let last_run = stats.and_then(|stats| stats.last_run);
    Executions {
        last_run,
        last_status: stats.and_then(last_status),
        runs_24h: day.runs,
        success_24h: day.successes,
        errors_24h: day.errors,
        timeouts_24h: day.timeouts,
        avg_duration_ms: day.avg_duration_ms,
        total_items_processed: day.items,
        last_error: stats.and_then(|stats| stats.last_error.clone()),
        sla_seconds: verdict.allowed.map(|allowed| allowed.num_seconds()),
        is_stale: verdict.silence.is_some(),
        seconds_since_last_run: last_run.map(|at| age(at, now)),
    }
}

/// How the newest run stands, in the words of the view `job_executions`.
fn last_status(stats: &JobStats) -> Option<&'static str> {
    if 0 < stats.running {
        return Some("running");
    }
    Some(match stats.last_outcome? {
        known @ (Outcome::Success | Outcome::Partial | Outcome::Skipped | Outcome::Timeout) => known.word(),
        Outcome::Error | Outcome::Panic | Outcome::Lost | Outcome::Unknown | Outcome::Cancelled => "error",
    })
}

fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (now - at).num_seconds().max(0)
}

fn by_name<S: Serializer>(jobs: &[(JobName, Executions)], serializer: S) -> Result<S::Ok, S::Error> {
    Pairs(jobs, |(name, executions)| (name, executions)).serialize(serializer)
}

fn seconds_by_name<S: Serializer>(seconds: &[(JobName, i64)], serializer: S) -> Result<S::Ok, S::Error> {
    Pairs(seconds, |(name, seconds)| (name, seconds)).serialize(serializer)
}

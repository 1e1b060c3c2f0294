//! The table itself. The rules of a job stand in the order in which they decide over its status.

use std::time::Duration;

use chrono::TimeDelta;

use super::{Decide, Limit, Rule, Weight, daemon, job, queue};
use crate::domain::health::verdict::{AlertName, JobStatus, Why};

/// A planner that has not turned for this long is stalled: critical, and `/livez` says so (spec 7, Health).
pub const PLANNER_PATIENCE: TimeDelta = TimeDelta::seconds(60);
/// A database away for this long is critical (spec 7, Health).
pub const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
/// Figures are sampled every 30 s; four samples in a row that fail are no accident.
pub const FIGURES_PATIENCE: TimeDelta = TimeDelta::seconds(120);
/// The documented threshold of `scheduler_lag`.
pub const LAG_LIMIT: TimeDelta = TimeDelta::seconds(30);
/// The documented threshold of `queue_size`.
pub const QUEUE_LIMIT: i64 = 100;
/// Messages that wait and are due, beyond which it is critical (spec 7, Health).
pub const FILA_BACKLOG_LIMIT: i64 = 500;
/// One message that is stuck is worth a look (spec 7, Health).
pub const FIRST_STUCK: i64 = 1;
/// So many stuck messages are no accident (spec 7, Health).
pub const FILA_STUCK_MANY: i64 = 10;
/// Messages given up within an hour (spec 7, Health).
pub const FILA_ERRORS_LIMIT: i64 = 10;
/// The oldest due message may wait so long (spec 7, Health).
pub const FILA_OLDEST_LIMIT: TimeDelta = TimeDelta::minutes(60);
/// A cursor may be this far ahead of the clock before its job is `ahead` (spec 4, Plan).
pub const AHEAD_LIMIT: TimeDelta = TimeDelta::seconds(60);
/// Failures in a row that make a critical job critical (spec 7, Health).
pub const CRITICAL_FAILURES: i64 = 3;
/// One failure is worth a look.
pub(super) const FIRST_FAILURE: i64 = 1;
/// The documented threshold of `job_failures`, over five minutes.
pub const RECENT_FAILURES: i64 = 3;
/// The documented share of failures, over one hour.
pub const ERROR_RATE: f64 = 0.1;
/// A share of fewer runs than this says nothing.
pub const FEWEST_JUDGED: i64 = 10;
/// Successes in a row without an item, where items are expected (spec 3, `expect_items`).
pub const EMPTY_SUCCESSES: i64 = 3;
/// Beyond its time-out an attempt has 5 s to end after its abort; the rest is for figures that are 30 s old.
pub(super) const STUCK_SLACK: TimeDelta = TimeDelta::seconds(60);

const AT_ONCE: Duration = Duration::ZERO;

const fn seconds(name: &'static str, length: TimeDelta) -> Limit {
    Limit::Constant { name, value: length.num_seconds() as f64, unit: " s" }
}

const fn number(name: &'static str, value: i64) -> Limit {
    Limit::Constant { name, value: value as f64, unit: "" }
}

/// The outcomes that are failures, as a matcher.
macro_rules! failed {
    () => {
        r#"{outcome=~"error|timeout|panic|lost|unknown"}"#
    };
}

/// The outcomes that say how a job's work goes.
macro_rules! judged {
    () => {
        r#"{outcome=~"success|partial|error|timeout|panic|lost|unknown"}"#
    };
}

/// The queue of a job that drains the message queue, as a vector with the label `queue`.
macro_rules! fila {
    () => {
        r#"label_replace(workers_job_info{handler="fila"}, "queue", "$1", "job_name", "(.*)")"#
    };
}

/// Every rule that turns health from `healthy`. A rule that no snapshot can decide is not here.
pub const RULES: &[Rule] = &[
    Rule {
        name: AlertName::SchedulerStalled,
        weight: Weight::Critical,
        limit: seconds("PLANNER_PATIENCE", PLANNER_PATIENCE),
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::stalled),
        meaning: "the planner does not turn: nothing fires",
        expression: "time() - (workers_scheduler_last_tick_timestamp_seconds > 0) > {limit} or \
                     (time() - process_start_time_seconds > {limit} and workers_db_up == 1 \
                     and workers_scheduler_last_tick_timestamp_seconds == 0)",
    },
    Rule {
        name: AlertName::SchedulerLag,
        weight: Weight::Warning,
        limit: seconds("LAG_LIMIT", LAG_LIMIT),
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::lagging),
        meaning: "a due instant waits for its entry in the ledger",
        expression: "scheduler_lag > {limit}",
    },
    Rule {
        name: AlertName::ClockHold,
        weight: Weight::Warning,
        limit: Limit::State,
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::clock_held),
        meaning: "the clock jumped and planning waits until it can be believed",
        expression: "workers_clock_hold == 1",
    },
    Rule {
        name: AlertName::DatabaseAway,
        weight: Weight::Warning,
        limit: Limit::State,
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::away),
        meaning: "the database does not answer",
        expression: "workers_db_up == 0",
    },
    Rule {
        name: AlertName::DatabaseLost,
        weight: Weight::Critical,
        limit: Limit::State,
        held_for: DATABASE_PATIENCE,
        decide: Decide::Daemon(daemon::away),
        meaning: "the database has not answered for a minute: nothing fires and nothing is recorded",
        expression: "workers_db_up == 0",
    },
    Rule {
        name: AlertName::FiguresOld,
        weight: Weight::Warning,
        limit: seconds("FIGURES_PATIENCE", FIGURES_PATIENCE),
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::blind),
        meaning: "health rests on old figures although the database answers",
        expression: "time() - workers_figures_timestamp_seconds > {limit} and workers_db_up == 1",
    },
    Rule {
        name: AlertName::DatabaseEphemeral,
        weight: Weight::Warning,
        limit: Limit::State,
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::ephemeral),
        meaning: "the ledger goes with its container",
        expression: "workers_db_ephemeral == 1",
    },
    Rule {
        name: AlertName::OccurrencesUnexplained,
        weight: Weight::Warning,
        limit: Limit::State,
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::unexplained),
        meaning: "the ledger does not balance",
        expression: "workers_occurrences_unexplained != 0",
    },
    Rule {
        name: AlertName::ReloadFailed,
        weight: Weight::Warning,
        limit: Limit::State,
        held_for: AT_ONCE,
        decide: Decide::Daemon(daemon::reload_failed),
        meaning: "an edit of the job table was refused and is not in force",
        expression: "workers_config_last_reload_successful == 0",
    },
    Rule {
        name: AlertName::JobAhead,
        weight: Weight::Warning,
        limit: seconds("AHEAD_LIMIT", AHEAD_LIMIT),
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Ahead, Why::CursorAhead, job::ahead),
        meaning: "the job was planned into the future while a clock was wrong, and fires nothing until then",
        expression: "workers_job_planned_until_timestamp_seconds > time() + {limit} and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobStuck,
        weight: Weight::Warning,
        limit: Limit::Policy { key: "timeout" },
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Stuck, job::stuck),
        meaning: "an attempt of the job goes on after its time-out and keeps its slot",
        expression: "workers_job_stuck > 0 and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobNeverRan,
        weight: Weight::OfItsJob,
        limit: Limit::Policy { key: "stale_after" },
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::NeverRan, Why::NeverStarted, job::never_ran),
        meaning: "the job has not started once since it was first seen, although it was due",
        expression: "(workers_job_stale_at_timestamp_seconds > 0) < time() \
                     and workers_job_last_start_timestamp_seconds == 0 and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobStale,
        weight: Weight::OfItsJob,
        limit: Limit::Policy { key: "stale_after" },
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Stale, Why::NoSuccess, job::stale),
        meaning: "the job had no success when one was due",
        expression: "(workers_job_stale_at_timestamp_seconds > 0) < time() \
                     and workers_job_last_start_timestamp_seconds > 0 and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobFailingRepeatedly,
        weight: Weight::OfItsJob,
        limit: number("CRITICAL_FAILURES", CRITICAL_FAILURES),
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Failing, job::failing_in_a_row),
        meaning: "the job fails again and again",
        expression: "workers_job_consecutive_failures >= {limit} and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobFailures,
        weight: Weight::Warning,
        limit: number("RECENT_FAILURES", RECENT_FAILURES),
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Failing, job::failing_often),
        meaning: "many attempts of the job failed within five minutes",
        expression: "job_failures > {limit} and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobErrorRate,
        weight: Weight::Warning,
        limit: Limit::Constant { name: "ERROR_RATE", value: ERROR_RATE, unit: " of the runs of an hour" },
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Failing, job::failing_share),
        meaning: "too large a share of the job's runs fails",
        expression: concat!(
            "sum by (job_name) (increase(workers_job_runs_total",
            failed!(),
            "[1h])) ",
            "/ sum by (job_name) (increase(workers_job_runs_total",
            judged!(),
            "[1h])) > {limit} ",
            "and sum by (job_name) (increase(workers_job_runs_total",
            judged!(),
            "[1h])) >= 10 ",
            "and on (job_name) workers_job_enabled == 1"
        ),
    },
    Rule {
        name: AlertName::JobFailing,
        weight: Weight::Warning,
        limit: number("FIRST_FAILURE", FIRST_FAILURE),
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Failing, job::failing),
        meaning: "the newest run of the job failed",
        expression: "workers_job_consecutive_failures >= {limit} and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobSlow,
        weight: Weight::Warning,
        limit: Limit::Policy { key: "slow_after" },
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Slow, job::slow),
        meaning: "the last success of the job took longer than it should",
        expression: "workers_job_last_duration_seconds > workers_job_slow_after_seconds \
                     and workers_job_consecutive_failures == 0 and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::JobSuspicious,
        weight: Weight::Warning,
        limit: number("EMPTY_SUCCESSES", EMPTY_SUCCESSES),
        held_for: AT_ONCE,
        decide: Decide::Job(JobStatus::Degraded, Why::Suspicious, job::suspicious),
        meaning: "the job succeeds and does nothing, where it is expected to do something",
        expression: "workers_job_empty_successes >= {limit} and workers_job_enabled == 1",
    },
    Rule {
        name: AlertName::QueueBacklog,
        weight: Weight::Warning,
        limit: number("QUEUE_LIMIT", QUEUE_LIMIT),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::backlog),
        meaning: "more waits than is worked off",
        expression: "queue_size > {limit}",
    },
    Rule {
        name: AlertName::QueueUnseen,
        weight: Weight::Warning,
        limit: seconds("FIGURES_PATIENCE", FIGURES_PATIENCE),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::unseen),
        meaning: "nobody could look at the queue, and its numbers are old",
        expression: "time() - workers_queue_figures_timestamp_seconds > {limit} and on (instance) workers_db_up == 1",
    },
    Rule {
        name: AlertName::FilaBacklog,
        weight: Weight::Critical,
        limit: number("FILA_BACKLOG_LIMIT", FILA_BACKLOG_LIMIT),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::large_backlog),
        meaning: "far more messages wait than are sent",
        expression: concat!("queue_size > {limit} and on (instance, queue) ", fila!()),
    },
    Rule {
        name: AlertName::FilaStuck,
        weight: Weight::Warning,
        limit: number("FIRST_STUCK", FIRST_STUCK),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::some_stuck),
        meaning: "a message is stuck: whoever began to send it is gone",
        expression: concat!("workers_queue_size{state=\"stuck\"} >= {limit} and on (instance, queue) ", fila!()),
    },
    Rule {
        name: AlertName::FilaStuckMany,
        weight: Weight::Critical,
        limit: number("FILA_STUCK_MANY", FILA_STUCK_MANY),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::many_stuck),
        meaning: "many messages are stuck: whoever began to send them is gone",
        expression: concat!("workers_queue_size{state=\"stuck\"} >= {limit} and on (instance, queue) ", fila!()),
    },
    Rule {
        name: AlertName::FilaErrors,
        weight: Weight::Warning,
        limit: number("FILA_ERRORS_LIMIT", FILA_ERRORS_LIMIT),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::errors),
        meaning: "many messages were given up within an hour",
        expression: concat!("workers_queue_errors_last_hour > {limit} and on (instance, queue) ", fila!()),
    },
    Rule {
        name: AlertName::FilaLate,
        weight: Weight::Warning,
        limit: seconds("FILA_OLDEST_LIMIT", FILA_OLDEST_LIMIT),
        held_for: AT_ONCE,
        decide: Decide::Queue(queue::late),
        meaning: "a message has been due for more than an hour and is not sent",
        expression: concat!("workers_queue_oldest_age_seconds > {limit} and on (instance, queue) ", fila!()),
    },
];

//! The names, labels and help texts of every metric, each in one place.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

use crate::domain::{
    job::Job,
    run::{Outcome, Reason, Trigger},
};

/// Buckets of `job_duration_seconds`, as documented.
const DURATION_BUCKETS: [f64; 14] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Buckets of `workers_lag_seconds`, as documented, and of `workers_queue_wait_seconds`.
const LAG_BUCKETS: [f64; 13] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0];
/// The reasons for which an instant of a scheduled job enters the ledger without a run.
const SKIPS: [Reason; 9] = [
    Reason::Overlap,
    Reason::Missed,
    Reason::TooLate,
    Reason::Edited,
    Reason::Paused,
    Reason::Disabled,
    Reason::Gate,
    Reason::Replaced,
    Reason::Removed,
];

/// What this process counts.
pub struct Counted {
    pub runs: IntCounterVec,
    pub triggers: IntCounterVec,
    pub skipped: IntCounterVec,
    pub retries: IntCounterVec,
    pub items: IntCounterVec,
    pub duration: HistogramVec,
    pub lag: Histogram,
    pub queue_processed: IntCounterVec,
    pub queue_wait: Histogram,
    pub lease_lost: IntCounter,
    pub dropped_lines: IntCounter,
    pub http: IntCounterVec,
}

impl Counted {
    pub fn register(registry: &Registry) -> Self {
        let at = Family { registry };
        Self {
            runs: at.counters("workers_job_runs_total", "Runs finished, by outcome", &["job_name", "outcome"]),
            triggers: at.counters(
                "workers_job_triggers_total",
                "Runs started, by what made them",
                &["job_name", "trigger"],
            ),
            skipped: at.counters(
                "workers_job_skipped_total",
                "Due instants skipped, by reason",
                &["job_name", "reason"],
            ),
            retries: at.counters(
                "workers_job_retries_total",
                "Attempts that failed and will be tried again",
                &["job_name"],
            ),
            items: at.counters("workers_job_items_total", "Items done", &["job_name"]),
            duration: at.keep(HistogramVec::new(
                HistogramOpts::new("job_duration_seconds", "Duration of attempts").buckets(DURATION_BUCKETS.to_vec()),
                &["job_name"],
            )),
            lag: at.lags("workers_lag_seconds", "Start minus due, of first attempts"),
            queue_processed: at.counters(
                "workers_queue_processed_total",
                "Runs of a queue finished, by outcome",
                &["queue", "outcome"],
            ),
            queue_wait: at.lags("workers_queue_wait_seconds", "Start minus due, of first attempts in queues"),
            dropped_lines: at
                .keep(IntCounter::new("workers_log_lines_dropped_total", "Lines that the log has dropped")),
            lease_lost: at.keep(IntCounter::new("workers_lease_lost_total", "Leases that ran out under this replica")),
            http: at.counters("workers_http_requests_total", "HTTP answers given", &["route", "code"]),
        }
    }

    /// Makes each series of the job, so that a rate is right from the first event on.
    pub fn start_at_zero(&self, job: &Job) {
        let name = job.name.as_str();
        let scheduled = job.schedule.is_some();
        for outcome in Outcome::ALL {
            self.runs.with_label_values(&[name, outcome.word()]);
            if !scheduled {
                self.queue_processed.with_label_values(&[name, outcome.word()]);
            }
        }
        for trigger in Trigger::ALL.iter().filter(|trigger| scheduled != (**trigger == Trigger::Enqueue)) {
            self.triggers.with_label_values(&[name, trigger.word()]);
        }
        for reason in SKIPS.iter().filter(|_| scheduled) {
            self.skipped.with_label_values(&[name, reason.word()]);
        }
        self.retries.with_label_values(&[name]);
        self.items.with_label_values(&[name]);
        self.duration.with_label_values(&[name]);
    }
}

/// What the latest snapshot knows, set at scrape.
pub struct Shown {
    pub build_info: IntGaugeVec,
    pub scheduler_lag: Gauge,
    pub lag: Gauge,
    pub last_tick: Gauge,
    pub unexplained: IntGauge,
    pub db_up: IntGauge,
    pub db_ephemeral: IntGauge,
    pub figures: Gauge,
    pub last_reload: IntGauge,
    pub db_clock_skew: Gauge,
    pub slots: IntGauge,
    pub slots_busy: IntGauge,
    pub replicas: IntGauge,
    pub clock_hold: IntGauge,
    pub memory_limit: IntGauge,
    pub resident: IntGauge,
    pub cpu: Gauge,
    pub open_files: IntGauge,
    pub started: Gauge,
    pub job_info: IntGaugeVec,
    pub job_failures: IntGaugeVec,
    pub job_counts: Vec<(JobCount, IntGaugeVec)>,
    pub job_seconds: Vec<(JobSeconds, GaugeVec)>,
    pub job_planned_until: GaugeVec,
    pub job_empty_successes: IntGaugeVec,
    pub queue: QueueGauges,
}

/// What waits, by queue.
pub struct QueueGauges {
    pub size: IntGaugeVec,
    pub states: IntGaugeVec,
    pub oldest_age: GaugeVec,
    pub done: IntGaugeVec,
    pub errors: IntGaugeVec,
    pub figures: GaugeVec,
}

/// A whole number about a job.
#[derive(Debug, Clone, Copy)]
pub enum JobCount {
    Running,
    Enabled,
    ConsecutiveFailures,
    Stuck,
}

/// A number of seconds about a job: a length, or an instant since 1970 (0 = never).
#[derive(Debug, Clone, Copy)]
pub enum JobSeconds {
    LastLag,
    LastDuration,
    LastStart,
    LastSuccess,
    LastFailure,
    NextRun,
    Registered,
    StaleAt,
    SlowAfter,
    Timeout,
}

const JOB_COUNTS: [(JobCount, &str, &str); 4] = [
    (JobCount::Running, "workers_job_running", "Runs of the job that are running, over all replicas"),
    (JobCount::Enabled, "workers_job_enabled", "1 = neither disabled nor paused"),
    (JobCount::ConsecutiveFailures, "workers_job_consecutive_failures", "Failed runs since the last success"),
    (JobCount::Stuck, "workers_job_stuck", "Attempts that go on after their time-out"),
];

const JOB_SECONDS: [(JobSeconds, &str, &str); 10] = [
    (JobSeconds::LastLag, "workers_job_last_lag_seconds", "Start minus due of the newest run"),
    (JobSeconds::LastDuration, "workers_job_last_duration_seconds", "Duration of the newest finished run"),
    (JobSeconds::LastStart, "workers_job_last_start_timestamp_seconds", "Start of the newest attempt"),
    (JobSeconds::LastSuccess, "workers_job_last_success_timestamp_seconds", "End of the last success"),
    (JobSeconds::LastFailure, "workers_job_last_failure_timestamp_seconds", "End of the last failure"),
    (JobSeconds::NextRun, "workers_job_next_run_timestamp_seconds", "Next due instant"),
    (JobSeconds::Registered, "workers_job_registered_timestamp_seconds", "When the job was first seen"),
    (JobSeconds::StaleAt, "workers_job_stale_at_timestamp_seconds", "Stale from here unless it succeeds before"),
    (JobSeconds::SlowAfter, "workers_job_slow_after_seconds", "A longer success is slow"),
    (JobSeconds::Timeout, "workers_job_timeout_seconds", "Bound of one attempt"),
];

impl Shown {
    pub fn register(registry: &Registry) -> Self {
        let at = Family { registry };
        let job_counts = JOB_COUNTS.map(|(what, name, help)| (what, at.whole_gauges(name, help, &["job_name"])));
        let job_seconds = JOB_SECONDS.map(|(what, name, help)| (what, at.gauges(name, help, &["job_name"])));
        Self {
            build_info: at.whole_gauges("workers_build_info", "Always 1", &["version", "revision"]),
            scheduler_lag: at.gauge("scheduler_lag", "Age in seconds of the oldest due instant that is not recorded"),
            lag: at
                .gauge("workers_scheduler_lag_seconds", "Age of the oldest due instant that is not recorded; 0 = none"),
            last_tick: at.gauge(
                "workers_scheduler_last_tick_timestamp_seconds",
                "End of the planner's last turn; while the process drains, now",
            ),
            unexplained: at.whole("workers_occurrences_unexplained", "Instants missing, doubled or extra; must be 0"),
            db_up: at.whole("workers_db_up", "1 = the database answers"),
            db_ephemeral: at.whole("workers_db_ephemeral", "1 = the ledger goes with its container"),
            figures: at.gauge("workers_figures_timestamp_seconds", "When the database last told how the jobs fare"),
            last_reload: at.whole("workers_config_last_reload_successful", "0 = the job table on disk was refused"),
            db_clock_skew: at.gauge("workers_db_clock_skew_seconds", "Database clock minus host clock"),
            slots: at.whole("workers_slots", "Places for runs in this process"),
            slots_busy: at.whole("workers_slots_busy", "Places taken"),
            replicas: at.whole("workers_replicas", "Replicas with a living lease"),
            clock_hold: at.whole("workers_clock_hold", "1 = planning is held because the clock jumped"),
            memory_limit: at.whole("workers_memory_limit_bytes", "The container's memory limit; 0 = none"),
            resident: at.whole("process_resident_memory_bytes", "Resident memory"),
            cpu: at.gauge("process_cpu_seconds_total", "Processor time used"),
            open_files: at.whole("process_open_fds", "Open file descriptors"),
            started: at.gauge("process_start_time_seconds", "Start of the process"),
            job_info: at.whole_gauges(
                "workers_job_info",
                "Always 1",
                &["job_name", "handler", "schedule", "timezone", "critical"],
            ),
            job_failures: at.whole_gauges("job_failures", "Failed attempts in the last 5 minutes", &["job_name"]),
            job_counts: job_counts.into(),
            job_seconds: job_seconds.into(),
            job_planned_until: at.gauges(
                "workers_job_planned_until_timestamp_seconds",
                "Every due instant up to here is in the ledger",
                &["job_name"],
            ),
            job_empty_successes: at.whole_gauges(
                "workers_job_empty_successes",
                "Successes in a row without an item, of jobs that expect some",
                &["job_name"],
            ),
            queue: QueueGauges::register(&at),
        }
    }
}

impl QueueGauges {
    fn register(at: &Family<'_>) -> Self {
        Self {
            size: at.whole_gauges(
                "queue_size",
                "Runs waiting, or what waits in the table that a job drains and is due",
                &["queue"],
            ),
            states: at.whole_gauges(
                "workers_queue_size",
                "Runs of a queue, by state (failed = in the last 24 h); rows of a drained table, by state",
                &["queue", "state"],
            ),
            oldest_age: at.gauges(
                "workers_queue_oldest_age_seconds",
                "For how long the oldest has been due",
                &["queue"],
            ),
            done: at.whole_gauges(
                "workers_queue_done_last_hour",
                "Rows of a drained table that ended well",
                &["queue"],
            ),
            errors: at.whole_gauges(
                "workers_queue_errors_last_hour",
                "Rows of a drained table that were given up",
                &["queue"],
            ),
            figures: at.gauges(
                "workers_queue_figures_timestamp_seconds",
                "When a drained table was last seen",
                &["queue"],
            ),
        }
    }
}

/// Makes families and registers them.
struct Family<'a> {
    registry: &'a Registry,
}

impl Family<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let family = made.expect("names and labels are constants that the tests have seen");
        self.registry.register(Box::new(family.clone())).expect("no name is used twice");
        family
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn lags(&self, name: &str, help: &str) -> Histogram {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(LAG_BUCKETS.to_vec())))
    }

    fn whole(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.keep(Gauge::new(name, help))
    }

    fn whole_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep(GaugeVec::new(Opts::new(name, help), labels))
    }
}

//! What the log hears of runs and queues: what matters at once, the successes of fast jobs as a sum each minute.

mod tally;
#[cfg(test)]
mod tests;

use std::{
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tracing::{debug, error, info, warn};

use super::Engine;
use crate::domain::{
    health::{Snapshot, WatchedQueue},
    job::JobName,
    run::{Outcome, Run},
    settle::{Next, Settlement},
};
use tally::{MINUTE, Tally};

/// Figures of the database that are older are not told as if they were those of now.
const OLDEST_FIGURES: TimeDelta = TimeDelta::seconds(90);

/// What is said of the successes of jobs that run more often than once a minute (`WORKERS_LOG_SUCCESS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogSuccess {
    /// Two lines for each, as for any other job.
    All,
    /// One line a minute with count, items and durations.
    #[default]
    Summary,
    None,
}

impl FromStr for LogSuccess {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "all" => Ok(Self::All),
            "summary" => Ok(Self::Summary),
            "none" => Ok(Self::None),
            other => Err(format!("unknown log.success {other:?}")),
        }
    }
}

/// Decides which runs get lines; lines that are not worth one are still there at level DEBUG.
#[derive(Debug)]
pub struct News(Mutex<Tally>);

macro_rules! say {
    ($aloud:expr, $($line:tt)+) => { if $aloud { info!($($line)+) } else { debug!($($line)+) } };
}

impl News {
    pub fn new(mode: LogSuccess) -> Self {
        Self(Mutex::new(Tally::new(mode)))
    }

    /// A run was taken from the waiting ones.
    pub fn claimed(&self, run: &Run, now: DateTime<Utc>) {
        let aloud = self.announces(run, now);
        say!(aloud, component = "scheduler", job_name = %run.job, run_id = %run.id, "claimed job id={}", run.id);
    }

    /// An attempt begins.
    pub fn started(&self, run: &Run, now: DateTime<Utc>) {
        let aloud = self.announces(run, now);
        say!(
            aloud, component = "scheduler", job_name = %run.job, run_id = %run.id, attempt = run.attempt,
            scheduled_for = scheduled_for(run), lag_ms = run.lag_ms, "job started"
        );
    }

    /// The end of an attempt, written: a failure at once, all else as its job's pace allows.
    pub fn ended(&self, run: &Run, settlement: &Settlement, took: Option<Duration>) {
        match &settlement.next {
            Next::Finish { outcome: outcome @ (Outcome::Success | Outcome::Skipped), .. } => {
                let figures = (settlement.items, took.unwrap_or_default());
                let aloud = self.tally().ends(run, *outcome, figures);
                finished(run, settlement, (*outcome, aloud), took);
            }
            Next::Finish { outcome, .. } => {
                self.tally().forget(run);
                finished(run, settlement, (*outcome, true), took);
            }
            Next::Again { at, reason } => warn!(
                component = "scheduler", job_name = %run.job, run_id = %run.id, attempt = run.attempt,
                scheduled_for = scheduled_for(run), duration_ms = took.map(millis),
                reason = reason.map(|reason| reason.word()), "attempt ended, again at {}{}", rfc3339(*at), why(settlement)
            ),
        }
    }

    /// Says what was not said of single runs; also before the process ends.
    pub fn sum_up(&self) {
        // Taken first: the lock is not held while lines are written.
        let sums = self.tally().take();
        for ((job, outcome), sum) in sums {
            info!(
                component = "scheduler", job_name = %job, duration_ms = millis(sum.duration), outcome = %outcome,
                items = sum.items, "job finished {} times since the last sum, {} ms the longest", sum.runs, millis(sum.longest)
            );
        }
    }

    /// A run that goes on with what it left elsewhere is looked at often, and was announced when it was begun.
    fn announces(&self, run: &Run, now: DateTime<Utc>) -> bool {
        run.resume.is_none() && self.tally().announces(run, now)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finished(run: &Run, settlement: &Settlement, (outcome, aloud): (Outcome, bool), took: Option<Duration>) {
    let Next::Finish { reason, .. } = &settlement.next else { return };
    let (reason, duration_ms) = (reason.map(|reason| reason.word()), took.map(millis));
    macro_rules! line {
        ($level:ident) => {
            $level!(
                component = "scheduler", job_name = %run.job, run_id = %run.id, attempt = run.attempt,
                scheduled_for = scheduled_for(run), duration_ms, outcome = %outcome, items = settlement.items, reason,
                items_failed = settlement.items_failed.filter(|failed| 0 < *failed), "job finished{}", why(settlement)
            )
        };
    }
    match outcome {
        _ if outcome.is_failure() => line!(error),
        Outcome::Partial | Outcome::Cancelled => line!(warn),
        _ if aloud => line!(info),
        _ => line!(debug),
    }
}

/// The minute of the observer: the sums, and a sign of life of each idle queue.
#[derive(Debug, Default)]
pub struct Minute {
    /// On the boot clock; `None` = nothing was said yet.
    next: Option<Duration>,
}

impl Minute {
    /// Speaks when a minute is over; the first time as soon as the database has been asked.
    pub fn tick(&mut self, engine: &Engine, snapshot: &Snapshot) {
        let (boot, now) = (engine.clock.boot(), engine.clock.now());
        let is_over = self.next.map_or(snapshot.sampled_at.is_some(), |next| next <= boot);
        if !is_over {
            return;
        }
        // From when it should have been, so that the minutes do not drift; after a suspension they begin anew.
        let kept = self.next.map(|next| next + MINUTE).filter(|next| boot < *next);
        self.next = Some(kept.unwrap_or(boot + MINUTE));
        engine.news.sum_up();
        let is_known = snapshot.sampled_at.is_some_and(|at| now - at <= OLDEST_FIGURES);
        let desk = engine.desk();
        for job in desk.table.jobs.values().map(|entry| &entry.job).filter(|job| engine.settings.scope.claims(job)) {
            let stats = snapshot.jobs.get(&job.name);
            // Without a schedule its runs come from producers; with something left it drains a table of the team's.
            let drains = snapshot.queues.contains_key(&job.name) || stats.is_some_and(|stats| stats.left.is_some());
            if job.schedule.is_none() || drains {
                let sizes = stats.filter(|_| is_known).and_then(|_| sizes(&job.name, snapshot, now));
                info!(component = "scheduler", job_name = %job.name, "{}", sign_of_life(sizes, is_known));
            }
        }
    }
}

/// What waits, and what is worked on; `None` = nobody could look at its table lately.
fn sizes(job: &JobName, snapshot: &Snapshot, now: DateTime<Utc>) -> Option<(i64, i64)> {
    let is_seen = |queue: &WatchedQueue| queue.figures.is_some() && now - queue.seen_at() <= OLDEST_FIGURES;
    let is_known = snapshot.queues.get(job).is_none_or(is_seen);
    is_known.then(|| (snapshot.queue_size(job), snapshot.queue_running(job).unwrap_or(0)))
}

/// What a queue says once a minute; `None` = its figures are not known, or old: those of the queue alone, or all of the database.
fn sign_of_life(sizes: Option<(i64, i64)>, database_answers: bool) -> String {
    let Some((queued, processing)) = sizes else {
        let why = if database_answers { "nobody could look at it" } else { "the database does not answer" };
        return format!("alive, size of the queue not known: {why}");
    };
    let empty = if (queued, processing) == (0, 0) { "alive, queue empty" } else { "alive" };
    format!("{empty} (queued={queued}, processing={processing})")
}

fn why(settlement: &Settlement) -> String {
    settlement.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

fn scheduled_for(run: &Run) -> Option<String> {
    run.scheduled_for.map(rfc3339)
}

fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

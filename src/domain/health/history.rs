//! What the newest runs of a job say of it, and what is remembered of older ones.

use chrono::{DateTime, Utc};

use super::snapshot::JobStats;
use crate::domain::run::{Outcome, Reason};

/// Finished rows of a job that are looked at one by one, newest first: streaks are counted up to here.
pub const NEWEST_RUNS: usize = 20;

/// A finished row of the ledger, as far as health asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    /// 0 = never started.
    pub attempt: i64,
    pub scheduled_for: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: DateTime<Utc>,
    pub lag_ms: Option<i64>,
    pub duration_ms: Option<i64>,
    pub items: Option<i64>,
    pub left: Option<i64>,
    pub error: Option<String>,
}

impl Ended {
    /// Something was started, or kept back by the job's gate: other skips say nothing of the job's work.
    fn counts(&self) -> bool {
        0 < self.attempt || self.reason == Some(Reason::Gate)
    }

    /// The job was told not to work here: what failed before is over.
    fn is_idle(&self) -> bool {
        self.outcome == Outcome::Skipped && matches!(self.reason, Some(Reason::Gate | Reason::NotConfigured))
    }

    fn is_judged(&self) -> bool {
        self.outcome.is_success() || self.outcome.is_failure()
    }

    fn is_empty(&self) -> bool {
        self.outcome.is_success() && self.items.unwrap_or(0) == 0
    }

    /// Nobody may hold this instant against the job.
    fn is_excused(&self) -> bool {
        use Reason::{Disabled, Edited, Gate, Paused, Removed};
        self.outcome == Outcome::Skipped && matches!(self.reason, Some(Paused | Disabled | Edited | Removed | Gate))
    }

    /// The handler was asked and said that there is nothing to do.
    fn is_answered(&self) -> bool {
        self.outcome == Outcome::Skipped && 0 < self.attempt
    }
}

impl JobStats {
    /// Takes over what a job's newest finished rows say, newest first.
    pub fn look_back(&mut self, runs: &[Ended]) {
        let counted = || runs.iter().filter(|run| run.counts());
        if let Some(newest) = counted().next() {
            (self.last_outcome, self.last_reason) = (Some(newest.outcome), newest.reason);
            self.last_lag_ms = newest.lag_ms;
        }
        let judged = || counted().take_while(|run| !run.is_idle()).filter(|run| run.is_judged());
        self.last_duration_ms = judged().next().and_then(|run| run.duration_ms);
        self.consecutive_failures = count(judged().take_while(|run| run.outcome.is_failure()));
        self.empty_successes = count(judged().take_while(|run| run.is_empty()));
        self.last_run = self.last_run.max(runs.iter().filter_map(|run| run.started_at).max());
        self.last_success = self.last_success.max(ended(runs, Outcome::is_success));
        self.note_failure(ended(runs, Outcome::is_failure), || {
            runs.iter().find(|run| run.outcome.is_failure()).and_then(|run| run.error.clone())
        });
        self.excused_until = instant_of(runs, Ended::is_excused);
        self.answered_until = instant_of(runs, Ended::is_answered);
        self.left = runs.iter().find_map(|run| run.left);
    }

    /// A failure was found; the newest one's words stay.
    pub fn note_failure(&mut self, at: Option<DateTime<Utc>>, error: impl FnOnce() -> Option<String>) {
        if self.last_failure < at {
            (self.last_failure, self.last_error) = (at, error());
        }
    }

    /// Keeps what an earlier look had found and this one had no reason to look for. Facts do not grow old; instants that
    /// lie in the future by now were planned under a wrong clock, and may have been taken back since.
    pub fn remember(&mut self, old: &Self, now: DateTime<Utc>) {
        let known = |at: Option<DateTime<Utc>>| at.filter(|at| *at <= now);
        self.last_run = self.last_run.max(known(old.last_run));
        self.last_success = self.last_success.max(known(old.last_success));
        self.note_failure(known(old.last_failure), || old.last_error.clone());
        self.excused_until = self.excused_until.max(known(old.excused_until));
        self.answered_until = self.answered_until.max(known(old.answered_until));
    }

    /// Keeps the counts of an earlier look.
    pub fn keep_counts(&mut self, old: &Self) {
        (self.waiting, self.oldest_due, self.day) = (old.waiting, old.oldest_due, old.day.clone());
    }
}

fn count<'a>(runs: impl Iterator<Item = &'a Ended>) -> i64 {
    i64::try_from(runs.count()).unwrap_or(i64::MAX)
}

fn ended(runs: &[Ended], which: fn(Outcome) -> bool) -> Option<DateTime<Utc>> {
    runs.iter().filter(|run| which(run.outcome)).map(|run| run.finished_at).max()
}

fn instant_of(runs: &[Ended], which: fn(&Ended) -> bool) -> Option<DateTime<Utc>> {
    runs.iter().filter(|run| which(run)).filter_map(|run| run.scheduled_for).max()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::health::tests::at;

    const NOW: &str = "2026-11-18T13:30:10Z";

    /// Rows of one a minute, the newest first: `s` succeeded with an item, `0` with none, `f` failed, `h` was skipped by
    /// its handler, `n` is not configured here, `g` was kept back by its gate, `p` was paused, `o` overlapped.
    fn rows(letters: &str) -> Vec<Ended> {
        letters
            .chars()
            .enumerate()
            .map(|(index, letter)| row(letter, at(NOW) - TimeDelta::minutes(index as i64)))
            .collect()
    }

    fn row(letter: char, at: DateTime<Utc>) -> Ended {
        let (outcome, reason, attempt) = match letter {
            's' | '0' => (Outcome::Success, None, 1),
            'f' => (Outcome::Error, Some(Reason::Exhausted), 3),
            'h' => (Outcome::Skipped, Some(Reason::Handler), 1),
            'n' => (Outcome::Skipped, Some(Reason::NotConfigured), 1),
            'g' => (Outcome::Skipped, Some(Reason::Gate), 0),
            'p' => (Outcome::Skipped, Some(Reason::Paused), 0),
            _ => (Outcome::Skipped, Some(Reason::Overlap), 0),
        };
        Ended {
            outcome,
            reason,
            attempt,
            scheduled_for: Some(at),
            started_at: Some(at).filter(|_| 0 < attempt),
            finished_at: at,
            lag_ms: Some(1),
            duration_ms: Some(7).filter(|_| 0 < attempt),
            items: Some((letter == 's').into()),
            left: None,
            error: (letter == 'f').then(|| at.to_string()),
        }
    }

    fn looked_back(letters: &str) -> JobStats {
        let mut stats = JobStats::new(at(NOW) - TimeDelta::days(1));
        stats.look_back(&rows(letters));
        stats
    }

    #[test]
    fn streaks_go_back_to_what_ends_them_and_skips_are_neither() {
        for (letters, failures, empty) in [
            ("ffs", 2, 0),
            ("fhofs", 2, 0),
            ("sff", 0, 0),
            ("000s", 0, 3),
            ("0h0f0", 0, 2),
            // What failed before the job was told not to work here is over.
            ("nff", 0, 0),
            ("fgff", 1, 0),
            ("", 0, 0),
        ] {
            let stats = looked_back(letters);

            assert_eq!((stats.consecutive_failures, stats.empty_successes), (failures, empty), "{letters}");
        }
    }

    #[test]
    fn excuses_and_answers_are_told_apart_from_what_nobody_excused() {
        let ago = |minutes| Some(at(NOW) - TimeDelta::minutes(minutes));
        for (letters, excused, answered) in
            [("op", ago(1), None), ("fg", ago(1), None), ("fh", None, ago(1)), ("hn", None, ago(0)), ("of", None, None)]
        {
            let stats = looked_back(letters);

            assert_eq!((stats.excused_until, stats.answered_until), (excused, answered), "{letters}");
        }
    }

    #[test]
    fn what_was_known_stays_known_unless_it_lies_in_the_future() {
        let (now, later) = (at(NOW), at(NOW) + TimeDelta::days(365));
        let old = looked_back("phs");
        let wrong = JobStats { last_success: Some(later), excused_until: Some(later), ..JobStats::new(now) };

        let mut stats = looked_back("ff");
        stats.remember(&old, now);
        let newest_error = Some(now.to_string());
        assert_eq!((stats.last_success, stats.last_error.clone()), (old.last_success, newest_error.clone()));
        assert_eq!((stats.excused_until, stats.answered_until), (old.excused_until, old.answered_until));

        stats.remember(&wrong, now);
        assert_eq!((stats.last_success, stats.excused_until), (old.last_success, old.excused_until));
        let mut quiet = looked_back("s");
        quiet.remember(&stats, now);
        assert_eq!((quiet.last_failure, quiet.last_error), (Some(now), newest_error));
    }
}

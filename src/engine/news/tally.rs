//! Which runs get lines of their own, and the sum of those that do not. Pure: told the time, asks nobody.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::LogSuccess;
use crate::domain::{
    job::JobName,
    run::{Outcome, Run, RunId, Trigger},
};

/// Jobs whose runs come closer together than this are summed up, this often (spec 7, Logs).
pub const MINUTE: Duration = Duration::from_secs(60);
/// Runs of one job that were announced and have not ended; of more than these the oldest ends unannounced.
const MOST_ANNOUNCED: usize = 8;

/// What the log has said of each job. As many entries as there are names of jobs.
#[derive(Debug)]
pub struct Tally {
    mode: LogSuccess,
    jobs: HashMap<JobName, Pace>,
    sums: BTreeMap<(JobName, Outcome), Sum>,
}

#[derive(Debug, Default)]
struct Pace {
    /// Of the newest run: when it was due, else when it was claimed.
    newest: Option<DateTime<Utc>>,
    announced: VecDeque<RunId>,
}

/// Runs that ended well and without a line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sum {
    pub runs: u64,
    /// `None` = this work does not count items.
    pub items: Option<i64>,
    pub duration: Duration,
    pub longest: Duration,
}

impl Tally {
    pub fn new(mode: LogSuccess) -> Self {
        Self { mode, jobs: HashMap::new(), sums: BTreeMap::new() }
    }

    /// Whether the start of this run is worth a line: its job rests for a minute or more between two runs, somebody asked
    /// for it by hand, or an attempt before it failed. Asked again for the same run it says the same.
    pub fn announces(&mut self, run: &Run, now: DateTime<Utc>) -> bool {
        if self.mode == LogSuccess::All {
            return true;
        }
        let pace = self.jobs.entry(run.job.clone()).or_default();
        if pace.announced.contains(&run.id) {
            return true;
        }
        let by_hand = matches!(run.trigger, Trigger::Manual | Trigger::Retry);
        if !(pace.is_slow(run.scheduled_for.unwrap_or(now)) || by_hand || 1 < run.attempt) {
            return false;
        }
        if pace.announced.len() == MOST_ANNOUNCED {
            pace.announced.pop_front();
        }
        pace.announced.push_back(run.id);
        true
    }

    /// Whether the good end of this run gets a line of its own: its start had one, or it took long. Else it is counted.
    pub fn ends(&mut self, run: &Run, outcome: Outcome, (items, duration): (Option<i64>, Duration)) -> bool {
        if self.forget(run) || self.mode == LogSuccess::All || MINUTE <= duration {
            return true;
        }
        if self.mode == LogSuccess::Summary {
            self.sums.entry((run.job.clone(), outcome)).or_default().add(items, duration);
        }
        false
    }

    /// The run ended, however; whether its start had a line.
    pub fn forget(&mut self, run: &Run) -> bool {
        let Some(pace) = self.jobs.get_mut(&run.job) else { return false };
        let place = pace.announced.iter().position(|id| *id == run.id);
        place.is_some_and(|place| pace.announced.remove(place).is_some())
    }

    /// The sums so far, in the order of names; they begin anew.
    pub fn take(&mut self) -> BTreeMap<(JobName, Outcome), Sum> {
        std::mem::take(&mut self.sums)
    }
}

impl Pace {
    fn is_slow(&mut self, moment: DateTime<Utc>) -> bool {
        let before = self.newest.replace(self.newest.map_or(moment, |newest| newest.max(moment)));
        let minute = TimeDelta::from_std(MINUTE).unwrap_or(TimeDelta::MAX);
        before.is_none_or(|before| minute <= (moment - before).abs())
    }
}

impl Sum {
    fn add(&mut self, items: Option<i64>, duration: Duration) {
        self.runs += 1;
        self.items = items.map_or(self.items, |items| Some(self.items.unwrap_or(0).saturating_add(items)));
        self.duration = self.duration.saturating_add(duration);
        self.longest = self.longest.max(duration);
    }
}

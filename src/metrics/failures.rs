//! Failures of the last five minutes, per job: the documented `job_failures`.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::job::JobName;

/// The window of the documented alert.
const WINDOW: TimeDelta = TimeDelta::minutes(5);
/// More failures of one job than this are counted as this many.
const MOST_KEPT: usize = 1_000;

/// When each job failed lately.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<JobName, VecDeque<DateTime<Utc>>>>);

impl Failures {
    pub fn push(&self, job: &JobName, now: DateTime<Utc>) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = jobs.entry(job.clone()).or_default();
        if times.len() == MOST_KEPT {
            times.pop_front();
        }
        times.push_back(now);
    }

    pub fn forget_all_but(&self, names: &BTreeSet<&str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name.as_str()));
    }

    /// Failures in `(now - 5 min, now]`.
    pub fn count(&self, job: &JobName, now: DateTime<Utc>) -> i64 {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = jobs.get_mut(job) else { return 0 };
        times.retain(|at| now - WINDOW < *at);
        times.len() as i64
    }
}

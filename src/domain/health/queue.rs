//! What is known of a queue that stands in a table of the team's, apart from the runs that work it off.

use chrono::{DateTime, TimeDelta, Utc};

/// The numbers of one look at a queue. A look needs no run, so they follow the table also while its job is paused or hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFigures {
    /// When the look was taken.
    pub at: DateTime<Utc>,
    /// What waits and is due.
    pub left: i64,
    /// What waits for a later moment.
    pub later: i64,
    /// Since when the oldest of `left` has been due.
    pub oldest_due: Option<DateTime<Utc>>,
    /// What is being worked on.
    pub running: i64,
    /// What has been worked on for longer than it can take: its worker is gone.
    pub stuck: i64,
    /// What was given up and waits for a person.
    pub failed: i64,
    /// What ended well within an hour.
    pub done_1h: i64,
    /// What was given up within an hour.
    pub errors_1h: i64,
}

impl QueueFigures {
    /// An empty queue.
    pub fn empty(at: DateTime<Utc>) -> Self {
        Self { at, left: 0, later: 0, oldest_due: None, running: 0, stuck: 0, failed: 0, done_1h: 0, errors_1h: 0 }
    }

    /// How long the oldest has been due; zero = nothing is.
    pub fn oldest_age(&self, now: DateTime<Utc>) -> TimeDelta {
        self.oldest_due.map_or(TimeDelta::zero(), |due| (now - due).max(TimeDelta::zero()))
    }
}

/// A queue that is looked at every now and then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedQueue {
    /// Of the last look that saw something; `None` = none did so far.
    pub figures: Option<QueueFigures>,
    pub watched_since: DateTime<Utc>,
    /// Why the newest look saw nothing. Free text: shown to holders of a token only.
    pub failure: Option<String>,
}

impl WatchedQueue {
    /// A queue that nobody has looked at yet.
    pub fn new(watched_since: DateTime<Utc>) -> Self {
        Self { figures: None, watched_since, failure: None }
    }

    /// When it was last seen; before the first time, since when it could have been.
    pub fn seen_at(&self) -> DateTime<Utc> {
        self.figures.as_ref().map_or(self.watched_since, |figures| figures.at)
    }
}

//! What is known of a queue that stands in a table of the team's, apart from the runs that work it off.

use chrono::{DateTime, TimeDelta, Utc};

/// The numbers of one look at a queue. A look needs no run, so they follow the table also while its job is paused or hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFigures {
    /// When the look was taken.
    pub at: DateTime<Utc>,
    /// What waits and is due.
    pub left: i64,
    /// What waits for a later moment. This and all that is optional below: `None` = the look cannot tell.
    pub later: Option<i64>,
    /// Since when the oldest of `left` has been due.
    pub oldest_due: Option<DateTime<Utc>>,
    /// What is being worked on.
    pub running: Option<i64>,
    /// What has been worked on for longer than it can take: its worker is gone.
    pub stuck: Option<i64>,
    /// What was given up and waits for a person.
    pub failed: Option<i64>,
    /// What ended well within an hour.
    pub done_1h: Option<i64>,
    /// What was given up within an hour.
    pub errors_1h: Option<i64>,
}

impl QueueFigures {
    /// An empty queue.
    pub fn empty(at: DateTime<Utc>) -> Self {
        let none = Some(0);
        let (later, running, stuck, failed) = (none, none, none, none);
        Self { later, running, stuck, failed, done_1h: none, errors_1h: none, ..Self::waiting(at, 0) }
    }

    /// A queue of which no more is known than what waits and is due.
    pub fn waiting(at: DateTime<Utc>, left: i64) -> Self {
        Self {
            at,
            left,
            later: None,
            oldest_due: None,
            running: None,
            stuck: None,
            failed: None,
            done_1h: None,
            errors_1h: None,
        }
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

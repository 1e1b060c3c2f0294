//! `plan`: which rows the owed instants of a job become (spec 4: Conservation, Plan, Missed instants, Overlap).

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    job::{CatchUp, Job, Overlap},
    run::{BACKLOG_PRIORITY, Outcome, Reason, RunId, State, Trigger},
    schedule::{Schedule, Span},
};

/// The newest due instant is live while it is at most this old; every other owed instant is missed.
pub const LATE_AFTER: TimeDelta = TimeDelta::seconds(30);
/// A row accounts for instants of one day at most, so that a fold stays readable.
pub const FOLD_SPAN: TimeDelta = TimeDelta::hours(24);
/// Rows of `catch_up = "all"` that one pass writes.
pub const BACKLOG_PASS: usize = 100;
/// Rows of skipped instants that one pass writes; a month of silence takes a few passes.
pub const SKIP_PASS: usize = 8;

const MILLISECOND: TimeDelta = TimeDelta::milliseconds(1);

/// What the store knows of a job when it plans, read in one snapshot after the job row was locked.
#[derive(Debug, Clone)]
pub struct Standing {
    pub epoch: i64,
    /// Every instant up to here, this one included, is in the ledger.
    pub planned_until: DateTime<Utc>,
    pub paused: bool,
    /// Some run of the job is running, whatever made it.
    pub running: bool,
    /// Some run with trigger `schedule` is waiting, due or running.
    pub unfinished: bool,
    /// Some run with trigger `schedule` or `catch_up` has never started (attempt 0) and is waiting or due; rows of a
    /// backlog (`BACKLOG_PRIORITY`) do not count.
    pub unstarted: bool,
    /// The row with the newest `scheduled_for`.
    pub newest: Option<Newest>,
}

/// The row a fold could move forward.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    pub id: RunId,
    pub epoch: i64,
    pub trigger: Trigger,
    pub state: State,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub attempt: i32,
    pub scheduled_for: DateTime<Utc>,
    pub covers_from: DateTime<Utc>,
}

/// What one planning pass writes for one job, in this order: replace, fold, rows, cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `overlap = "replace"`: ask the running run to cancel, and end those of trigger `schedule` that wait:
    /// `skipped: replaced` when never started, else `cancelled: replaced`.
    pub replace: bool,
    pub fold: Option<Fold>,
    pub rows: Vec<NewRow>,
    /// The new cursor.
    pub planned_until: DateTime<Utc>,
    /// The pass was cut at its limit: plan again at once.
    pub more: bool,
}

/// Moves a row forward, if it still stands as `Newest` said. `covers_from` stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    pub id: RunId,
    pub from: DateTime<Utc>,
    /// Becomes a row of its own when the fold hits nothing.
    pub row: NewRow,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewRow {
    pub scheduled_for: DateTime<Utc>,
    pub covers_from: DateTime<Utc>,
    pub covers: i64,
    pub fate: Fate,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Run { trigger: Trigger, due_at: DateTime<Utc>, priority: i16, exclusive: bool },
    Skip(Reason),
}

/// Plans what is owed in `(standing.planned_until, now]`.
pub fn plan(job: &Job, standing: &Standing, now: DateTime<Utc>) -> Plan {
    let cursor = standing.planned_until;
    let Some(schedule) = job.schedule.as_ref().filter(|_| cursor < now) else {
        return Draft::default().finish(cursor, cursor);
    };
    let mut draft = Draft { newest: standing.foldable(), ..Draft::default() };
    let owed = Owed { schedule, job, standing, cursor, now };
    let reached = owed.record(&mut draft);
    draft.finish(reached, now)
}

/// Plans the end of an epoch at `now`: the live instant follows the job's policy, what else is owed becomes
/// `skipped: edited`; with no job (it left the table) all of it becomes `skipped: removed`.
pub fn close_epoch(job: Option<&Job>, old: &Schedule, standing: &Standing, now: DateTime<Utc>) -> Plan {
    let cursor = standing.planned_until;
    let mut draft = Draft { newest: standing.foldable(), most_skips: usize::MAX, ..Draft::default() };
    let Some(job) = job else {
        draft.skip(old, (cursor, now), Reason::Removed);
        return draft.finish(cursor.max(now), now);
    };
    let owed = Owed { schedule: old, job, standing, cursor, now };
    if let Some(reason) = owed.standstill() {
        draft.skip(old, (cursor, now), reason);
    } else {
        let live = owed.live();
        draft.skip(old, (cursor, live.map_or(now, before)), Reason::Edited);
        if let Some(live) = live {
            owed.place(&mut draft, Span { first: live, last: live, count: 1 });
        }
    }
    draft.finish(cursor.max(now), now)
}

impl Standing {
    /// The newest row, if a fold could move it: a fold never crosses an epoch, nor goes back in time.
    fn foldable(&self) -> Option<Newest> {
        self.newest.clone().filter(|row| row.epoch == self.epoch && row.scheduled_for <= self.planned_until)
    }
}

impl Newest {
    fn is_skip(&self, reason: Reason) -> bool {
        self.outcome == Some(Outcome::Skipped) && self.reason == Some(reason) && self.attempt == 0
    }

    fn waits_unstarted(&self) -> bool {
        matches!(self.state, State::Due | State::Waiting) && self.attempt == 0
    }
}

/// The instants that one job owes, and the rules that say what becomes of them.
struct Owed<'a> {
    schedule: &'a Schedule,
    job: &'a Job,
    standing: &'a Standing,
    cursor: DateTime<Utc>,
    now: DateTime<Utc>,
}

impl Owed<'_> {
    /// Drafts rows for the owed instants, oldest first; returns the instant up to which it came.
    fn record(&self, draft: &mut Draft) -> DateTime<Utc> {
        if let Some(reason) = self.standstill() {
            return draft.skip(self.schedule, (self.cursor, self.now), reason);
        }
        let live = self.live();
        let missed_until = live.map_or(self.now, before);
        let too_late =
            before(self.now - self.job.policy.catch_up_within).clamp(self.cursor, missed_until.max(self.cursor));
        let reached = draft.skip(self.schedule, (self.cursor, too_late), Reason::TooLate);
        if reached < too_late {
            return reached;
        }
        match self.job.policy.catch_up {
            CatchUp::None => self.give_up(draft, (reached, missed_until), live),
            CatchUp::All => self.line_up(draft, (reached, missed_until), live),
            CatchUp::Latest => self.fold_up(draft, reached, live),
        }
    }

    /// Why nothing of this job may start at all, if so.
    fn standstill(&self) -> Option<Reason> {
        if self.job.disabled.is_some() {
            Some(Reason::Disabled)
        } else if self.standing.paused {
            Some(Reason::Paused)
        } else {
            None
        }
    }

    fn live(&self) -> Option<DateTime<Utc>> {
        let since = before(self.now - LATE_AFTER).max(self.cursor);
        self.schedule.span(since, self.now).map(|span| span.last)
    }

    /// `catch_up = "none"`.
    fn give_up(&self, draft: &mut Draft, missed: Window, live: Option<DateTime<Utc>>) -> DateTime<Utc> {
        let reached = draft.skip(self.schedule, missed, Reason::Missed);
        if reached < missed.1 {
            return reached;
        }
        if let Some(live) = live {
            self.place(draft, Span { first: live, last: live, count: 1 });
        }
        self.now
    }

    /// `catch_up = "all"`: a row each, in passes; the live instant comes with the last pass.
    fn line_up(&self, draft: &mut Draft, missed: Window, live: Option<DateTime<Utc>>) -> DateTime<Utc> {
        for (index, instant) in self.schedule.instants(missed.0, missed.1).enumerate() {
            if index == BACKLOG_PASS {
                // The cut instant belongs to the next pass.
                return before(instant);
            }
            let span = Span { first: instant, last: instant, count: 1 };
            draft.rows.push(NewRow::new(span, self.backlog_run(instant)));
        }
        if let Some(live) = live {
            self.place(draft, Span { first: live, last: live, count: 1 });
        }
        self.now
    }

    /// `catch_up = "latest"`: all in one row, which is the live run itself when there is one.
    fn fold_up(&self, draft: &mut Draft, reached: DateTime<Utc>, live: Option<DateTime<Utc>>) -> DateTime<Utc> {
        let Some(newest) = live.or_else(|| self.schedule.span(reached, self.now).map(|span| span.last)) else {
            return self.now;
        };
        let too_far = before(newest - FOLD_SPAN).max(reached);
        let reached = draft.skip(self.schedule, (reached, too_far), Reason::Missed);
        if reached < too_far {
            return reached;
        }
        if let Some(span) = self.schedule.span(too_far, newest) {
            self.place(draft, span);
        }
        self.now
    }

    /// The overlap rule, for the live instant and for what was folded into one.
    fn place(&self, draft: &mut Draft, span: Span) {
        let blocked = self.standing.running || self.standing.unfinished;
        match self.job.policy.overlap {
            Overlap::Skip if blocked => draft.overlap(self.schedule, span),
            Overlap::Queue if blocked => self.queue_up(draft, span),
            overlap => {
                draft.replace |= blocked && overlap == Overlap::Replace;
                draft.rows.push(NewRow::new(span, self.run(span.last)));
            }
        }
    }

    /// `overlap = "queue"`: one may wait, and the next ones fold into it while nothing came between.
    fn queue_up(&self, draft: &mut Draft, span: Span) {
        let row = NewRow::new(span, self.run(span.last));
        // A row of a backlog keeps its one instant.
        let folds = |tail: &Newest| tail.trigger == Trigger::Schedule || self.job.policy.catch_up == CatchUp::Latest;
        let tail = draft.newest.as_ref().filter(|tail| {
            draft.rows.is_empty() && tail.waits_unstarted() && folds(tail) && span.last - tail.covers_from <= FOLD_SPAN
        });
        if let Some(tail) = tail {
            draft.fold = Some(Fold { id: tail.id, from: tail.scheduled_for, row });
        } else if self.standing.unstarted {
            draft.overlap(self.schedule, span);
        } else {
            draft.rows.push(row);
        }
    }

    fn run(&self, instant: DateTime<Utc>) -> Fate {
        Fate::Run {
            trigger: if self.now - instant <= LATE_AFTER { Trigger::Schedule } else { Trigger::CatchUp },
            due_at: self.due_at(instant),
            priority: self.job.policy.priority,
            exclusive: self.job.is_exclusive(),
        }
    }

    fn backlog_run(&self, instant: DateTime<Utc>) -> Fate {
        let due_at = self.due_at(instant);
        // Exclusive even when the job allows overlap: a backlog runs one at a time.
        Fate::Run { trigger: Trigger::CatchUp, due_at, priority: BACKLOG_PRIORITY, exclusive: true }
    }

    fn due_at(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        instant + self.schedule.start_delay(&self.job.name, instant)
    }
}

/// `(after, until]`.
type Window = (DateTime<Utc>, DateTime<Utc>);

/// The rows of a pass while they are being written, oldest first.
struct Draft {
    newest: Option<Newest>,
    most_skips: usize,
    replace: bool,
    fold: Option<Fold>,
    rows: Vec<NewRow>,
}

impl Default for Draft {
    fn default() -> Self {
        Self { newest: None, most_skips: SKIP_PASS, replace: false, fold: None, rows: Vec::new() }
    }
}

impl Draft {
    /// Skips the instants of a window, folded by day; returns how far it came.
    fn skip(&mut self, schedule: &Schedule, window: Window, reason: Reason) -> DateTime<Utc> {
        let (mut reached, until) = window;
        for _ in 0..self.most_skips {
            let Some(first) = schedule.next_after(reached).filter(|first| *first <= until) else {
                return until.max(reached);
            };
            let since = self.tail_since(reason).filter(|since| first - *since <= FOLD_SPAN).unwrap_or(first);
            let end = until.min(since + FOLD_SPAN);
            if let Some(span) = schedule.span(reached, end) {
                self.skip_span(span, reason);
            }
            reached = end;
        }
        reached
    }

    fn overlap(&mut self, schedule: &Schedule, span: Span) {
        self.skip(schedule, (before(span.first), span.last), Reason::Overlap);
    }

    /// Where the row begins that a skip for this reason may go on from.
    fn tail_since(&self, reason: Reason) -> Option<DateTime<Utc>> {
        let skip = Fate::Skip(reason);
        if let Some(row) = self.rows.last() {
            return (row.fate == skip).then_some(row.covers_from);
        }
        let newest = self.newest.as_ref()?;
        let goes_on = self.fold.as_ref().map_or_else(|| newest.is_skip(reason), |fold| fold.row.fate == skip);
        goes_on.then_some(newest.covers_from)
    }

    fn skip_span(&mut self, span: Span, reason: Reason) {
        let since = self.tail_since(reason).filter(|since| span.last - *since <= FOLD_SPAN);
        match (since, self.rows.last_mut(), &mut self.fold, &self.newest) {
            (Some(_), Some(row), _, _) => row.extend(span),
            (Some(_), None, Some(fold), _) => fold.row.extend(span),
            (Some(_), None, None, Some(newest)) => {
                let row = NewRow::new(span, Fate::Skip(reason));
                self.fold = Some(Fold { id: newest.id, from: newest.scheduled_for, row });
            }
            _ => self.rows.push(NewRow::new(span, Fate::Skip(reason))),
        }
    }

    fn finish(self, reached: DateTime<Utc>, now: DateTime<Utc>) -> Plan {
        Plan { replace: self.replace, fold: self.fold, rows: self.rows, planned_until: reached, more: reached < now }
    }
}

impl NewRow {
    fn new(span: Span, fate: Fate) -> Self {
        Self { scheduled_for: span.last, covers_from: span.first, covers: span.count, fate }
    }

    fn extend(&mut self, span: Span) {
        self.scheduled_for = span.last;
        self.covers += span.count;
    }
}

/// The last instant that is not after the one before `moment`; instants are whole milliseconds.
fn before(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment - MILLISECOND
}

#[cfg(test)]
mod tests;

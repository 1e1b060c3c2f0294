//! Writes plans: replaced runs, folds, rows and cursors, in bulk.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        job::{Delivery, Job, JobName},
        plan::{Fate, NewRow, Plan, Standing},
        run::{BACKLOG_PRIORITY, Fence, Lease, Outcome, ReplicaId, Run, RunId, State, Trigger},
    },
    store::{
        Recorded, Result, StoreError,
        dialect::{Of, Sql, statements},
        row::{Ids, Param, params, run},
        session::Session,
    },
};

statements! {
    /// First those that wait, then those that run: one that starts in between is seen by the second statement.
    END_REPLACED = Sql::both(
        "update {runs}
        set state = 'finished', reason = 'replaced', finished_at = $2,
            outcome = case when attempt = 0 then 'skipped'
                when at_most_once and resume is not null then 'unknown' else 'cancelled' end
        where job {in($1)} and trigger = 'schedule' and state <> 'finished' and scheduled_for is not null
        and state <> 'running'"
    );
    CANCEL_REPLACED = Sql::both(
        "update {runs} set cancel_requested_at = $2, reason = 'replaced'
        where job {in($1)} and state = 'running' and cancel_requested_at is null"
    );
    /// Moves a row forward if it still stands as it was read; `covers_from` stays.
    FOLD = Sql::bulk(
        &[
            ("id", Of::Uuid), ("from", Of::Instant), ("until", Of::Instant), ("covers", Of::Int), ("epoch", Of::Int),
            ("state", Of::Text), ("reason", Of::Text), ("attempt", Of::Int),
        ],
        "update {runs} set scheduled_for = given_until, covers = covers + given_covers
        from {given}
        where id = given_id and scheduled_for = given_from and epoch = given_epoch and state = given_state
        and attempt = given_attempt and reason is not distinct from given_reason
        returning id"
    );
    /// The key `(job, scheduled_for)` decides who records an instant; a duplicate is already recorded, not an error.
    INSERT = Sql::bulk(
        &[
            ("id", Of::Uuid), ("job", Of::Text), ("epoch", Of::Int), ("trigger", Of::Text),
            ("scheduled_for", Of::Instant), ("covers", Of::Int), ("covers_from", Of::Instant), ("state", Of::Text),
            ("outcome", Of::Text), ("reason", Of::Text), ("due_at", Of::Instant), ("priority", Of::Int),
            ("payload", Of::Json), ("attempt", Of::Int), ("max_attempts", Of::Int), ("exclusive", Of::Bool),
            ("at_most_once", Of::Bool), ("replica", Of::Uuid), ("lease", Of::Uuid), ("started_at", Of::Instant),
            ("finished_at", Of::Instant), ("lag_ms", Of::Int), ("errors", Of::Json),
        ],
        "insert into {runs} (
            id, job, epoch, trigger, scheduled_for, covers, covers_from, state, outcome, reason, due_at, priority,
            payload, attempt, max_attempts, crashes, exclusive, at_most_once, replica, lease, created_at, started_at,
            finished_at, lag_ms, errors
        )
        select given_id, given_job, given_epoch, given_trigger, given_scheduled_for, given_covers, given_covers_from,
            given_state, given_outcome, given_reason, given_due_at, given_priority, given_payload, given_attempt,
            given_max_attempts, 0, given_exclusive, given_at_most_once, given_replica, given_lease, $24,
            given_started_at, given_finished_at, given_lag_ms, given_errors
        from {given}
        where true
        on conflict (job, scheduled_for) where scheduled_for is not null do nothing
        returning {run_columns}"
    );
    /// The cursor moves in the transaction that wrote the rows, and only from where it was read.
    MOVE_CURSOR = Sql::bulk(
        &[("job", Of::Text), ("from", Of::Instant), ("until", Of::Instant), ("epoch", Of::Int)],
        "update {jobs} set planned_until = given_until
        from {given}
        where name = given_job and planned_until = given_from and epoch = given_epoch
        returning name"
    );
}

/// A job, how it stood, and what becomes of what it owes.
#[derive(Debug)]
pub(super) struct Drafted {
    pub job: JobName,
    /// `None` = it left the job table: nothing of it may run.
    pub rules: Option<Arc<Job>>,
    pub standing: Standing,
    pub plan: Plan,
}

/// Who may start runs within the planning transaction.
#[derive(Debug)]
pub(super) struct Starter {
    pub replica: ReplicaId,
    pub fence: Fence,
    pub slots: u32,
    /// Jobs that may start a run now: their work is ours, and exclusive ones are locked by us.
    pub jobs: HashSet<JobName>,
}

#[derive(Debug, Default)]
pub(super) struct Written {
    pub recorded: Vec<Recorded>,
    pub started: Vec<(Lease, Run)>,
}

/// Writes the plans: replace, fold, rows, cursors, in this order.
pub(super) async fn write(
    session: &mut Session<'_>,
    drafted: &[Drafted],
    starter: Option<Starter>,
    now: DateTime<Utc>,
) -> Result<Written> {
    replace(session, drafted, now).await?;
    let mut written = Written::default();
    let unfolded = fold(session, drafted, &mut written).await?;
    insert(session, &Draft { drafted, unfolded: &unfolded, now }, starter, &mut written).await?;
    move_cursors(session, drafted).await?;
    Ok(written)
}

async fn replace(session: &mut Session<'_>, drafted: &[Drafted], now: DateTime<Utc>) -> Result<()> {
    let replaced = drafted.iter().filter(|draft| draft.plan.replace);
    let jobs: Vec<String> = replaced.map(|draft| draft.job.to_string()).collect();
    if !jobs.is_empty() {
        session.execute(&END_REPLACED, params![jobs.clone(), now]).await?;
        session.execute(&CANCEL_REPLACED, params![jobs, now]).await?;
    }
    Ok(())
}

/// Folds what can be folded; returns the jobs whose newest row no longer stood as it was read.
async fn fold(session: &mut Session<'_>, drafted: &[Drafted], written: &mut Written) -> Result<HashSet<RunId>> {
    let mut given = Vec::new();
    let mut unfolded = HashSet::new();
    for draft in drafted {
        let (Some(fold), Some(newest)) = (&draft.plan.fold, &draft.standing.newest) else { continue };
        unfolded.insert(fold.id);
        given.push(params![
            fold.id,
            fold.from,
            fold.row.scheduled_for,
            fold.row.covers,
            newest.epoch,
            newest.state.word(),
            newest.reason.map(|reason| reason.word()),
            newest.attempt,
        ]);
    }
    for row in session.bulk(&FOLD, given, params![]).await? {
        unfolded.remove(&RunId(row.columns().uuid()?));
    }
    for draft in drafted {
        let folded = draft.plan.fold.as_ref().filter(|fold| !unfolded.contains(&fold.id));
        written.recorded.extend(folded.map(|fold| recorded(&draft.job, &fold.row)));
    }
    Ok(unfolded)
}

struct Draft<'a> {
    drafted: &'a [Drafted],
    unfolded: &'a HashSet<RunId>,
    now: DateTime<Utc>,
}

async fn insert(
    session: &mut Session<'_>,
    draft: &Draft<'_>,
    mut starter: Option<Starter>,
    written: &mut Written,
) -> Result<()> {
    let ids = Ids::at(draft.now);
    let fence = starter.as_ref().map(|starter| starter.fence);
    let mut given = Vec::new();
    let mut known = HashMap::new();
    for drafted in draft.drafted {
        let unfolded = drafted.plan.fold.as_ref().filter(|fold| draft.unfolded.contains(&fold.id));
        for row in unfolded.map(|fold| &fold.row).into_iter().chain(&drafted.plan.rows) {
            let id = ids.next();
            let start = starter.as_mut().is_some_and(|starter| starter.takes(drafted, row, draft.now));
            let holder = starter.as_ref().filter(|_| start);
            given.push(columns(id, (drafted, row), holder, draft.now));
            known.insert(id, recorded(&drafted.job, row));
        }
    }
    for row in session.bulk(&INSERT, given, params![draft.now]).await? {
        let run = run(&row)?;
        written.recorded.extend(known.remove(&run.id));
        if let Some(fence) = fence.filter(|_| run.state == State::Running) {
            written.started.push((Lease::granted(run.id, fence), run));
        }
    }
    Ok(())
}

async fn move_cursors(session: &mut Session<'_>, drafted: &[Drafted]) -> Result<()> {
    let moved = drafted.iter().filter(|draft| draft.plan.planned_until != draft.standing.planned_until);
    let given: Vec<_> = moved
        .map(|draft| params![&draft.job, draft.standing.planned_until, draft.plan.planned_until, draft.standing.epoch])
        .collect();
    let expected = given.len();
    let hit = session.bulk(&MOVE_CURSOR, given, params![]).await?.len();
    if hit != expected {
        return Err(StoreError::Contended(format!("{hit} of {expected} cursors stood where they were read")));
    }
    Ok(())
}

impl Starter {
    /// Takes a slot for this row if it may be born running.
    fn takes(&mut self, drafted: &Drafted, row: &NewRow, now: DateTime<Utc>) -> bool {
        let Fate::Run { due_at, priority, exclusive, .. } = row.fate else { return false };
        let Some(job) = &drafted.rules else { return false };
        // A job with older work of its own starts that first: the claim knows the order.
        let free = !job.is_exclusive() || !(drafted.standing.running || drafted.standing.unfinished);
        let plain = exclusive == job.is_exclusive() && BACKLOG_PRIORITY < priority && due_at <= now;
        if self.slots == 0 || !plain || !free || !job.may_start_at_once() || !self.jobs.contains(&drafted.job) {
            return false;
        }
        self.slots -= 1;
        if exclusive {
            self.jobs.remove(&drafted.job);
        }
        true
    }
}

fn recorded(job: &JobName, row: &NewRow) -> Recorded {
    let (trigger, skipped) = match row.fate {
        Fate::Run { trigger, .. } => (trigger, None),
        Fate::Skip(reason) => (Trigger::Schedule, Some(reason)),
    };
    Recorded { job: job.clone(), scheduled_for: row.scheduled_for, covers: row.covers, trigger, skipped }
}

/// The columns of `INSERT`.
fn columns(id: RunId, what: (&Drafted, &NewRow), holder: Option<&Starter>, now: DateTime<Utc>) -> Vec<Param> {
    let (drafted, row) = what;
    let job = drafted.rules.as_deref();
    let (trigger, due_at, priority, exclusive, skipped) = match row.fate {
        Fate::Run { trigger, due_at, priority, exclusive } => (trigger, due_at, priority, exclusive, None),
        Fate::Skip(reason) => (Trigger::Schedule, row.scheduled_for, 0, false, Some(reason)),
    };
    let state = match (skipped, holder) {
        (Some(_), _) => State::Finished,
        (None, Some(_)) => State::Running,
        (None, None) if now < due_at => State::Waiting,
        (None, None) => State::Due,
    };
    params![
        id,
        &drafted.job,
        drafted.standing.epoch,
        trigger.word(),
        row.scheduled_for,
        row.covers,
        row.covers_from,
        state.word(),
        skipped.map(|_| Outcome::Skipped.word()),
        skipped.map(|reason| reason.word()),
        due_at,
        priority,
        job.filter(|_| skipped.is_none()).map(|job| job.payload.clone()),
        i64::from(holder.is_some()),
        job.map_or(1, |job| i64::from(job.policy.retry.max_attempts)),
        exclusive,
        job.is_some_and(|job| job.policy.delivery == Delivery::AtMostOnce),
        holder.map(|holder| holder.replica.0),
        holder.map(|holder| holder.fence.0),
        holder.map(|_| now),
        skipped.map(|_| now),
        holder.map(|_| (now - due_at).num_milliseconds()),
        serde_json::Value::Array(Vec::new()),
    ]
}

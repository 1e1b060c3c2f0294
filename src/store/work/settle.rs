//! Settle: the end of an attempt is written once, by the holder of its lease (spec 4, Settle).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        clean,
        run::{Lease, MAX_ERROR_CHARS, RunId, State},
        settle::{Next, Settlement},
    },
    store::{
        Result, Settled, Store, StoreError,
        dialect::{Of, Sql, statements},
        row::{Param, params},
        session::{QUICK, Session},
    },
};

/// Rows of one transaction (spec 4).
const BATCH: usize = 1_000;

/// A run that was asked to end does not go round again.
macro_rules! settle {
    ($before:literal, $from:literal) => {
        concat!(
            $before,
            "update {runs}
            set state = case when cancel_requested_at is null then given_state else 'finished' end,
                outcome = case when given_outcome is null and cancel_requested_at is not null then 'cancelled'
                    else given_outcome end,
                reason = case when given_outcome is null and cancel_requested_at is not null
                    then coalesce(reason, 'operator') else given_reason end,
                finished_at = case when given_outcome is null and cancel_requested_at is null then null else {instant($17)} end,
                due_at = coalesce(given_due_at, due_at), attempt = attempt - given_unspent,
                replica = case when given_outcome is null then null else replica end,
                duration_ms = {ms($17, started_at)}, items = given_items, items_failed = given_items_failed,
                items_left = given_items_left, response_code = given_response_code, result = given_result,
                error = given_error, resume = coalesce(given_resume, resume),
                errors = case when given_noted then {noted(errors, attempt, $18, given_error)} else errors end
            from ", $from, "
            where id = given_id and lease = given_lease and {still_running(state)}
            returning id, job"
        )
    };
}

const GIVEN: &[(&str, Of)] = &[
    ("id", Of::Uuid),
    ("lease", Of::Uuid),
    ("state", Of::Text),
    ("outcome", Of::Text),
    ("reason", Of::Text),
    ("due_at", Of::Instant),
    ("unspent", Of::Int),
    ("items", Of::Int),
    ("items_failed", Of::Int),
    ("items_left", Of::Int),
    ("response_code", Of::Int),
    ("result", Of::Json),
    ("error", Of::Text),
    ("resume", Of::Json),
    ("noted", Of::Bool),
    ("pause", Of::Bool),
];

statements! {
    /// Rows are locked in one order everywhere, so that two batches cannot wait for each other.
    SETTLE = Sql::each(
        settle!(
            "with locked as materialized (
                select given.* from {runs} r, {given}
                where r.id = given_id and r.lease = given_lease and {still_running(r.state)}
                order by r.id
                for update of r
            ) ",
            "locked"
        ),
        settle!("", "{given}")
    )
    .given(GIVEN);
    /// A row with an instant stays until the audit has seen it, whatever `keep` says.
    DELETE = Sql::each(
        "with locked as materialized (
            select r.id as locked_id from {runs} r, {given}
            where r.id = given_id and r.lease = given_lease and {still_running(r.state)} and r.scheduled_for is null
            order by r.id
            for update of r
        )
        delete from {runs} where id = any(array(select locked_id from locked))
        returning id",
        "delete from {runs}
        where id in (select given_id from {given}) and (id, lease) in (select given_id, given_lease from {given})
        and state = 'running' and scheduled_for is null
        returning id"
    )
    .given(&[("id", Of::Uuid), ("lease", Of::Uuid)]);
    PAUSE = Sql::bulk(
        &[("job", Of::Text), ("reason", Of::Text)],
        "update {jobs} set paused_at = $3, paused_until = null, paused_reason = given_reason
        from {given}
        where name = given_job and paused_at is null
        returning name"
    );
    LOOK = Sql::both("select id, lease, state from {runs} where id {in($1)}");
    NOTE_LATE = Sql::bulk(
        &[("id", Of::Uuid), ("error", Of::Text)],
        "update {runs} set errors = {noted(errors, attempt, $3, given_error)}
        from {given}
        where id = given_id
        returning id"
    );
}

impl Store {
    /// Settles a batch; the answers are in its order. On an error nothing is known: give the same batch again, a
    /// settlement that was written before is recognised by its lease.
    pub async fn settle(&self, batch: &[(Lease, Settlement)], now: DateTime<Utc>) -> Result<Vec<Settled>> {
        let mut settled = Vec::with_capacity(batch.len());
        for part in batch.chunks(BATCH) {
            match self.settle_part(part, now).await {
                Err(StoreError::Refused(_)) => {
                    for alone in part.chunks(1) {
                        settled.extend(self.settle_alone(alone, now).await?);
                    }
                }
                answers => settled.extend(answers?),
            }
        }
        Ok(settled)
    }

    async fn settle_part(&self, part: &[(Lease, Settlement)], now: DateTime<Utc>) -> Result<Vec<Settled>> {
        let items: Arc<[Item]> = part.iter().map(|(lease, settlement)| Item::new(lease, settlement)).collect();
        self.write(QUICK, move |session| Box::pin(apply(session, Arc::clone(&items), now))).await
    }

    /// One row of a batch that the database refused for its data: the bad one is settled as not storable.
    async fn settle_alone(&self, alone: &[(Lease, Settlement)], now: DateTime<Utc>) -> Result<Vec<Settled>> {
        match self.settle_part(alone, now).await {
            Err(StoreError::Refused(refusal)) => Ok(vec![self.settle_refused(&alone[0].0, refusal, now).await?]),
            answers => answers,
        }
    }

    /// Settles a run whose result the database would not take.
    pub(super) async fn settle_refused(&self, lease: &Lease, refusal: String, now: DateTime<Utc>) -> Result<Settled> {
        let items: Arc<[Item]> = Arc::new([Item::new(lease, &Settlement::not_storable(&refusal))]);
        let settled = self.write(QUICK, move |session| Box::pin(apply(session, Arc::clone(&items), now))).await?;
        match settled.into_iter().next().expect("one item has one answer") {
            Settled::Applied => Ok(Settled::NotStorable(refusal)),
            settled => Ok(settled),
        }
    }
}

/// What is to be written for one run.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub run: RunId,
    pub fence: Uuid,
    pub settlement: Settlement,
}

impl Item {
    pub fn new(lease: &Lease, settlement: &Settlement) -> Self {
        Self { run: lease.run(), fence: lease.fence().0, settlement: settlement.clone() }
    }

    /// The columns of `SETTLE`.
    fn columns(&self, now: DateTime<Utc>) -> Vec<Param> {
        let settlement = &self.settlement;
        let (state, outcome, reason, due_at) = match settlement.next {
            Next::Finish { outcome, reason } => (State::Finished, Some(outcome), reason, None),
            Next::Again { at, reason } if at <= now => (State::Due, None, reason, Some(at)),
            Next::Again { at, reason } => (State::Waiting, None, reason, Some(at)),
        };
        params![
            self.run,
            self.fence,
            state.word(),
            outcome.map(|outcome| outcome.word()),
            reason.map(|reason| reason.word()),
            due_at,
            i64::from(!settlement.attempt_spent),
            settlement.items,
            settlement.items_failed,
            settlement.left,
            settlement.response_code,
            settlement.result.clone(),
            settlement.error.clone(),
            settlement.resume.clone(),
            outcome.is_none() && settlement.error.is_some(),
            settlement.pause_job,
        ]
    }
}

/// Writes settlements within a transaction; the answers are in the order of the items.
pub(super) async fn apply(session: &mut Session<'_>, items: Arc<[Item]>, now: DateTime<Utc>) -> Result<Vec<Settled>> {
    let gone = items.iter().filter(|item| item.settlement.delete).map(|item| params![item.run, item.fence]);
    let mut applied = HashSet::new();
    for row in session.bulk(&DELETE, gone.collect(), params![]).await? {
        applied.insert(RunId(row.columns().uuid()?));
    }
    let rest = items.iter().filter(|item| !applied.contains(&item.run)).map(|item| item.columns(now));
    let rows = session.bulk(&SETTLE, rest.collect(), params![now, rfc3339(now)]).await?;
    let mut jobs = HashMap::new();
    for row in rows {
        let mut columns = row.columns();
        let run = RunId(columns.uuid()?);
        jobs.insert(run, columns.text()?);
        applied.insert(run);
    }
    pause_jobs(session, &items, &jobs, now).await?;
    let late = late_ones(session, &items, &applied, now).await?;
    let settled = |item: &Item| if late.contains(&item.run) { Settled::Late } else { Settled::Applied };
    Ok(items.iter().map(settled).collect())
}

async fn pause_jobs(
    session: &mut Session<'_>,
    items: &[Item],
    jobs: &HashMap<RunId, String>,
    now: DateTime<Utc>,
) -> Result<()> {
    let pausing = items.iter().filter(|item| item.settlement.pause_job);
    let given: HashMap<&String, &Option<String>> =
        pausing.filter_map(|item| jobs.get(&item.run).map(|job| (job, &item.settlement.error))).collect();
    let given = given.into_iter().map(|(job, error)| params![job.as_str(), error.clone()]);
    session.bulk(&PAUSE, given.collect(), params![now]).await?;
    Ok(())
}

/// Of the items that hit no row: which came too late. The others were written by an earlier sending of the same.
async fn late_ones(
    session: &mut Session<'_>,
    items: &[Item],
    applied: &HashSet<RunId>,
    now: DateTime<Utc>,
) -> Result<HashSet<RunId>> {
    let missed: Vec<&Item> = items.iter().filter(|item| !applied.contains(&item.run)).collect();
    if missed.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<Uuid> = missed.iter().map(|item| item.run.0).collect();
    let mut standing = HashMap::new();
    for row in session.rows(&LOOK, params![ids]).await? {
        let mut columns = row.columns();
        standing.insert(RunId(columns.uuid()?), (columns.maybe_uuid()?, columns.word::<State>()?));
    }
    let is_late = |item: &&&Item| match standing.get(&item.run) {
        Some((lease, state)) => *lease != Some(item.fence) || *state == State::Running,
        None => !item.settlement.delete,
    };
    let late: Vec<&&Item> = missed.iter().filter(is_late).collect();
    let notes = late.iter().map(|item| params![item.run, late_note(&item.settlement)]);
    session.bulk(&NOTE_LATE, notes.collect(), params![rfc3339(now)]).await?;
    Ok(late.into_iter().map(|item| item.run).collect())
}

fn late_note(settlement: &Settlement) -> String {
    let ended = match settlement.next {
        Next::Finish { outcome, .. } => outcome.word(),
        Next::Again { .. } => "retry",
    };
    let error = settlement.error.as_deref().unwrap_or_default();
    clean::text(&format!("late result, kept and not applied: {ended} {error}"), MAX_ERROR_CHARS)
}

fn rfc3339(now: DateTime<Utc>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Millis, true)
}

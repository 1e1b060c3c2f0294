//! Retention: what is old and accounted for goes, in small batches; counts of it stay longer.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{
        job::{JobName, Keep},
        run::Outcome,
    },
    store::{
        Result, Store,
        connect::Database,
        dialect::{Sql, statements},
        row::{Param, params},
        session::{LONG, Session, count},
    },
};

/// Hours rolled up again at each upkeep: runs that finished meanwhile are counted too.
const ROLLED_UP: TimeDelta = TimeDelta::hours(2);
/// Hourly counts are kept this long.
const HOURLY_KEPT: TimeDelta = TimeDelta::days(400);
/// Replicas that left or died are kept this long.
const REPLICAS_KEPT: TimeDelta = TimeDelta::days(1);
/// Finished runs of jobs that left the job table are kept this long.
const REMOVED_KEPT: TimeDelta = TimeDelta::days(30);
/// Rows removed by one statement of the upkeep.
const BATCH: i64 = 1_000;

/// What may go of one job: finished, old enough, of the wanted outcome, and counted by the audit. The newest success
/// stays, however old: without it a monthly job would look as if it had never run.
macro_rules! prunable {
    () => {
        "r.job = $1 and r.state = 'finished'
            and r.finished_at < $4
            and (r.finished_at < $3 or r.outcome in ('success', 'partial', 'skipped'))
            and (r.finished_at < $2 or r.outcome not in ('success', 'partial', 'skipped'))
            and ({text($5)} is null or r.outcome = $5)
            and (r.scheduled_for is null or r.scheduled_for <= (select audited_until from {jobs} where name = $1))
            and r.id is distinct from (
                select s.id from {runs} s
                where s.job = $1 and s.state = 'finished' and s.outcome in ('success', 'partial')
                order by s.finished_at desc
                limit 1
            )"
    };
}

statements! {
    COUNT_PRUNABLE = Sql::both(concat!("select count(*) from {runs} r where ", prunable!()));
    PRUNE = Sql::both(concat!(
        "delete from {runs} where id in (
            select r.id from {runs} r
            where ", prunable!(), "
            order by r.finished_at
            limit $6
            {skip_locked}
        )
        returning scheduled_for"
    ));
    /// Whoever compares the ledger must know from where on it is whole.
    PRUNED = Sql::both(
        "update {jobs} set pruned_until = $2 where name = $1 and (pruned_until is null or pruned_until < $2)"
    );
    PRUNE_REMOVED = Sql::both(
        "delete from {runs} where id in (
            select r.id from {runs} r
            join {jobs} j on j.name = r.job
            where j.retired_at < $1 and r.state = 'finished' and r.finished_at < $1
            and (r.scheduled_for is null or r.scheduled_for <= j.audited_until)
            limit $2
        )
        returning job, scheduled_for"
    );
    /// Counts never shrink: rows of the hour may have been pruned since.
    ROLL_UP = Sql::both(
        "insert into {hourly} (job, hour, outcome, runs, items, duration_ms, max_lag_ms)
        select r.job, {hour(r.finished_at)}, r.outcome, count(*), coalesce(sum(r.items), 0),
            coalesce(sum(r.duration_ms), 0), coalesce(max(r.lag_ms), 0)
        from {jobs} j
        join {runs} r on r.job = j.name and r.state = 'finished' and r.finished_at >= $1 and r.finished_at < $2
        where true
        group by 1, 2, 3
        on conflict (job, hour, outcome) do update
        set runs = excluded.runs, items = excluded.items, duration_ms = excluded.duration_ms,
            max_lag_ms = excluded.max_lag_ms
        where {hourly}.runs <= excluded.runs"
    );
    FORGET_HOURS = Sql::both("delete from {hourly} where hour < $1");
    FORGET_KEYS = Sql::both("delete from {idempotency} where expires_at < $1");
    FORGET_REPLICAS = Sql::both(
        "delete from {replicas} where state <> 'live' and renewed_at < $1
        and not exists (select 1 from {runs} r where r.replica = {replicas}.id and r.state = 'running')"
    );
}

/// Which finished runs of a job may go.
#[derive(Debug, Clone)]
pub struct Pruning {
    pub job: JobName,
    /// How old a run must be, counted from its end.
    pub keep: Keep,
    /// Only runs that ended so; `None` = all.
    pub outcome: Option<Outcome>,
}

impl Pruning {
    /// The common parameters of the statements; `None` = nothing can be that old.
    fn values(&self, now: DateTime<Utc>) -> Option<Vec<Param>> {
        let before = |kept| TimeDelta::from_std(kept).ok().and_then(|kept| now.checked_sub_signed(kept));
        let (done, failed) = (before(self.keep.done)?, before(self.keep.failed)?);
        Some(params![&self.job, done, failed, done.max(failed), self.outcome.map(Outcome::word)])
    }
}

impl Store {
    /// Removes finished runs of a job that are older than its `keep` and older than its audit; at most `limit`.
    /// Returns how many.
    pub async fn prune(&self, which: &Pruning, now: DateTime<Utc>, limit: u32) -> Result<u64> {
        let Some(mut values) = which.values(now) else { return Ok(0) };
        values.push(limit.into());
        let job = which.job.clone();
        self.write(LONG, move |session| Box::pin(prune(session, job.clone(), values.clone()))).await
    }

    /// How many runs `prune` would find.
    pub async fn count_prunable(&self, which: &Pruning, now: DateTime<Utc>) -> Result<u64> {
        let Some(values) = which.values(now) else { return Ok(0) };
        self.read(move |session| {
            let values = values.clone();
            Box::pin(async move { count(session, &COUNT_PRUNABLE, values).await })
        })
        .await
    }

    /// Rolls the last hours up, forgets what is old, and lets SQLite tidy its file.
    pub async fn upkeep(&self, now: DateTime<Utc>) -> Result<()> {
        self.write(LONG, move |session| Box::pin(upkeep(session, now))).await?;
        if let Database::Sqlite(database) = &self.inner.database {
            database.tidy().await?;
        }
        Ok(())
    }
}

async fn prune(session: &mut Session<'_>, job: JobName, values: Vec<Param>) -> Result<u64> {
    let rows = session.rows(&PRUNE, values).await?;
    let instants = rows.iter().map(|row| row.columns().maybe_instant()).collect::<Result<Vec<_>>>()?;
    if let Some(newest) = instants.into_iter().flatten().max() {
        session.execute(&PRUNED, params![&job, newest]).await?;
    }
    Ok(rows.len() as u64)
}

async fn upkeep(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<()> {
    let since = now - ROLLED_UP;
    let since = since - TimeDelta::milliseconds(since.timestamp_millis().rem_euclid(3_600_000));
    session.execute(&ROLL_UP, params![since, now]).await?;
    session.execute(&FORGET_HOURS, params![now - HOURLY_KEPT]).await?;
    session.execute(&FORGET_KEYS, params![now]).await?;
    session.execute(&FORGET_REPLICAS, params![now - REPLICAS_KEPT]).await?;
    prune_removed(session, now - REMOVED_KEPT).await
}

/// Removes old rows of jobs that left the table; one of them may come back, and its ledger begins where its rows do.
async fn prune_removed(session: &mut Session<'_>, before: DateTime<Utc>) -> Result<()> {
    let mut newest: BTreeMap<JobName, DateTime<Utc>> = BTreeMap::new();
    for row in session.rows(&PRUNE_REMOVED, params![before, BATCH]).await? {
        let mut columns = row.columns();
        let (job, instant) = (columns.job()?, columns.maybe_instant()?);
        if let Some(instant) = instant {
            newest.entry(job).and_modify(|newest| *newest = instant.max(*newest)).or_insert(instant);
        }
    }
    for (job, instant) in newest {
        session.execute(&PRUNED, params![&job, instant]).await?;
    }
    Ok(())
}

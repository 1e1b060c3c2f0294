//! Retention: what is old and accounted for goes, in small batches; counts of it stay longer.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::job::{JobName, Keep},
    store::{
        Result, Store,
        connect::Database,
        dialect::{Sql, statements},
        row::params,
        session::{LONG, Session},
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

statements! {
    /// The newest success stays, however old: without it a monthly job would look as if it had never run.
    PRUNE = Sql::both(
        "delete from {runs} where id in (
            select r.id from {runs} r
            where r.job = $1 and r.state = 'finished'
            and r.finished_at < $4
            and (r.finished_at < $3 or r.outcome in ('success', 'partial', 'skipped'))
            and (r.finished_at < $2 or r.outcome not in ('success', 'partial', 'skipped'))
            and (r.scheduled_for is null or r.scheduled_for <= (select audited_until from {jobs} where name = $1))
            and r.id is distinct from (
                select s.id from {runs} s
                where s.job = $1 and s.state = 'finished' and s.outcome in ('success', 'partial')
                order by s.finished_at desc
                limit 1
            )
            order by r.finished_at
            limit $5
            {skip_locked}
        )"
    );
    PRUNE_REMOVED = Sql::both(
        "delete from {runs} where id in (
            select r.id from {runs} r
            join {jobs} j on j.name = r.job
            where j.retired_at < $1 and r.state = 'finished' and r.finished_at < $1
            and (r.scheduled_for is null or r.scheduled_for <= j.audited_until)
            limit $2
        )"
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

impl Store {
    /// Removes finished runs of a job that are older than `keep` and older than its audit; at most `limit`.
    /// Returns how many.
    pub async fn prune(&self, job: &JobName, keep: Keep, now: DateTime<Utc>, limit: u32) -> Result<u64> {
        let job = job.clone();
        let before = |kept| TimeDelta::from_std(kept).ok().and_then(|kept| now.checked_sub_signed(kept));
        let (Some(done), Some(failed)) = (before(keep.done), before(keep.failed)) else { return Ok(0) };
        self.write(LONG, move |session| {
            let values = params![&job, done, failed, done.max(failed), limit];
            Box::pin(async move { session.execute(&PRUNE, values).await })
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

async fn upkeep(session: &mut Session<'_>, now: DateTime<Utc>) -> Result<()> {
    let since = now - ROLLED_UP;
    let since = since - TimeDelta::milliseconds(since.timestamp_millis().rem_euclid(3_600_000));
    session.execute(&ROLL_UP, params![since, now]).await?;
    session.execute(&FORGET_HOURS, params![now - HOURLY_KEPT]).await?;
    session.execute(&FORGET_KEYS, params![now]).await?;
    session.execute(&FORGET_REPLICAS, params![now - REPLICAS_KEPT]).await?;
    session.execute(&PRUNE_REMOVED, params![now - REMOVED_KEPT, BATCH]).await?;
    Ok(())
}

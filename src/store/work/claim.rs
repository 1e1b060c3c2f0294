//! Claim: due runs become running, each in exactly one process (spec 4, Claim).

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        job::{Job, JobName},
        run::{Lease, Run, RunId},
    },
    store::{
        ClaimRequest, Result, Store,
        dialect::{Kind, Of, Sql, statements},
        row::{Param, params, run},
        session::{QUICK, Session},
    },
};

/// Streams looked at beyond the free slots, for those whose scope turns out to be taken.
const SPARE_STREAMS: usize = 256;

/// Exclusive work does not begin beside work of the same job that was accepted elsewhere and goes on there.
macro_rules! not_beside_accepted {
    () => {
        " and (not r.exclusive or r.resume is not null or not exists (
            select 1 from {runs} a where a.job = r.job and a.resume is not null and a.state in ('waiting', 'due')
        ))"
    };
}

/// A stream is a job's due rows that are exclusive, or those that are not. The scan hops from job to job over the
/// claim index, so neither idle jobs nor a million due rows of one job cost anything.
macro_rules! streams {
    ($scan:literal, $crashes:literal) => {
        concat!(
            "with recursive busy(job) as (
                select min(job) from {runs} where state = 'due'",
            $scan,
            "
                union all
                select (select min(r.job) from {runs} r where r.state = 'due'",
            $scan,
            " and r.job > busy.job)
                from busy where busy.job is not null
            ),
            heads(job, exclusive, work_hash, head) as (
                select j.name, kind.exclusive, j.work_hash, (
                    select r.id from {runs} r
                    where r.job = j.name and r.exclusive = kind.exclusive and r.state = 'due' and r.crashes ",
            $crashes,
            "
                    and r.due_at <= $1",
            not_beside_accepted!(),
            "
                    order by r.priority desc, r.due_at, r.id
                    limit 1
                )
                from busy
                join {jobs} j on j.name = busy.job
                cross join (select true as exclusive union all select false) as kind
                where j.retired_at is null and (j.paused_at is null or j.paused_until <= $1)
            )
            select heads.job, heads.exclusive, heads.work_hash, r.priority, r.due_at
            from heads
            join {runs} r on r.id = heads.head
            where not heads.exclusive or not exists (
                select 1 from {runs} o where o.job = heads.job and o.state = 'running' and o.exclusive
            )"
        )
    };
}

/// The dead claim nothing: a process that was stopped may wake up with a claim on its lips.
/// Peeks at the heads of the streams, shares the free slots out by priority, due_at and id, and only then locks so
/// many rows of each stream: rows that other replicas hold are skipped, and no row is locked in vain.
macro_rules! claim {
    ($crashes:literal) => {
        concat!(
            "with streams as materialized (
                select given_job as job, given_exclusive as exclusive, given_most as most
                from {given}
                join {jobs} on name = given_job
                where work_hash = given_work_hash and retired_at is null
                and (paused_at is null or paused_until <= $6)
                and not exists (select 1 from {replicas} where {replicas}.id = $7 and {replicas}.state <> 'live')
            ),
            open as materialized (
                select s.job, s.exclusive, greatest(0, least($5, coalesce(
                    s.most - (select count(*) from {runs} r where r.job = s.job and r.state = 'running'), $5
                ))) as free
                from streams s
                where not s.exclusive or not exists (
                    select 1 from {runs} r where r.job = s.job and r.state = 'running' and r.exclusive
                )
            ),
            peeked as (
                select o.job, o.exclusive, o.free, p.priority, p.due_at, p.id,
                    row_number() over (partition by o.job order by p.priority desc, p.due_at, p.id) as place
                from open o
                cross join lateral (
                    select r.priority, r.due_at, r.id from {runs} r
                    where r.job = o.job and r.exclusive = o.exclusive and r.state = 'due' and r.crashes ",
            $crashes,
            "
                    and r.due_at <= $6",
            not_beside_accepted!(),
            "
                    order by r.priority desc, r.due_at, r.id
                    limit case when o.exclusive then least(1, o.free) else o.free end
                ) p
            ),
            quotas as materialized (
                select job, exclusive, count(*) as quota
                from (
                    select job, exclusive from peeked
                    where place <= free
                    order by priority desc, due_at, id
                    limit $5
                ) chosen
                group by job, exclusive
            ),
            picked as materialized (
                select p.id as picked_id
                from quotas q
                cross join lateral (
                    select r.id from {runs} r
                    where r.job = q.job and r.exclusive = q.exclusive and r.state = 'due' and r.crashes ",
            $crashes,
            "
                    and r.due_at <= $6",
            not_beside_accepted!(),
            "
                    order by r.priority desc, r.due_at, r.id
                    limit q.quota
                    for update skip locked
                ) p
            )
            update {runs}
            set state = 'running', attempt = attempt + 1, replica = $7, lease = $8, reason = null,
                started_at = case when resume is null then {instant($6)} else coalesce(started_at, {instant($6)}) end,
                lag_ms = case when attempt = 0 then {ms($6, due_at)} else lag_ms end, progress = null,
                progress_note = null
            where id = any(array(select picked_id from picked))
            returning {run_columns}"
        )
    };
}

const GIVEN: &[(&str, Of)] = &[("job", Of::Text), ("exclusive", Of::Bool), ("most", Of::Int), ("work_hash", Of::Text)];

statements! {
    STREAMS = Sql::both(streams!("", "= 0"));
    SUSPECT_STREAMS = Sql::both(streams!(" and crashes > 0", "> 0"));
    /// A lock taken in the statement that counts would be too late: its snapshot is older than the lock.
    LOCK_SCOPES = Sql::postgres(
        "select given_job, pg_try_advisory_xact_lock(hashtextextended('{schema}.job.' || given_job, 0)) from {given}"
    )
    .given(&[("job", Of::Text)]);
    CLAIM = Sql::postgres(claim!("= 0")).given(GIVEN);
    CLAIM_SUSPECT = Sql::postgres(claim!("> 0")).given(GIVEN);
    RUNNING = Sql::sqlite("select count(*) from {runs} where job = $1 and state = 'running'");
    PEEK = Sql::sqlite(concat!(
        "select r.priority, r.due_at, r.id from {runs} r
        where r.job = $1 and r.exclusive = $2 and r.state = 'due' and r.crashes = 0 and r.due_at <= $3",
        not_beside_accepted!(),
        " order by r.priority desc, r.due_at, r.id
        limit $4"
    ));
    PEEK_SUSPECT = Sql::sqlite(concat!(
        "select r.priority, r.due_at, r.id from {runs} r
        where r.job = $1 and r.exclusive = $2 and r.state = 'due' and r.crashes > 0 and r.due_at <= $3",
        not_beside_accepted!(),
        " order by r.priority desc, r.due_at, r.id
        limit $4"
    ));
    TAKE = Sql::sqlite(
        "update {runs}
        set state = 'running', attempt = attempt + 1, replica = $2, lease = $3, reason = null,
            started_at = case when resume is null then {instant($4)} else coalesce(started_at, {instant($4)}) end,
            lag_ms = case when attempt = 0 then {ms($4, due_at)} else lag_ms end, progress = null,
            progress_note = null
        where id {in($1)}
        returning {run_columns}"
    );
}

impl Store {
    /// Claims due runs of the requested jobs, up to the free slots, by priority, due instant and age. Which of the
    /// jobs may run is decided by the database: active work, not paused, not retired, exclusive scopes and limits.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Vec<(Lease, Run)>> {
        if request.limit == 0 || request.jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (now, suspects) = (request.now, request.suspects);
        let streams = self.glance(move |session| Box::pin(streams(session, now, suspects))).await?;
        let streams = eligible(streams, request);
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        let claim = Arc::new(Claim { streams, request: request.clone() });
        let mut runs = self.write(QUICK, move |session| Box::pin(claim_within(session, Arc::clone(&claim)))).await?;
        runs.sort_by_key(|run| (Reverse(run.priority), run.due_at, run.id));
        Ok(runs.into_iter().map(|run| (Lease::granted(run.id, request.fence), run)).collect())
    }
}

/// A stream with due rows.
#[derive(Debug, Clone)]
struct Stream {
    job: JobName,
    exclusive: bool,
    work_hash: String,
    priority: i64,
    due_at: DateTime<Utc>,
    /// Most running runs of the job; `None` = no bound.
    most: Option<i64>,
}

struct Claim {
    streams: Vec<Stream>,
    request: ClaimRequest,
}

impl Claim {
    /// A suspect runs alone, so one is enough.
    fn limit(&self) -> i64 {
        if self.request.suspects { 1 } else { self.request.limit.into() }
    }
}

async fn streams(session: &mut Session<'_>, now: DateTime<Utc>, suspects: bool) -> Result<Vec<Stream>> {
    let sql = if suspects { &SUSPECT_STREAMS } else { &STREAMS };
    let rows = session.rows(sql, params![now]).await?;
    let stream = |row: &crate::store::row::Row| {
        let mut c = row.columns();
        let (job, exclusive, work_hash) = (c.job()?, c.flag()?, c.text()?);
        Ok(Stream { job, exclusive, work_hash, priority: c.int()?, due_at: c.instant()?, most: None })
    };
    rows.iter().map(stream).collect()
}

/// The streams that this replica may claim from, the most urgent first.
fn eligible(streams: Vec<Stream>, request: &ClaimRequest) -> Vec<Stream> {
    if streams.is_empty() {
        return streams;
    }
    let jobs: HashMap<&JobName, &Arc<Job>> = request.jobs.iter().map(|job| (&job.name, job)).collect();
    let mine = streams.into_iter().filter_map(|stream| {
        let job = jobs.get(&stream.job).filter(|job| job.work_hash == stream.work_hash)?;
        Some(Stream { most: job.max_running().map(i64::from), ..stream })
    });
    let mut mine: Vec<Stream> = mine.collect();
    mine.sort_by_key(|stream| (Reverse(stream.priority), stream.due_at));
    mine.truncate(request.limit as usize + SPARE_STREAMS);
    mine
}

async fn claim_within(session: &mut Session<'_>, claim: Arc<Claim>) -> Result<Vec<Run>> {
    match session.kind() {
        Kind::Postgres => claim_postgres(session, &claim).await,
        Kind::Sqlite => claim_sqlite(session, &claim).await,
    }
}

async fn claim_postgres(session: &mut Session<'_>, claim: &Claim) -> Result<Vec<Run>> {
    let locked = lock_scopes(session, &claim.streams).await?;
    let open = claim.streams.iter().filter(|stream| !stream.is_scoped() || locked.contains(&stream.job));
    let given = open.map(|stream| params![&stream.job, stream.exclusive, stream.most, stream.work_hash.as_str()]);
    let request = &claim.request;
    let sql = if request.suspects { &CLAIM_SUSPECT } else { &CLAIM };
    let scalars = params![claim.limit(), request.now, request.replica, request.fence.0];
    let rows = session.bulk(sql, given.collect(), scalars).await?;
    rows.iter().map(run).collect()
}

impl Stream {
    /// Counting and claiming must be alone in this job.
    fn is_scoped(&self) -> bool {
        self.exclusive || self.most.is_some()
    }
}

async fn lock_scopes(session: &mut Session<'_>, streams: &[Stream]) -> Result<Vec<JobName>> {
    let mut jobs: Vec<&JobName> =
        streams.iter().filter(|stream| stream.is_scoped()).map(|stream| &stream.job).collect();
    jobs.sort();
    jobs.dedup();
    let mut locked = Vec::new();
    for row in session.bulk(&LOCK_SCOPES, jobs.into_iter().map(|job| params![job]).collect(), params![]).await? {
        let mut columns = row.columns();
        let job = columns.job()?;
        if columns.flag()? {
            locked.push(job);
        }
    }
    Ok(locked)
}

/// A due row at the head of a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    urgency: (Reverse<i64>, DateTime<Utc>, RunId),
    job: JobName,
}

/// `begin immediate` is the lock: nobody else writes meanwhile.
async fn claim_sqlite(session: &mut Session<'_>, claim: &Claim) -> Result<Vec<Run>> {
    let request = &claim.request;
    let fresh = streams(session, request.now, request.suspects).await?;
    let mut heads = Vec::new();
    let mut free = HashMap::new();
    for stream in eligible(fresh, request) {
        let rows = session.rows(&RUNNING, params![&stream.job]).await?;
        let running = rows.first().map_or(Ok(0), |row| row.columns().int())?;
        free.insert(stream.job.clone(), stream.most.map_or(claim.limit(), |most| most - running));
        heads.extend(peek(session, &stream, claim).await?);
    }
    let ids: Vec<uuid::Uuid> = share_out(heads, free, claim.limit()).into_iter().map(|id| id.0).collect();
    let taken = params![ids, request.replica, request.fence.0, request.now];
    let rows = session.rows(&TAKE, taken).await?;
    rows.iter().map(run).collect()
}

async fn peek(session: &mut Session<'_>, stream: &Stream, claim: &Claim) -> Result<Vec<Head>> {
    let sql = if claim.request.suspects { &PEEK_SUSPECT } else { &PEEK };
    let most = if stream.exclusive { 1 } else { claim.limit() };
    let asked: Vec<Param> = params![&stream.job, stream.exclusive, claim.request.now, most];
    let rows = session.rows(sql, asked).await?;
    let head = |row: &crate::store::row::Row| {
        let mut c = row.columns();
        let urgency = (Reverse(c.int()?), c.instant()?, RunId(c.uuid()?));
        Ok(Head { urgency, job: stream.job.clone() })
    };
    rows.iter().map(head).collect()
}

/// The most urgent heads, no more of a job than it has free, no more in all than the limit.
fn share_out(mut heads: Vec<Head>, mut free: HashMap<JobName, i64>, limit: i64) -> Vec<RunId> {
    heads.sort();
    let fits = heads.into_iter().filter(|head| {
        let free = free.entry(head.job.clone()).or_default();
        *free -= 1;
        0 <= *free
    });
    let limit = usize::try_from(limit).unwrap_or(0);
    fits.map(|head| head.urgency.2).take(limit).collect()
}

//! Activation: which job table is the active one, and what an edit does to jobs, epochs and owed instants.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    epochs::{self, Turn},
    record::{Drafted, write},
    standing,
};
use crate::{
    domain::{
        job::{Delivery, Job, JobName},
        plan::close_epoch,
        run::ReplicaId,
        schedule::Schedule,
    },
    store::{
        Recorded, Result, Store,
        dialect::{Kind, Of, Sql, statements},
        row::params,
        session::{LONG, Session},
    },
};

/// A table that was active before comes back when no replica has held the active one for this long (spec 4).
const HELD_FOR: TimeDelta = TimeDelta::seconds(60);

statements! {
    LOCK = Sql::each(
        "select pg_advisory_xact_lock(hashtextextended('{schema}.activate', 0))",
        "select 1"
    );
    ACTIVE = Sql::both("select table_hash, revision from {job_configs} where active");
    /// Whoever asks works by this table from now on, active or not.
    WORKS_BY = Sql::both("update {replicas} set table_hash = $2 where id = $1");
    SEEN = Sql::both("select 1 from {job_configs} where table_hash = $1");
    HELD = Sql::both(
        "select 1 from {replicas}
        where table_hash = $1 and id <> $2 and renewed_at > $3
        limit 1"
    );
    DEACTIVATE = Sql::both("update {job_configs} set active = $1 where active");
    ACTIVATE = Sql::both(
        "insert into {job_configs}
            (table_hash, revision, first_seen, activated_at, activated_by, activations, active)
        values ($1, $2, $3, $3, $4, 1, $5)
        on conflict (table_hash) do update
        set revision = excluded.revision, activated_at = excluded.activated_at, activated_by = excluded.activated_by,
            activations = {job_configs}.activations + 1, active = excluded.active"
    );
    JOBS = Sql::both("select name, spec_hash, work_hash, epoch, retired_at from {jobs} order by name {for_update}");
    RENAME_JOB = Sql::both("update {jobs} set name = $1 where name = $2");
    RENAME_RUNS = Sql::both("update {runs} set job = $1 where job = $2");
    RENAME_SCHEDULES = Sql::both("update {schedules} set job = $1 where job = $2");
    RENAME_HOURLY = Sql::both("update {hourly} set job = $1 where job = $2");
    RETIRE = Sql::both("update {jobs} set retired_at = $2 where name {in($1)}");
    UPSERT = Sql::bulk(
        &[
            ("job", Of::Text), ("spec_hash", Of::Text), ("work_hash", Of::Text), ("epoch", Of::Int),
            ("from", Of::Instant), ("audit", Of::Json), ("priority", Of::Int), ("max_attempts", Of::Int),
            ("exclusive", Of::Bool), ("at_most_once", Of::Bool),
        ],
        "insert into {jobs} (
            name, spec_hash, work_hash, epoch, first_seen, planned_until, audited_until, audit, priority,
            max_attempts, exclusive, at_most_once
        )
        select given_job, given_spec_hash, given_work_hash, given_epoch, given_from, given_from, given_from,
            given_audit, given_priority, given_max_attempts, given_exclusive, given_at_most_once
        from {given}
        where true
        on conflict (name) do update
        set spec_hash = excluded.spec_hash, work_hash = excluded.work_hash, epoch = excluded.epoch,
            planned_until = case when {jobs}.epoch = excluded.epoch then {jobs}.planned_until
                else excluded.planned_until end,
            priority = excluded.priority, max_attempts = excluded.max_attempts, exclusive = excluded.exclusive,
            at_most_once = excluded.at_most_once, retired_at = null
        returning name"
    );
}

/// A request to make this job table the active one, if it may be.
#[derive(Debug, Clone)]
pub struct ActivateRequest {
    pub table_hash: String,
    /// `revision` of jobs.toml: a higher one than the active table's activates.
    pub revision: Option<i64>,
    pub jobs: Vec<Arc<Job>>,
    pub replica: ReplicaId,
    pub now: DateTime<Utc>,
    /// `workers config activate`: whatever is active.
    pub force: bool,
}

/// What an activation did.
#[derive(Debug, Clone, Default)]
pub struct Activation {
    /// This table is the active one now.
    pub active: bool,
    /// It was not before.
    pub changed: bool,
    /// The hash of the active table.
    pub active_table: String,
    pub added: Vec<JobName>,
    pub renamed: Vec<(JobName, JobName)>,
    /// Jobs whose schedule was edited, or that came back.
    pub epochs_opened: Vec<JobName>,
    pub retired: Vec<JobName>,
    /// What was owed under the old schedules and is now recorded.
    pub bill: Vec<Recorded>,
    /// Old schedules that this release cannot read: nothing was recorded for what they owed.
    pub unreadable: Vec<(JobName, String)>,
}

impl Store {
    /// Decides whether this table becomes the active one, and if so brings jobs and epochs in line with it: closes
    /// the epochs of edited and removed jobs, opens new ones. One transaction under one lock.
    pub async fn activate(&self, request: &ActivateRequest) -> Result<Activation> {
        let request = Arc::new(request.clone());
        self.write(LONG, move |session| Box::pin(activate_within(session, Arc::clone(&request)))).await
    }

    /// The hash of the active job table; `None` before the first activation.
    pub async fn active_table(&self) -> Result<Option<String>> {
        self.read(|session| Box::pin(async { Ok(active(session).await?.map(|active| active.table_hash)) })).await
    }
}

async fn activate_within(session: &mut Session<'_>, request: Arc<ActivateRequest>) -> Result<Activation> {
    session.rows(&LOCK, params![]).await?;
    session.execute(&WORKS_BY, params![request.replica, request.table_hash.as_str()]).await?;
    let active = active(session).await?;
    let same = active.as_ref().is_some_and(|active| active.table_hash == request.table_hash);
    if let Some(active) = active.filter(|_| !request.force)
        && (same || !may_replace(session, &active, &request).await?)
    {
        return Ok(Activation { active: same, active_table: active.table_hash, ..Activation::default() });
    }
    session.execute(&DEACTIVATE, params![false]).await?;
    let (hash, revision) = (request.table_hash.as_str(), request.revision);
    session.execute(&ACTIVATE, params![hash, revision, request.now, request.replica, true]).await?;
    let mut activation =
        Activation { active: true, changed: !same, active_table: hash.to_owned(), ..Activation::default() };
    sync(session, &request, &mut activation).await?;
    Ok(activation)
}

struct Active {
    table_hash: String,
    revision: Option<i64>,
}

async fn active(session: &mut Session<'_>) -> Result<Option<Active>> {
    let Some(row) = session.maybe_row(&ACTIVE, params![]).await? else { return Ok(None) };
    let mut columns = row.columns();
    Ok(Some(Active { table_hash: columns.text()?, revision: columns.maybe_int()? }))
}

/// A crash-looping deploy, or an old container that restarts in the middle of a rollout, must change nothing.
async fn may_replace(session: &mut Session<'_>, active: &Active, request: &ActivateRequest) -> Result<bool> {
    let newer = request.revision.is_some_and(|revision| active.revision.is_some_and(|active| active < revision));
    // On SQLite the file lock says that nobody else is there.
    if newer || session.kind() == Kind::Sqlite {
        return Ok(true);
    }
    if session.maybe_row(&SEEN, params![request.table_hash.as_str()]).await?.is_none() {
        return Ok(true);
    }
    let held = params![active.table_hash.as_str(), request.replica, request.now - HELD_FOR];
    Ok(session.maybe_row(&HELD, held).await?.is_none())
}

/// A job as the database has it.
struct Kept {
    spec_hash: String,
    work_hash: String,
    epoch: i64,
    retired: bool,
}

type AllKept = BTreeMap<JobName, Kept>;

async fn sync(session: &mut Session<'_>, request: &ActivateRequest, activation: &mut Activation) -> Result<()> {
    let mut kept = read_kept(session).await?;
    rename(session, request, (&mut kept, activation)).await?;
    let wanted: HashSet<&JobName> = request.jobs.iter().map(|job| &job.name).collect();
    let gone = kept.iter().filter(|(name, kept)| !kept.retired && !wanted.contains(name));
    activation.retired = gone.map(|(name, _)| name.clone()).collect();
    let edited: Vec<&Arc<Job>> = request.jobs.iter().filter(|job| is_edited(job, &kept)).collect();
    let ended = end_epochs(session, (&edited, &kept), (request.now, activation)).await?;
    let retired: Vec<String> = activation.retired.iter().map(ToString::to_string).collect();
    session.execute(&RETIRE, params![retired, request.now]).await?;
    begin(session, (&request.jobs, &kept), &ended, (request.now, activation)).await
}

async fn read_kept(session: &mut Session<'_>) -> Result<AllKept> {
    let mut all = AllKept::new();
    for row in session.rows(&JOBS, params![]).await? {
        let mut c = row.columns();
        let name = c.job()?;
        let (spec_hash, work_hash, epoch) = (c.text()?, c.text()?, c.int()?);
        all.insert(name, Kept { spec_hash, work_hash, epoch, retired: c.maybe_instant()?.is_some() });
    }
    Ok(all)
}

/// Takes history and cursor over from a job's earlier name, when the new name has none of its own.
async fn rename(
    session: &mut Session<'_>,
    request: &ActivateRequest,
    (kept, activation): (&mut AllKept, &mut Activation),
) -> Result<()> {
    let wanted: HashSet<&JobName> = request.jobs.iter().map(|job| &job.name).collect();
    for job in request.jobs.iter().filter(|job| !job.previous_names.is_empty()) {
        if kept.contains_key(&job.name) {
            continue;
        }
        let earlier = job.previous_names.iter().find(|name| kept.contains_key(name) && !wanted.contains(name));
        let Some(earlier) = earlier else { continue };
        for sql in [&RENAME_JOB, &RENAME_RUNS, &RENAME_SCHEDULES, &RENAME_HOURLY] {
            session.execute(sql, params![&job.name, earlier]).await?;
        }
        activation.renamed.push((earlier.clone(), job.name.clone()));
        let history = kept.remove(earlier).expect("it was found by this name");
        kept.insert(job.name.clone(), history);
    }
    Ok(())
}

fn spec_hash(job: &Job) -> String {
    job.schedule.as_ref().map(|schedule| schedule.hash()).unwrap_or_default()
}

/// Its open epoch must end: the schedule is another one now.
fn is_edited(job: &Job, kept: &AllKept) -> bool {
    kept.get(&job.name).is_some_and(|kept| !kept.retired && kept.spec_hash != spec_hash(job))
}

/// Plans the old schedules up to now and closes their epochs; returns where each ended.
async fn end_epochs(
    session: &mut Session<'_>,
    (edited, kept): (&[&Arc<Job>], &AllKept),
    (now, activation): (DateTime<Utc>, &mut Activation),
) -> Result<HashMap<JobName, DateTime<Utc>>> {
    let rules: HashMap<&JobName, &Arc<Job>> = edited.iter().map(|job| (&job.name, *job)).collect();
    let names = edited.iter().map(|job| &job.name).chain(&activation.retired);
    let names: Vec<JobName> = names.filter(|name| kept.contains_key(name)).cloned().collect();
    let words: Vec<String> = names.iter().map(ToString::to_string).collect();
    let standings = standing::read(session, words.clone()).await?;
    let specs = epochs::open_ones(session, words).await?;
    let mut ends = HashMap::new();
    let mut drafted = Vec::new();
    for name in names {
        let standing = standings[&name].at(now).0;
        ends.insert(name.clone(), standing.planned_until.max(now));
        let Some(spec) = specs.get(&name) else { continue };
        match Schedule::from_spec(spec) {
            Ok(old) => {
                let rules = rules.get(&name).map(|job| Arc::clone(job));
                let plan = close_epoch(rules.as_deref(), &old, &standing, now);
                drafted.push(Drafted { job: name, rules, standing, plan });
            }
            Err(reason) => activation.unreadable.push((name, reason)),
        }
    }
    activation.bill = write(session, &drafted, None, now).await?.recorded;
    let ended: Vec<_> = ends.iter().map(|(job, at)| (job.clone(), *at)).collect();
    epochs::close(session, &ended).await?;
    Ok(ends)
}

/// Writes new, edited, returned and otherwise changed jobs, and opens the epochs that begin.
async fn begin(
    session: &mut Session<'_>,
    (jobs, kept): (&[Arc<Job>], &AllKept),
    ended: &HashMap<JobName, DateTime<Utc>>,
    (now, activation): (DateTime<Utc>, &mut Activation),
) -> Result<()> {
    let mut given = Vec::new();
    let mut turns = Vec::new();
    for job in jobs {
        let hash = spec_hash(job);
        let at = ended.get(&job.name).copied().unwrap_or(now);
        let epoch = match kept.get(&job.name) {
            // A job seen for the first time owes nothing from before.
            None => {
                activation.added.push(job.name.clone());
                1
            }
            Some(kept) if kept.retired || kept.spec_hash != hash => {
                activation.epochs_opened.push(job.name.clone());
                kept.epoch + 1
            }
            Some(kept) if kept.work_hash != job.work_hash => kept.epoch,
            Some(_) => continue,
        };
        given.push(params![
            &job.name,
            hash,
            job.work_hash.as_str(),
            epoch,
            at,
            serde_json::json!({}),
            job.policy.priority,
            job.policy.retry.max_attempts,
            job.is_exclusive(),
            job.policy.delivery == Delivery::AtMostOnce,
        ]);
        if kept.get(&job.name).is_none_or(|kept| kept.epoch != epoch) {
            turns.push(Turn { job, epoch, at });
        }
    }
    session.bulk(&UPSERT, given, params![]).await?;
    epochs::open(session, &turns).await
}

//! Plan: the owed instants of many jobs become rows, in one transaction (spec 4, Plan).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    record::{Drafted, Starter, write},
    standing::{self, Found},
};
use crate::{
    domain::{
        job::{Job, JobName},
        plan::plan,
        run::{Fence, ReplicaId},
    },
    store::{
        Planned, Result, Store,
        dialect::{Of, Sql, statements},
        row::params,
        session::{QUICK, Session},
    },
};

/// Rows of one transaction, and jobs of one: the rest is planned in the next.
const MOST_ROWS: usize = 1_000;

statements! {
    /// Whose lease was lost may plan, and starts nothing.
    /// The locks come first, in a statement of their own: what is read next is read by a newer snapshot.
    LOCK = Sql::each(
        "with locked as materialized (
            select name, given_exclusive as exclusive
            from {jobs}, {given}
            where name = given_job and spec_hash = given_spec_hash and retired_at is null
            for update of jobs skip locked
        )
        select name, not exists (select 1 from {replicas} where id = $4 and state <> 'live') and case when exclusive
            then pg_try_advisory_xact_lock(hashtextextended('{schema}.job.' || name, 0)) else true end
        from locked",
        "select name, $4 is not null from {jobs}, {given}
        where name = given_job and spec_hash = given_spec_hash and retired_at is null and given_exclusive in (0, 1)"
    )
    .given(&[("job", Of::Text), ("spec_hash", Of::Text), ("exclusive", Of::Bool)]);
    END_PAUSE = Sql::both(
        "update {jobs} set paused_at = null, paused_until = null, paused_reason = null
        where name {in($1)} and paused_until <= $2 and paused_until <= planned_until"
    );
}

/// A request to plan these jobs up to `now`.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    pub jobs: Vec<Arc<Job>>,
    pub replica: ReplicaId,
    /// Of the runs that are born running; chosen before the statement is sent.
    pub fence: Fence,
    pub now: DateTime<Utc>,
    /// Scheduled slots that are free: at most so many rows are born running.
    pub free_slots: u32,
}

impl Store {
    /// Plans what these jobs owe, in one transaction of at most 1,000 jobs and about as many rows; `more` names the
    /// jobs that are left. Every replica may; the cursor and the unique key decide.
    pub async fn plan(&self, request: &PlanRequest) -> Result<Planned> {
        let request = Arc::new(request.clone());
        self.write(QUICK, move |session| Box::pin(plan_within(session, Arc::clone(&request)))).await
    }
}

async fn plan_within(session: &mut Session<'_>, request: Arc<PlanRequest>) -> Result<Planned> {
    let (jobs, rest) = request.jobs.split_at(request.jobs.len().min(MOST_ROWS));
    let mut planned = Planned { more: rest.iter().map(|job| job.name.clone()).collect(), ..Planned::default() };
    let locked = lock(session, jobs, &request).await?;
    let found = standing::read(session, jobs.iter().map(|job| job.name.to_string()).collect()).await?;
    let drafted = draft(jobs, (&locked, &found), request.now, &mut planned);
    let startable = drafted.iter().filter(|draft| is_startable(draft, &locked, &found));
    let starter = Starter {
        replica: request.replica,
        fence: request.fence,
        slots: request.free_slots,
        jobs: startable.map(|draft| draft.job.clone()).collect(),
    };
    let written = write(session, &drafted, Some(starter), request.now).await?;
    end_pauses(session, &drafted, &found).await?;
    planned.recorded = written.recorded;
    planned.started = written.started;
    Ok(planned)
}

/// Locks the job rows that nobody else holds, and the scopes of as many exclusive jobs as could start.
/// Returns for each whether its scope is ours.
async fn lock(session: &mut Session<'_>, jobs: &[Arc<Job>], request: &PlanRequest) -> Result<HashMap<JobName, bool>> {
    let mut free = request.free_slots;
    let mut unasked = HashSet::new();
    let mut given = Vec::with_capacity(jobs.len());
    for job in jobs {
        let ask = job.is_exclusive() && job.may_start_at_once() && 0 < free;
        if ask {
            free -= 1;
        } else if job.is_exclusive() {
            unasked.insert(&job.name);
        }
        let hash = job.schedule.as_ref().map(|schedule| schedule.hash()).unwrap_or_default();
        given.push(params![&job.name, hash, ask]);
    }
    let mut locked = HashMap::new();
    for row in session.bulk(&LOCK, given, params![request.replica]).await? {
        let mut columns = row.columns();
        let (job, scope) = (columns.job()?, columns.flag()?);
        let ours = scope && !unasked.contains(&job);
        locked.insert(job, ours);
    }
    Ok(locked)
}

type Known<'a> = (&'a HashMap<JobName, bool>, &'a HashMap<JobName, Found>);

/// Runs the pure plan for each job we hold, and says of the others why we do not.
fn draft(jobs: &[Arc<Job>], (locked, found): Known<'_>, now: DateTime<Utc>, planned: &mut Planned) -> Vec<Drafted> {
    let mut drafted: Vec<Drafted> = Vec::new();
    let mut rows = 0;
    for job in jobs {
        let Some(found) = found.get(&job.name).filter(|found| is_ours(job, found)) else {
            planned.foreign.push(job.name.clone());
            continue;
        };
        let cursor = found.standing.planned_until;
        if !locked.contains_key(&job.name) {
            planned.locked.push(job.name.clone());
            planned.cursors.push((job.name.clone(), cursor));
            continue;
        }
        if MOST_ROWS <= rows {
            planned.more.push(job.name.clone());
            continue;
        }
        let (standing, until) = found.at(now);
        let plan = plan(job, &standing, until);
        rows += plan.rows.len() + usize::from(plan.fold.is_some());
        planned.cursors.push((job.name.clone(), plan.planned_until));
        if plan.more || until < now {
            planned.more.push(job.name.clone());
        }
        drafted.push(Drafted { job: job.name.clone(), rules: Some(Arc::clone(job)), standing, plan });
    }
    drafted
}

fn is_ours(job: &Job, found: &Found) -> bool {
    let hash = job.schedule.as_ref().map(|schedule| schedule.hash()).unwrap_or_default();
    found.retired_at.is_none() && found.spec_hash == hash
}

/// Whether runs of this job may be born running: its scope is ours, and so is the active work.
fn is_startable(draft: &Drafted, locked: &HashMap<JobName, bool>, found: &HashMap<JobName, Found>) -> bool {
    let active = found.get(&draft.job).map(|found| found.work_hash.as_str());
    let same_work = draft.rules.as_ref().is_some_and(|job| Some(job.work_hash.as_str()) == active);
    same_work && locked.get(&draft.job) == Some(&true)
}

async fn end_pauses(session: &mut Session<'_>, drafted: &[Drafted], found: &HashMap<JobName, Found>) -> Result<()> {
    for draft in drafted {
        let end = found.get(&draft.job).and_then(|found| found.paused_until);
        if let Some(end) = end.filter(|end| *end <= draft.plan.planned_until) {
            session.execute(&END_PAUSE, params![vec![draft.job.to_string()], end]).await?;
        }
    }
    Ok(())
}

//! Pause and resume: a paused job owes nothing for the time of its pause.

use chrono::{DateTime, Utc};

use super::{
    epochs,
    record::{Drafted, write},
    standing,
};
use crate::{
    domain::{
        job::JobName,
        plan::{Fate, Plan, close_epoch},
        run::Reason,
        schedule::Schedule,
    },
    store::{
        Result, Store, StoreError,
        dialect::{Sql, statements},
        row::params,
        session::{QUICK, Session},
    },
};

statements! {
    PAUSE = Sql::both(
        "update {jobs} set paused_at = $2, paused_until = $3, paused_reason = $4
        where name = $1 and retired_at is null"
    );
    LOCK = Sql::both("select 1 from {jobs} where name = $1 and retired_at is null {for_update}");
    RESUME = Sql::both(
        "update {jobs} set paused_at = null, paused_until = null, paused_reason = null where name = $1"
    );
}

impl Store {
    /// Pauses a job: its instants become `skipped: paused`, what waits for it stays and is not claimed. With `until`
    /// it goes on by itself.
    ///
    /// # Errors
    /// `NotFound` when no active job table has the job.
    pub async fn pause(
        &self,
        job: &JobName,
        reason: &str,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let (name, reason) = (job.to_string(), reason.to_owned());
        let paused = self
            .write(QUICK, move |session| {
                let values = params![name.as_str(), now, until, reason.as_str()];
                Box::pin(async move { session.execute(&PAUSE, values).await })
            })
            .await?;
        if paused == 0 { Err(not_found(job)) } else { Ok(()) }
    }

    /// Ends a pause. Instants of the pause that nobody recorded (the daemon was down) become `skipped: paused` first.
    ///
    /// # Errors
    /// `NotFound` when no active job table has the job.
    pub async fn resume(&self, job: &JobName, now: DateTime<Utc>) -> Result<()> {
        let job = job.clone();
        self.write(QUICK, move |session| Box::pin(resume(session, job.clone(), now))).await
    }
}

async fn resume(session: &mut Session<'_>, job: JobName, now: DateTime<Utc>) -> Result<()> {
    if session.maybe_row(&LOCK, params![&job]).await?.is_none() {
        return Err(not_found(&job));
    }
    let found = standing::read(session, vec![job.to_string()]).await?.remove(&job).expect("it is locked");
    let specs = epochs::open_ones(session, vec![job.to_string()]).await?;
    let (standing, until) = found.at(now);
    if let Some(spec) = specs.get(&job).filter(|_| standing.paused) {
        let old = Schedule::from_spec(spec).map_err(StoreError::Other)?;
        let plan = skipped_as_paused(close_epoch(None, &old, &standing, until));
        write(session, &[Drafted { job: job.clone(), rules: None, standing, plan }], None, now).await?;
    }
    session.execute(&RESUME, params![&job]).await?;
    Ok(())
}

/// The plan of an end that skips all, with the reason of a pause.
fn skipped_as_paused(mut plan: Plan) -> Plan {
    for row in plan.rows.iter_mut().chain(plan.fold.iter_mut().map(|fold| &mut fold.row)) {
        row.fate = Fate::Skip(Reason::Paused);
    }
    plan
}

fn not_found(job: &JobName) -> StoreError {
    StoreError::NotFound(format!("no job {:?} in the active job table", job.as_str()))
}

//! Epochs: each schedule of a job with the time during which it was the active one.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        job::{Job, JobName},
        ledger::Epoch,
        schedule::ScheduleSpec,
    },
    store::{
        Result, Store,
        dialect::{Of, Sql, statements},
        row::{Columns, params},
        session::Session,
    },
};

statements! {
    OPEN_ONES = Sql::both(
        "select job, schedule, timezone, dst, zone_data_version from {schedules}
        where valid_until is null and job {in($1)}"
    );
    ALL = Sql::both(
        "select job, epoch, valid_from, valid_until, schedule, timezone, dst, zone_data_version from {schedules}
        where job {in($1)}
        order by job, epoch"
    );
    CLOSE = Sql::bulk(
        &[("job", Of::Text), ("until", Of::Instant)],
        "update {schedules} set valid_until = given_until
        from {given}
        where job = given_job and valid_until is null
        returning job"
    );
    OPEN = Sql::bulk(
        &[
            ("job", Of::Text), ("epoch", Of::Int), ("schedule", Of::Text), ("timezone", Of::Text), ("dst", Of::Text),
            ("zone_data_version", Of::Text), ("from", Of::Instant),
        ],
        "insert into {schedules} (job, epoch, schedule, timezone, dst, zone_data_version, valid_from)
        select given_job, given_epoch, given_schedule, given_timezone, given_dst, given_zone_data_version, given_from
        from {given}
        returning job"
    );
}

/// A job whose epoch ends or begins at an instant.
pub(super) struct Turn<'a> {
    pub job: &'a Job,
    pub epoch: i64,
    pub at: DateTime<Utc>,
}

/// The open schedules of these jobs; queues have none.
pub(super) async fn open_ones(session: &mut Session<'_>, jobs: Vec<String>) -> Result<HashMap<JobName, ScheduleSpec>> {
    let mut specs = HashMap::new();
    for row in session.rows(&OPEN_ONES, params![jobs]).await? {
        let mut columns = row.columns();
        let job = columns.job()?;
        if let Some(spec) = spec(&mut columns)? {
            specs.insert(job, spec);
        }
    }
    Ok(specs)
}

pub(super) async fn close(session: &mut Session<'_>, ended: &[(JobName, DateTime<Utc>)]) -> Result<()> {
    let given = ended.iter().map(|(job, at)| params![job, *at]).collect();
    session.bulk(&CLOSE, given, params![]).await?;
    Ok(())
}

pub(super) async fn open(session: &mut Session<'_>, begun: &[Turn<'_>]) -> Result<()> {
    let given = begun.iter().map(|turn| {
        let spec = turn.job.schedule.as_ref().map(|schedule| schedule.spec());
        let of = |field: fn(ScheduleSpec) -> String| spec.clone().map(field);
        params![
            &turn.job.name,
            turn.epoch,
            of(|spec| spec.schedule),
            of(|spec| spec.timezone),
            of(|spec| spec.dst),
            of(|spec| spec.zone_data_version),
            turn.at,
        ]
    });
    session.bulk(&OPEN, given.collect(), params![]).await?;
    Ok(())
}

fn spec(columns: &mut Columns<'_>) -> Result<Option<ScheduleSpec>> {
    let (schedule, timezone) = (columns.maybe_text()?, columns.maybe_text()?);
    let (dst, zone_data_version) = (columns.maybe_text()?, columns.maybe_text()?);
    Ok(schedule.map(|schedule| ScheduleSpec {
        schedule,
        timezone: timezone.unwrap_or_default(),
        dst: dst.unwrap_or_default(),
        zone_data_version: zone_data_version.unwrap_or_default(),
    }))
}

impl Store {
    /// The epochs of a job, oldest first.
    pub async fn epochs(&self, job: &JobName) -> Result<Vec<Epoch>> {
        let job = job.to_string();
        self.read(move |session| Box::pin(of_job(session, job.clone()))).await
    }
}

pub(super) async fn of_job(session: &mut Session<'_>, job: String) -> Result<Vec<Epoch>> {
    Ok(all(session, vec![job]).await?.into_values().next().unwrap_or_default())
}

/// All epochs of these jobs, oldest first.
pub(super) async fn all(session: &mut Session<'_>, jobs: Vec<String>) -> Result<HashMap<JobName, Vec<Epoch>>> {
    let mut all: HashMap<JobName, Vec<Epoch>> = HashMap::new();
    for row in session.rows(&ALL, params![jobs]).await? {
        let mut columns = row.columns();
        let (job, epoch) = (columns.job()?, columns.int()?);
        let (valid_from, valid_until) = (columns.instant()?, columns.maybe_instant()?);
        let schedule = spec(&mut columns)?;
        all.entry(job).or_default().push(Epoch { epoch, schedule, valid_from, valid_until });
    }
    Ok(all)
}

//! Queues for people: what stands in each, and what becomes of dead letters; in the database itself, beside a daemon or
//! without one.

mod letters;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time;

use super::opening::app_database;
use crate::{
    domain::{
        health::{JobStats, QueueFigures},
        job::JobName,
        run::Failure,
    },
    engine::queues::{LOOK_LIMIT, is_on, looking, too_slow},
    handlers::{QueueLook, Tools},
    job_table::{Entry, JobTable},
    store::{Depth, Store, StoreError},
};

pub use letters::{DeadLetter, Decided, Decision, Letters, Trouble, Verdict, Which};

/// The table that `run.fila` drains; its name is understood where a queue is asked for.
pub const FILA: &str = "fila_mensagens";

/// One queue, and how it stands.
#[derive(Debug, Clone, Serialize)]
pub struct QueueLine {
    /// The job that works it off.
    pub queue: JobName,
    pub handler: &'static str,
    /// What is due. `None` = it could not be seen, and `problem` says why.
    pub size: Option<i64>,
    /// What waits for a later moment.
    pub later: Option<i64>,
    pub oldest_age_seconds: Option<i64>,
    pub running: Option<i64>,
    pub stuck: Option<i64>,
    /// Rows given up and left to a person; of a queue of runs, those that failed within 24 h.
    pub failed: Option<i64>,
    pub problem: Option<String>,
}

/// Every queue of the table: rows that a job drains, and runs of jobs without a schedule. As in the daemon, no table of a job that
/// is switched off is looked at.
pub async fn queues(
    store: &Store,
    table: &JobTable,
    (now, may_create): (DateTime<Utc>, bool),
) -> Result<Vec<QueueLine>, StoreError> {
    let runs = store.figures_of(Depth::Day, now).await?.jobs;
    let tools = Tools { create_team_tables: may_create, ..Tools::new(table.targets.clone()) };
    let mut lines = Vec::new();
    for entry in table.jobs.values() {
        let database = looking(store, app_database(store));
        let look = QueueLook { job: Arc::clone(&entry.job), now, tools: tools.clone(), database };
        let seen = match is_on(entry) {
            true => time::timeout(LOOK_LIMIT, entry.work.look(look)).await.unwrap_or_else(|_| Some(Err(too_slow()))),
            false => None,
        };
        match seen {
            Some(seen) => lines.push(of_table(entry, seen, runs.get(&entry.job.name))),
            None if entry.job.schedule.is_none() => lines.push(of_runs(entry, &runs, now)),
            None => {}
        }
    }
    Ok(lines)
}

fn of_table(entry: &Entry, seen: Result<QueueFigures, Failure>, stats: Option<&JobStats>) -> QueueLine {
    let blank = blank(entry);
    match seen {
        Ok(figures) => QueueLine {
            size: Some(figures.left),
            later: figures.later,
            oldest_age_seconds: Some(figures.oldest_age(figures.at).num_seconds()),
            running: figures.running.or(stats.map(|stats| stats.running)),
            stuck: figures.stuck,
            failed: figures.failed,
            ..blank
        },
        Err(failure) => QueueLine { problem: Some(failure.message), ..blank },
    }
}

fn of_runs(entry: &Entry, runs: &BTreeMap<JobName, JobStats>, now: DateTime<Utc>) -> QueueLine {
    let stats = runs.get(&entry.job.name);
    let of = |number: fn(&JobStats) -> i64| Some(stats.map_or(0, number));
    let oldest = stats.and_then(|stats| stats.oldest_due).map_or(0, |due| (now - due).num_seconds().max(0));
    QueueLine {
        size: of(|stats| stats.waiting),
        oldest_age_seconds: Some(oldest),
        running: of(|stats| stats.running),
        failed: of(|stats| stats.day.failures()),
        ..blank(entry)
    }
}

fn blank(entry: &Entry) -> QueueLine {
    QueueLine {
        queue: entry.job.name.clone(),
        handler: entry.work.name(),
        size: None,
        later: None,
        oldest_age_seconds: None,
        running: None,
        stuck: None,
        failed: None,
        problem: None,
    }
}

//! `runs prune`: old rows go before their time, in small batches.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::books::Books;
use crate::{
    cli::{
        exit::{Exit, Stop},
        given::moment,
        output::{Column, Output, remark},
        progress::Progress,
    },
    domain::{job::Keep, run::Outcome},
    store::{JobRow, Pruning},
};

/// Rows of one transaction: a daemon beside us must not wait.
const BATCH: u32 = 500;

#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Only runs of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Runs that finished longer ago than this, such as 7d [default: the job's own `keep`]
    #[arg(long, value_name = "DURATION", value_parser = moment::length)]
    pub older_than: Option<Duration>,
    /// Only runs that ended so
    #[arg(long)]
    pub outcome: Option<Outcome>,
    /// Say how many it would be, and remove none
    #[arg(long)]
    pub dry_run: bool,
}

/// A line of the answer.
#[derive(Serialize)]
struct Line {
    job: String,
    /// Runs that went, or would go.
    runs: u64,
    dry_run: bool,
}

pub async fn prune(books: &Books, arguments: PruneArguments, output: Output) -> anyhow::Result<Exit> {
    let mut rows = books.store.job_rows().await?;
    if let Some(name) = &arguments.job {
        let job = books.known(name).await?;
        rows.retain(|row| row.name == job);
    }
    let mut all = Vec::new();
    for row in rows {
        let Some(keep) = keep(books, &row, &arguments)? else { continue };
        let which = Pruning { job: row.name, keep, outcome: arguments.outcome };
        let found = books.store.count_prunable(&which, books.now).await?;
        all.push((which, found));
    }
    let total = all.iter().map(|(_, found)| found).sum();
    let (mut bar, mut lines) = (Progress::new("pruning", total), Vec::new());
    for (which, found) in all {
        let runs = if arguments.dry_run { found } else { remove(books, &which, &mut bar).await? };
        if 0 < runs || arguments.job.is_some() {
            lines.push(Line { job: which.job.to_string(), runs, dry_run: arguments.dry_run });
        }
    }
    drop(bar);
    let columns = if arguments.dry_run { &WOULD_GO } else { &GONE };
    output.list(&lines, columns)?;
    if lines.iter().all(|line| line.runs == 0) {
        remark("nothing is old enough, or the audit has not counted it yet: the service audits once a minute");
    }
    Ok(Exit::Ok)
}

const GONE: [Column<Line>; 2] = [("JOB", |line| line.job.clone()), ("PRUNED", |line| line.runs.to_string())];
const WOULD_GO: [Column<Line>; 2] = [("JOB", |line| line.job.clone()), ("WOULD GO", |line| line.runs.to_string())];

/// How long runs of this job stay; `None` = nobody says so, and the service will see to it.
fn keep(books: &Books, row: &JobRow, arguments: &PruneArguments) -> Result<Option<Keep>, Stop> {
    if let Some(age) = arguments.older_than {
        return Ok(Some(Keep { done: age, failed: age }));
    }
    let of_table = books.table.job(&row.name).map(|job| job.policy.keep);
    if of_table.is_none() && arguments.job.is_some() {
        let message =
            format!("job {:?} is not in the job table, which would say how long: give --older-than", row.name.as_str());
        return Err(Stop::new(Exit::Usage, message));
    }
    Ok(of_table)
}

async fn remove(books: &Books, which: &Pruning, bar: &mut Progress) -> anyhow::Result<u64> {
    let mut removed = 0;
    loop {
        let batch = books.store.prune(which, books.now, BATCH).await?;
        removed += batch;
        bar.add(batch);
        if batch < u64::from(BATCH) {
            return Ok(removed);
        }
    }
}

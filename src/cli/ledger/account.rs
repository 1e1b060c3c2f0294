//! `ledger`: every due instant accounted for, by comparing sets (spec 4, Conservation).

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;

use super::books::Books;
use crate::{
    cli::{
        exit::{Exit, Stop},
        given::moment,
        output::{Column, Output, line, remark},
    },
    domain::{
        job::Job,
        ledger::{Account, reconcile},
    },
    store::JobRow,
};

/// Instants are compared in stretches of this length, so that a long history needs little memory.
const STRETCH: TimeDelta = TimeDelta::days(2);

#[derive(Debug, Args)]
pub struct LedgerArguments {
    /// Only this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Only instants after this one: RFC 3339 or a date
    #[arg(long, value_name = "INSTANT", value_parser = moment::instant)]
    pub from: Option<DateTime<Utc>>,
    /// Only instants up to this one [default: all that are planned]
    #[arg(long, value_name = "INSTANT", value_parser = moment::instant)]
    pub to: Option<DateTime<Utc>>,
}

/// A line of the account.
#[derive(Serialize)]
struct Line {
    job: String,
    #[serde(flatten)]
    account: Account,
    unexplained: i64,
}

/// Prints the account of each job and of all; exit 1 when an instant is unexplained.
pub async fn ledger(books: &Books, arguments: &LedgerArguments, output: Output) -> anyhow::Result<Exit> {
    if let Some(name) = &arguments.job {
        books.known(name).await?;
    }
    let rows = books.store.job_rows().await?;
    let wanted = |row: &&JobRow| arguments.job.as_ref().is_none_or(|name| row.name.as_str() == name);
    let mut lines = Vec::new();
    for row in rows.iter().filter(wanted) {
        let account = account(books, row, arguments).await?;
        lines.push(Line { job: row.name.to_string(), unexplained: account.unexplained(), account });
    }
    if let (Some(name), true) = (&arguments.job, lines.is_empty()) {
        let message = format!("job {name:?} is not in the ledger yet: start the service with this job table");
        return Err(Stop::new(Exit::NotFound, message).into());
    }
    let mut total = Account::default();
    lines.iter().for_each(|line| total.add(&line.account));
    let unexplained = total.unexplained();
    if arguments.job.is_none() {
        lines.push(Line { job: "total".into(), unexplained, account: total });
    }
    output.list(&lines, &COLUMNS)?;
    if output == Output::Table {
        line(&format!("\nunexplained {unexplained}"))?;
    }
    Ok(if unexplained == 0 { Exit::Ok } else { Exit::Failed })
}

const COLUMNS: [Column<Line>; 10] = [
    ("JOB", |line| line.job.clone()),
    ("EXPECTED", |line| line.account.expected.to_string()),
    ("RAN", |line| line.account.ran.to_string()),
    ("LATE", |line| line.account.late.to_string()),
    ("OPEN", |line| line.account.open.to_string()),
    ("SKIPPED", |line| skipped(&line.account.skipped)),
    ("MISSING", |line| line.account.missing.to_string()),
    ("DOUBLED", |line| line.account.doubled.to_string()),
    ("EXTRA", |line| line.account.extra.to_string()),
    ("UNEXPLAINED", |line| line.unexplained.to_string()),
];

fn skipped(reasons: &BTreeMap<String, i64>) -> String {
    if reasons.is_empty() {
        return "0".into();
    }
    reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}

async fn account(books: &Books, row: &JobRow, arguments: &LedgerArguments) -> anyhow::Result<Account> {
    let Some(planned_until) = row.planned_until else { return Ok(Account::default()) };
    let kept_from = kept_from(books.table.job(&row.name), row, books.now);
    let is_whole = arguments.from.is_none() && arguments.to.is_none();
    match (is_whole, row.audited_until) {
        // Some rows are gone: the audit counted them while they were there.
        (true, Some(audited_until)) if row.first_seen < kept_from => {
            let mut account = row.audit.clone();
            account.add(&compare(books, row, audited_until, planned_until).await?);
            Ok(account)
        }
        _ => {
            let from = arguments.from.unwrap_or(row.first_seen).max(row.first_seen);
            let until = arguments.to.unwrap_or(planned_until).min(planned_until);
            if from < kept_from {
                let since = kept_from.to_rfc3339_opts(SecondsFormat::Secs, true);
                remark(&format!("{}: rows from before {since} may be gone; the account begins there", row.name));
            }
            compare(books, row, from.max(kept_from), until).await
        }
    }
}

/// Rows that finished after this instant are still there.
fn kept_from(job: Option<&Arc<Job>>, row: &JobRow, now: DateTime<Utc>) -> DateTime<Utc> {
    let Some(job) = job else { return row.audited_until.unwrap_or(row.first_seen) };
    let kept = TimeDelta::from_std(job.policy.keep.done.min(job.policy.keep.failed)).unwrap_or(TimeDelta::MAX);
    let by_age = now.checked_sub_signed(kept).unwrap_or(row.first_seen).max(row.first_seen);
    // `runs prune` may have taken what the table would have kept.
    row.pruned_until.map_or(by_age, |pruned| pruned.max(by_age))
}

async fn compare(books: &Books, row: &JobRow, from: DateTime<Utc>, until: DateTime<Utc>) -> anyhow::Result<Account> {
    let epochs = books.store.epochs(&row.name).await?;
    let (mut total, mut from) = (Account::default(), from);
    while from < until {
        let stretch_end = (from + STRETCH).min(until);
        let entries = books.store.ledger_entries(&row.name, from, stretch_end).await?;
        let account = reconcile(&epochs, &entries, from, stretch_end);
        total.add(&account.map_err(|error| Stop::new(Exit::Failed, format!("{}: {error}", row.name)))?);
        from = stretch_end;
    }
    Ok(total)
}

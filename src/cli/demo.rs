//! `demo`: fills an empty database with an invented team, and says what to look at.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::{
    exit::Exit,
    load::Loaded,
    output::{Output, line, named},
    progress::Progress,
};
use crate::serve::{self, Demonstration};

/// What shows work being done, in the order in which a newcomer would ask.
const NEXT: [(&str, &str); 5] = [
    (
        "workers",
        "the daemon: the queue is worked on every 30 s; the limits of [outbound] let some messages an hour go out",
    ),
    ("curl -s localhost:8000/health/fila", "how the queue stands"),
    ("workers trigger handoff_processor --wait", "any job now, not when it is due"),
    ("workers runs list", "what ran, and how it ended"),
    ("workers ledger", "the account of every due instant"),
];

pub async fn demo(loaded: &Loaded, output: Output) -> anyhow::Result<Exit> {
    let mut bar: Option<(Progress, u64)> = None;
    let mut told = |left: u64| {
        let (bar, before) = bar.get_or_insert_with(|| (Progress::new("inventing", left), left));
        bar.add(before.saturating_sub(left));
        *before = left;
    };
    let made = serve::demonstrate(&loaded.config, &loaded.table, &mut told).await;
    drop(bar);
    let made = made?;
    match output {
        Output::Table => line(&text(&made))?,
        Output::Json | Output::Jsonl => output.thing(&shown(&made), &[])?,
    }
    Ok(Exit::Ok)
}

fn shown(made: &Demonstration) -> Value {
    let tables: serde_json::Map<String, Value> =
        made.tables.iter().map(|filled| (filled.table.to_owned(), filled.rows.into())).collect();
    let rows: u64 = made.tables.iter().map(|filled| filled.rows).sum();
    json!({
        "database": made.database,
        "around": made.now.to_rfc3339_opts(SecondsFormat::Millis, true),
        "timezone": made.zone.name(),
        "tables": tables,
        "rows": rows,
        "next": NEXT.map(|(command, _)| command),
    })
}

fn text(made: &Demonstration) -> String {
    let mut tables: Vec<(&str, String)> =
        made.tables.iter().map(|filled| (filled.table, filled.rows.to_string())).collect();
    let rows: u64 = made.tables.iter().map(|filled| filled.rows).sum();
    tables.push(("total", rows.to_string()));
    let next = NEXT.map(|(command, what)| (command, what.to_owned()));
    format!(
        "invented people, messages and shifts around {} in {}\n\n{}\n\nNobody of them exists: the numbers have the area code 00, \
         which no telephone has.\n\nWhat to look at:\n{}",
        made.zone.shown(made.now),
        made.database,
        named(&tables),
        named(&next).lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    )
}

//! `workers explain` and `workers next`: what they answer, as text and as JSON.

use std::collections::BTreeMap;

use clap::Parser;
use emponto::{
    cli::schedule::{ExplainArguments, Mistake, NextArguments, explain, next, next_json, next_text},
    job_table::{self, Environment, JobTable},
};
use serde_json::json;

use crate::instant;

const NOW: &str = "2026-11-20T12:00:00Z";

const TABLE: &str = r#"
version = 1
[defaults]
timezone = "America/Sao_Paulo"
[jobs.retomada]
at = "08:00"
days = "mon-fri"
run.noop = {}
[jobs.fila]
every = "10min"
run.noop = {}
[jobs.mensagens]
run.noop = {}
[jobs.parado]
every = "1min"
enabled = false
run.noop = {}
"#;

#[derive(Parser)]
enum Command {
    Explain(ExplainArguments),
    Next(Box<NextArguments>),
}

fn table() -> JobTable {
    job_table::parse(TABLE, "jobs.toml", &Environment::new(BTreeMap::new())).unwrap()
}

#[track_caller]
fn explained(words: &[&str]) -> Result<String, Mistake> {
    let Command::Explain(arguments) = Command::parse_from([&["workers", "explain"], words].concat()) else { panic!() };
    explain(&arguments, instant(NOW)).map(|explanation| explanation.text())
}

/// JSON and text of the answer.
#[track_caller]
fn asked(words: &[&str]) -> Result<(serde_json::Value, String), Mistake> {
    let Command::Next(arguments) = Command::parse_from([&["workers", "next"], words].concat()) else { panic!() };
    next(&arguments, instant(NOW), Some(&table())).map(|firings| (next_json(&firings), next_text(&firings)))
}

#[test]
fn an_expression_is_explained_with_words_fields_zone_firings_and_clock_changes() {
    let text = explained(&["0 2 * * mon-sun", "--timezone", "America/New_York", "-n", "2"]).unwrap();

    let version = emponto::domain::schedule::zone::version();
    assert_eq!(
        text,
        format!(
            "\
0 2 * * mon-sun
               at 02:00 on Monday to Sunday (America/New_York)
second         0
minute         0
hour           2
day-of-month   *
month          *
day-of-week    MON-SUN
zone           America/New_York (zone data {version})
clock changes  a time that is skipped is due right after the gap; a time that comes twice is due the first time
next           Sat 2026-11-21 02:00:00 -05:00  2026-11-21T07:00:00Z
               Sun 2026-11-22 02:00:00 -05:00  2026-11-22T07:00:00Z
note           2027-03-14 02:00 is skipped by the clock in America/New_York: due at 03:00 instead"
        )
    );
}

#[test]
fn intervals_and_times_of_day_are_explained_too() {
    let every = explained(&["every 1d"]).unwrap();
    let at = explained(&["at 08:00 mon-fri", "--timezone", "Africa/Casablanca"]).unwrap();

    assert!(every.contains("every day\n") && every.contains("none matter: it counts elapsed time"), "{every}");
    assert!(every.contains("warning        an interval of 1 day is counted from 1970-01-01 00:00 UTC"), "{every}");
    assert!(at.contains("at 08:00 on Monday to Friday (Africa/Casablanca)"), "{at}");
}

#[test]
fn a_mistake_is_marked_in_the_expression() {
    let error = explained(&["0 22-2 * * *"]).unwrap_err();

    assert_eq!(
        error.to_string(),
        "\"0 22-2 * * *\": the hour field has a range that runs backwards: `22-2`
    0 22-2 * * *
      ^^^^
help: write `22-23,0-2`"
    );
    let zone = explained(&["* * * * *", "--timezone", "Sao Paulo"]).unwrap_err();
    assert_eq!(zone.to_string(), "unknown zone \"Sao Paulo\"\nhelp: did you mean `America/Sao_Paulo`?");
}

#[test]
fn the_next_firings_of_an_expression_are_an_array_of_utc_instants() {
    let (cron, _) = asked(&["--cron", "0 8 * * 1-5", "--timezone", "America/Sao_Paulo", "-n", "2"]).unwrap();
    let (every, _) = asked(&["--every", "90s", "--from", "2026-11-20T12:00:00Z", "-n", "2"]).unwrap();
    let (at, text) = asked(&["--at", "08:00,20:00", "--days", "sun", "--timezone", "UTC", "-n", "2"]).unwrap();

    assert_eq!(cron, json!(["2026-11-23T11:00:00Z", "2026-11-24T11:00:00Z"]));
    assert_eq!(every, json!(["2026-11-20T12:01:30Z", "2026-11-20T12:03:00Z"]));
    assert_eq!(at, json!(["2026-11-22T08:00:00Z", "2026-11-22T20:00:00Z"]));
    assert!(text.starts_with("2026-11-22T08:00:00Z  Sun 2026-11-22 08:00:00 +00:00  UTC\n"), "{text}");
}

#[test]
fn a_range_leaves_out_its_start_and_keeps_its_end() {
    let range = ["--cron", "0 0 * * *", "--from", "2027-01-01", "--to", "2027-01-12"];

    let (all, _) = asked(&range).unwrap();
    let (two, _) = asked(&[&range[..], &["-n", "2"]].concat()).unwrap();

    assert_eq!(all.as_array().unwrap().len(), 11);
    assert_eq!(all[10], "2027-01-12T00:00:00Z");
    assert_eq!(two, json!(["2027-01-02T00:00:00Z", "2027-01-03T00:00:00Z"]));
}

#[test]
fn the_dst_policy_is_a_flag() {
    let spring =
        ["--cron", "30 2 * * *", "--timezone", "America/New_York", "--from", "2025-03-09", "--to", "2025-03-10"];

    let (after, _) = asked(&spring).unwrap();
    let (skip, _) = asked(&[&spring[..], &["--gap", "skip"]].concat()).unwrap();

    assert_eq!(after, json!(["2025-03-09T07:00:00Z"]));
    assert_eq!(skip, json!([]));
}

#[test]
fn the_firings_of_all_jobs_that_are_on_come_in_order_of_time() {
    let (all, text) = asked(&["--to", "2026-11-20T12:20:00Z"]).unwrap();
    let (one, _) = asked(&["retomada", "-n", "1"]).unwrap();

    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(
        one,
        json!([{ "job": "retomada", "at": "2026-11-23T11:00:00Z", "local": "Mon 2026-11-23 08:00:00 -03:00",
                 "timezone": "America/Sao_Paulo" }])
    );
    assert!(text.starts_with("fila  2026-11-20T12:10:00Z  "), "{text}");
}

#[test]
fn what_cannot_be_answered_is_said() {
    let error = |words: &[&str]| asked(words).unwrap_err();

    assert!(matches!(error(&["retomda"]), Mistake::UnknownJob(_)));
    assert_eq!(error(&["retomda"]).to_string(), "no job \"retomda\" in the job table; did you mean retomada?");
    assert!(error(&["mensagens"]).to_string().contains("is a queue"));
    assert!(error(&["retomada", "--timezone", "UTC"]).to_string().contains("a job has its own zone"));
    assert!(error(&["--every", "10ms"]).to_string().contains("outside 100ms to 366d"));
    assert!(error(&["--at", "25:00"]).to_string().contains("is not a time of day"));
    for conflict in [&["retomada", "--cron", "* * * * *"][..], &["--days", "mon"], &["--from", "tomorrow"]] {
        assert!(Command::try_parse_from([&["workers", "next"], conflict].concat()).is_err(), "{conflict:?}");
    }
}

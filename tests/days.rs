//! Day simulations: whole days and weeks of the daemon in virtual time, its whole ledger compared.

mod support;

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::TimeDelta;
use support::world::{World, success, utc};

const MINUTE: TimeDelta = TimeDelta::minutes(1);

#[track_caller]
fn assert_lines(ledger: &[String], expected: &[&str]) {
    assert_eq!(ledger, expected, "\ngot:\n{}\n", ledger.join("\n"));
}

fn every_minute(rules: &str) -> String {
    format!("version = 1\n[jobs.probe]\nevery = \"1min\"\ntimezone = \"UTC\"\n{rules}\nrun.noop = {{}}\n")
}

/// 08:00 to 08:20 with a process that dies at 08:03:30 and comes back ten minutes later.
async fn ten_minutes_away(catch_up: &str, overlap: &str, length: TimeDelta) -> (Vec<String>, World) {
    let table = every_minute(&format!("catch_up = \"{catch_up}\"\noverlap = \"{overlap}\""));
    let mut world = World::new(&table, "2026-03-02 08:00").await;
    world.lasts("probe", length);
    world.run_until("2026-03-02 08:03:30").await;
    world.crash();
    world.run_until("2026-03-02 08:13:30").await;
    world.start().await;
    world.run_until("2026-03-02 08:16:30").await;
    let accounts = world.accounts().await;
    World::assert_conserved(&accounts);
    assert_eq!(accounts["probe"].expected, 16);
    (world.ledger_of("probe").await, world)
}

#[tokio::test]
async fn print_ten_minutes() {
    for catch_up in ["latest", "all", "none"] {
        for overlap in ["queue", "replace", "skip"] {
            let (ledger, _) = ten_minutes_away(catch_up, overlap, TimeDelta::seconds(90)).await;
            println!("{catch_up} {overlap}\n{}\n", ledger.join("\n"));
        }
    }
}

/// The table of the issue: 40 jobs on five schedules, one of which hangs for 150 s.
fn forty_jobs() -> String {
    let mut table = String::from("version = 1\n[defaults]\ntimezone = \"America/Sao_Paulo\"\n");
    let schedules = [("minute", 12, "* * * * *"), ("five", 10, "*/5 * * * *"), ("quarter", 8, "*/15 * * * *"),
        ("hour", 6, "0 * * * *"), ("eight", 4, "0 8 * * *")];
    for (name, count, cron) in schedules {
        for index in 0..count {
            let timeout = "timeout = \"200s\"";
            writeln!(table, "[jobs.{name}_{index}]\ncron = \"{cron}\"\n{timeout}\nrun.noop = {{}}").unwrap();
        }
    }
    table
}

async fn forty_jobs_until(until: &str) -> (World, BTreeMap<String, emponto::domain::ledger::Account>) {
    let mut world = World::new(&forty_jobs(), "2026-03-02 00:00").await;
    world.lasts("minute_0", TimeDelta::seconds(150));
    world.run_until(until).await;
    let accounts = world.accounts().await;
    World::assert_conserved(&accounts);
    (world, accounts)
}

#[tokio::test]
async fn a_hanging_job_costs_its_own_firings_and_no_others() {
    let minutes = (utc("2026-03-03 00:00") - utc("2026-03-02 00:00")).num_minutes();

    let (world, accounts) = forty_jobs_until("2026-03-03 00:00").await;

    for (job, account) in &accounts {
        let (expected, ran) = match job.split('_').next() {
            Some("minute") if job == "minute_0" => (minutes, minutes / 3),
            Some("minute") => (minutes, minutes),
            Some("five") => (minutes / 5, minutes / 5),
            Some("quarter") => (minutes / 15, minutes / 15),
            Some("hour") => (minutes / 60, minutes / 60),
            _ => (1, 1),
        };
        assert_eq!((account.expected, account.ran + account.open), (expected, ran), "{job}");
        assert_eq!(account.late, 0, "{job}");
    }
    assert_eq!(accounts["minute_0"].skipped, BTreeMap::from([("overlap".to_owned(), minutes - minutes / 3)]));
    assert_lines(&world.ledger_of("minute_0").await[..3], &[
        "02 00:01:00 success",
        "02 00:02:00..02 00:03:00 x2 skipped overlap",
        "02 00:04:00 success",
    ]);
    let _ = (MINUTE, success());
}

//! Day simulations: whole days and weeks of the daemon in virtual time, its whole ledger compared.

mod support;

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::TimeDelta;
use emponto::{
    domain::{health::Snapshot, run::Failure, settle::Ended},
    engine::{
        Scope,
        chores::{self, Chore, Duty},
        observe::Observer,
    },
};
use support::world::{House, World, name, read_table, success, utc};

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

/// Every catch-up rule with every overlap rule, one after the other.
async fn all_rules_away(length: TimeDelta) -> String {
    let mut all = Vec::new();
    for catch_up in ["latest", "all", "none"] {
        for overlap in ["skip", "queue", "allow", "replace"] {
            let (ledger, _) = ten_minutes_away(catch_up, overlap, length).await;
            all.push(format!("{catch_up} {overlap}\n{}\n", ledger.join("\n")));
        }
    }
    all.join("\n")
}

#[tokio::test]
async fn ten_minutes_away_leave_exactly_this_ledger_under_every_rule() {
    let ledger = all_rules_away(TimeDelta::seconds(40)).await;

    assert_eq!(ledger.trim(), include_str!("days/ten_minutes_away_runs_of_40s.txt").trim(), "got:\n{ledger}");
}

#[tokio::test]
async fn ten_minutes_away_leave_exactly_this_ledger_when_runs_outlast_their_period() {
    let ledger = all_rules_away(TimeDelta::seconds(90)).await;

    assert_eq!(ledger.trim(), include_str!("days/ten_minutes_away_runs_of_90s.txt").trim(), "got:\n{ledger}");
}

/// The table of the issue: 40 jobs on five schedules, one of which hangs for 150 s.
fn forty_jobs() -> String {
    let mut table = String::from("version = 1\n[defaults]\ntimezone = \"America/Sao_Paulo\"\n");
    let schedules = [
        ("minute", 12, "* * * * *"),
        ("five", 10, "*/5 * * * *"),
        ("quarter", 8, "*/15 * * * *"),
        ("hour", 6, "0 * * * *"),
        ("eight", 4, "0 8 * * *"),
    ];
    for (name, count, cron) in schedules {
        for index in 0..count {
            let timeout = "timeout = \"200s\"";
            writeln!(table, "[jobs.{name}_{index}]\ncron = \"{cron}\"\n{timeout}\nrun.noop = {{}}").unwrap();
        }
    }
    table
}

/// Days of the simulation; `just prove` asks for a week.
fn days() -> i64 {
    std::env::var("WORLD_DAYS").map_or(1, |days| days.parse().expect("WORLD_DAYS is a number of days"))
}

#[tokio::test]
async fn a_hanging_job_costs_its_own_firings_and_no_others() {
    let days = days();
    let end = utc("2026-03-02 00:00") + TimeDelta::days(days);
    let mut world = World::new(&forty_jobs(), "2026-03-02 00:00").await;
    world.lasts("minute_0", TimeDelta::seconds(150));

    world.run_until(&end.format("%Y-%m-%d %H:%M").to_string()).await;

    let accounts = world.accounts().await;
    World::assert_conserved(&accounts);
    let minutes = days * 24 * 60;
    for (job, account) in &accounts {
        let (expected, ran) = match job.split('_').next() {
            Some("minute") if job == "minute_0" => (minutes, minutes / 3),
            Some("minute") => (minutes, minutes),
            Some("five") => (minutes / 5, minutes / 5),
            Some("quarter") => (minutes / 15, minutes / 15),
            Some("hour") => (minutes / 60, minutes / 60),
            _ => (days, days),
        };
        assert_eq!((account.expected, account.ran + account.open), (expected, ran), "{job}");
        assert_eq!(account.late, 0, "{job}");
    }
    assert_eq!(accounts["minute_0"].skipped, BTreeMap::from([("overlap".to_owned(), minutes - minutes / 3)]));
    assert_lines(
        &world.ledger_of("minute_0").await[..3],
        &["02 00:01:00 success", "02 00:02:00..02 00:03:00 x2 skipped overlap", "02 00:04:00 success"],
    );
}

/// The daily job of 08:00 and a job of every minute, before and after an edit.
fn two_jobs(eight: &str, probe: &str) -> String {
    format!(
        "version = 1\n[defaults]\ntimezone = \"UTC\"\n[jobs.eight]\n{eight}\nrun.noop = {{}}\n\
        [jobs.probe]\n{probe}\nrun.noop = {{}}\n"
    )
}

#[tokio::test]
async fn a_deploy_with_an_edit_over_eight_o_clock_loses_and_adds_nothing() {
    let before = two_jobs("at = \"08:00\"", "every = \"1min\"");
    let after = two_jobs("at = \"08:00\"", "every = \"5min\"");
    let mut world = World::new(&before, "2026-03-02 07:50").await;
    world.run_until("2026-03-02 07:55").await;
    world.stop().await;
    world.run_until("2026-03-02 08:05").await;

    world.deploy(&after).await;
    world.run_until("2026-03-02 08:11").await;

    World::assert_conserved(&world.accounts().await);
    assert_lines(&world.ledger_of("eight").await, &["02 08:00:00 success (catch_up) late 300s"]);
    assert_lines(
        &world.ledger_of("probe").await,
        &[
            "02 07:51:00 success",
            "02 07:52:00 success",
            "02 07:53:00 success",
            "02 07:54:00 success",
            "02 07:55:00 success",
            "02 07:56:00..02 08:04:00 x9 skipped edited",
            "02 08:05:00 success",
            "02 08:10:00 success",
        ],
    );
}

#[tokio::test]
async fn an_edit_while_running_closes_the_epoch_where_it_stands() {
    let before = two_jobs("at = \"08:00\"", "every = \"1min\"");
    let after = two_jobs("at = \"08:30\"", "every = \"1min\"");
    let mut world = World::new(&before, "2026-03-02 07:58").await;
    world.run_until("2026-03-02 08:10").await;
    world.deploy(&after).await;
    world.run_until("2026-03-02 08:31").await;

    World::assert_conserved(&world.accounts().await);
    assert_lines(&world.ledger_of("eight").await, &["02 08:00:00 success", "02 08:30:00 success"]);
    assert_eq!(world.accounts().await["probe"].ran, 33);
}

#[tokio::test]
async fn removed_and_returned_jobs_owe_nothing_from_their_absence() {
    let both = two_jobs("at = \"08:00\"", "every = \"1min\"");
    let alone = "version = 1\n[jobs.eight]\nat = \"08:00\"\ntimezone = \"UTC\"\nrun.noop = {}\n";
    let mut world = World::new(&both, "2026-03-02 08:00").await;
    world.run_until("2026-03-02 08:02").await;
    world.stop().await;
    world.run_until("2026-03-02 08:05").await;
    world.deploy(alone).await;
    world.run_until("2026-03-02 08:10").await;
    world.deploy(&both).await;
    world.run_until("2026-03-02 08:12").await;

    assert_lines(
        &world.ledger_of("probe").await,
        &[
            "02 08:01:00 success",
            "02 08:02:00 success",
            "02 08:03:00..02 08:05:00 x3 skipped removed",
            "02 08:11:00 success",
            "02 08:12:00 success",
        ],
    );
    World::assert_conserved(&world.accounts().await);
}

#[tokio::test]
async fn a_renamed_job_keeps_its_history_and_its_cursor() {
    let before = two_jobs("at = \"08:00\"", "every = \"1min\"");
    let after = before.replace("[jobs.probe]", "[jobs.sonde]\nprevious_names = [\"probe\"]");
    let mut world = World::new(&before, "2026-03-02 08:00").await;
    world.run_until("2026-03-02 08:02").await;
    world.stop().await;
    world.run_until("2026-03-02 08:04").await;
    world.deploy(&after).await;
    world.run_until("2026-03-02 08:05").await;

    assert_eq!(world.ledger_of("probe").await, Vec::<String>::new());
    assert_lines(
        &world.ledger_of("sonde").await,
        &["02 08:01:00 success", "02 08:02:00 success", "02 08:03:00..02 08:04:00 x2 success", "02 08:05:00 success"],
    );
    World::assert_conserved(&world.accounts().await);
}

#[tokio::test]
async fn paused_and_disabled_jobs_account_for_their_instants() {
    let on = two_jobs("at = \"08:00\"", "every = \"1min\"");
    let off = two_jobs("at = \"08:00\"", "every = \"1min\"\nenabled = false");
    let mut world = World::new(&on, "2026-03-02 08:00").await;
    world.run_until("2026-03-02 08:01").await;
    world.store.pause(&name("probe"), "looking into it", None, world.now()).await.unwrap();
    world.run_until("2026-03-02 08:04").await;
    world.store.resume(&name("probe"), world.now()).await.unwrap();
    world.run_until("2026-03-02 08:05").await;
    world.deploy(&off).await;
    world.run_until("2026-03-02 08:08").await;
    world.deploy(&on).await;
    world.run_until("2026-03-02 08:09").await;

    assert_lines(
        &world.ledger_of("probe").await,
        &[
            "02 08:01:00 success",
            "02 08:02:00..02 08:04:00 x3 skipped paused",
            "02 08:05:00 success",
            "02 08:06:00..02 08:08:00 x3 skipped disabled",
            "02 08:09:00 success",
        ],
    );
    World::assert_conserved(&world.accounts().await);
}

#[tokio::test]
async fn a_pause_with_an_end_covers_the_instants_before_it_and_none_after() {
    let table = two_jobs("at = \"08:00\"", "every = \"1min\"");
    let mut world = World::new(&table, "2026-03-02 08:00").await;
    world.run_until("2026-03-02 08:01").await;
    world.store.pause(&name("probe"), "until 08:03", Some(utc("2026-03-02 08:03")), world.now()).await.unwrap();
    world.run_until("2026-03-02 08:05").await;

    assert_lines(
        &world.ledger_of("probe").await,
        &[
            "02 08:01:00 success",
            "02 08:02:00..02 08:03:00 x2 skipped paused",
            "02 08:04:00 success",
            "02 08:05:00 success",
        ],
    );
}

#[tokio::test]
async fn failed_runs_are_tried_again_and_then_give_up() {
    let table =
        every_minute("overlap = \"allow\"\nretry = { max_attempts = 3, backoff = [\"10s\", \"15s\"], jitter = false }");
    let mut world = World::new(&table, "2026-03-02 08:00").await;
    world.script("probe", |run| {
        let good = run.scheduled_for == Some(utc("2026-03-02 08:02")) && run.attempt == 2;
        (TimeDelta::zero(), if good { success() } else { Ended::Answered(Err(Failure::retry("refused"))) })
    });
    world.run_until("2026-03-02 08:02:50").await;

    assert_lines(
        &world.ledger_of("probe").await,
        &["02 08:01:00 error exhausted attempt 3", "02 08:02:00 success attempt 2"],
    );
}

/// The day's clock jumps forward, and back: 02:30 exists once, and every other firing stays where it is.
#[tokio::test]
async fn days_with_a_clock_change_are_accounted_for() {
    let table = "version = 1\n[defaults]\ntimezone = \"America/New_York\"\n[jobs.night]\nat = \"02:30\"\nrun.noop = {}\n\
        [jobs.probe]\ncron = \"*/30 * * * *\"\nrun.noop = {}\n";
    for (start, end, night, probes) in [
        ("2027-03-14 05:00", "2027-03-15 04:00", "14 07:00:00 success", 46),
        ("2027-11-07 04:00", "2027-11-08 05:00", "07 07:30:00 success", 50),
    ] {
        let mut world = World::new(table, start).await;
        world.run_until(end).await;

        let accounts = world.accounts().await;
        World::assert_conserved(&accounts);
        assert_lines(&world.ledger_of("night").await, &[night]);
        assert_eq!(accounts["probe"].ran, probes);
    }
}

/// A replica that is late to the work finds it recorded; two of them share one ledger.
#[tokio::test]
async fn two_replicas_in_one_world_record_each_instant_once() {
    let table = every_minute("overlap = \"allow\"");
    let mut world = World::new(&table, "2026-03-02 08:00").await;
    let mut second = House::open(&world.store, &world.clock, &read_table(&table), Scope::default()).await;
    let scripts = std::collections::HashMap::new();
    for minute in 1..=20 {
        let until = format!("2026-03-02 08:{minute:02}");
        if minute % 2 == 0 {
            world.clock.set(utc(&until));
            second.tick(&scripts, utc(&until)).await;
        }
        world.run_until(&until).await;
        second.tick(&scripts, utc(&until)).await;
    }

    let accounts = world.accounts().await;
    World::assert_conserved(&accounts);
    assert_eq!((accounts["probe"].expected, accounts["probe"].ran + accounts["probe"].open), (20, 20));
}

/// The ticker of the chores is dead from the start: nothing pokes, and the account is audited all the same.
#[tokio::test]
async fn nothing_depends_on_the_ticker_of_the_chores() {
    let mut world = World::new(&every_minute(""), "2026-03-02 08:00").await;
    world.run_until("2026-03-02 08:30").await;
    let engine = std::sync::Arc::clone(&world.house.as_ref().unwrap().engine);
    let snapshot = Snapshot::starting(engine.running.replica(), "0.0.0", world.now());
    let observer = std::sync::Arc::new(Observer::new(std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(snapshot))));
    let stop = tokio_util::sync::CancellationToken::new();
    let duty = Duty { patience: std::time::Duration::from_millis(20), ..Duty::new(Chore::Audit) };
    let chore = tokio::spawn(chores::supervise(engine, observer, duty, stop.clone()));

    let audited = async {
        loop {
            let row = world.store.job_rows().await.unwrap().remove(0);
            if row.audited_until == row.planned_until {
                break row.audit;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let audit = tokio::time::timeout(std::time::Duration::from_secs(20), audited).await.expect("the audit comes");

    stop.cancel();
    chore.await.unwrap();
    assert_eq!((audit.expected, audit.ran, audit.unexplained()), (30, 30, 0));
}

//! The team's own mix in real minutes: 40 http jobs, one of which hangs for 150 s and costs no other job its minute.

mod support;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use support::{daemon::Setup, ledger, target::Target};

/// Full minutes to see; `scripts/prove` asks for four.
const MINUTES: i64 = 2;
const MINUTE_MS: i64 = 60_000;
/// How late a run of an idle machine may start; generous, for a loaded one.
const MOST_LAG_MS: i64 = 5_000;

/// Forty jobs: 25 every minute (the first one hangs), 8 every 5 minutes, 4 every 15, 2 hourly, 1 at 08:00.
fn table(port: u16) -> String {
    let mut text = format!(
        "version = 1\n[executor]\nshutdown_grace = \"1s\"\n[defaults]\ntimezone = \"America/Sao_Paulo\"\n\
        [targets.default]\nbase_url = \"http://127.0.0.1:{port}\"\n"
    );
    let mix = [("* * * * *", 25), ("*/5 * * * *", 8), ("*/15 * * * *", 4), ("0 * * * *", 2), ("0 8 * * *", 1)];
    let schedules = mix.into_iter().flat_map(|(cron, count)| std::iter::repeat_n(cron, count));
    for (number, cron) in schedules.enumerate() {
        let path = if number == 0 { "/hang".to_owned() } else { format!("/job/{number}") };
        writeln!(text, "[jobs.{}]\ncron = \"{cron}\"\nrun.http = {{ post = \"{path}\" }}", name(number))
            .expect("a string grows");
    }
    text
}

fn name(number: usize) -> String {
    if number == 0 { "hanging".to_owned() } else { format!("job{number}") }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_jobs_fire_in_each_of_their_minutes_beside_one_that_hangs() {
    let target = Target::start();
    let minutes = std::env::var("PROVE_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(MINUTES);
    let mut daemon = Setup::new(&table(target.port)).start();
    let first = unix_ms() / MINUTE_MS + 1;

    let until = (first + minutes - 1) * MINUTE_MS + MOST_LAG_MS;
    tokio::time::sleep(Duration::from_millis(until.saturating_sub(unix_ms()).unsigned_abs())).await;
    daemon.terminate();

    let url = format!("sqlite://{}", daemon.setup.path("workers.db").display());
    for number in 1..40 {
        let period = [(25, 1), (33, 5), (37, 15), (39, 60)].into_iter().find(|(below, _)| number < *below);
        let Some((_, period)) = period else { continue };
        let due: BTreeSet<i64> = (first..first + minutes).filter(|minute| minute % period == 0).collect();
        let rows = ledger::rows(&url, &name(number)).await;
        let ran = rows.iter().filter(|row| row.outcome == "success" && row.covers == 1);
        let ran: BTreeSet<i64> = ran.map(|row| row.scheduled_for / MINUTE_MS).collect();
        assert!(due.is_subset(&ran), "{}: due {due:?}, ran {ran:?}: {rows:#?}", name(number));
        assert!(rows.iter().all(|row| row.lag_ms <= MOST_LAG_MS), "{rows:#?}");
    }
    let rows = ledger::rows(&url, "hanging").await;
    let (held, skipped): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.reason != "overlap");
    // A run that hangs for 150 s costs the next two minutes, and the one after them hangs again.
    let hangs = (minutes + 2) / 3;
    assert_eq!(held.len() as i64, hangs, "one run in three minutes hangs: {rows:#?}");
    assert_eq!(
        skipped.iter().map(|row| row.covers).sum::<i64>(),
        minutes - hangs,
        "the minutes between are skipped: {rows:#?}"
    );
    assert_eq!(target.calls().iter().filter(|path| *path == "/hang").count() as i64, hangs);
    assert_eq!(daemon.setup.run(&["ledger"]).status.code(), Some(0));
}

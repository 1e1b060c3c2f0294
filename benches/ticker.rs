//! Why tokio-cron-scheduler runs our chores and not the job table: its start lag, and the activations it loses.
//!
//! `cargo bench --bench ticker` prints the rows of docs/decisions/0001-packages.md; it takes about three minutes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::runtime::Builder;
use tokio_cron_scheduler::{Job, JobScheduler};

/// One measurement: this many jobs, due together every `period` seconds, on a runtime of this many threads.
struct Case {
    jobs: usize,
    period: u64,
    periods: u64,
    threads: usize,
}

const CASES: [Case; 4] = [
    Case { jobs: 1, period: 1, periods: 60, threads: 2 },
    Case { jobs: 100, period: 1, periods: 20, threads: 4 },
    Case { jobs: 500, period: 5, periods: 6, threads: 4 },
    Case { jobs: 1_000, period: 5, periods: 6, threads: 4 },
];

/// When each run started, in milliseconds of Unix time, and which job it was.
type Starts = Arc<Mutex<Vec<(usize, u64)>>>;

fn main() {
    println!("tokio-cron-scheduler: lag from due to start, and job-periods without a run\n");
    println!(
        "{:>6} {:>8} {:>8} {:>9} {:>7} {:>8} {:>22}",
        "jobs", "period", "threads", "expected", "lost", "doubled", "lag p50/p99/max ms"
    );
    for case in CASES {
        let runtime = Builder::new_multi_thread().worker_threads(case.threads).enable_all().build();
        let starts = runtime.expect("a runtime").block_on(measure(&case));
        report(&case, &starts);
    }
}

async fn measure(case: &Case) -> Vec<(usize, u64)> {
    let starts = Starts::default();
    let mut scheduler = JobScheduler::new().await.expect("a scheduler in memory");
    for number in 0..case.jobs {
        let starts = Arc::clone(&starts);
        let job = Job::new_async(format!("*/{} * * * * *", case.period), move |_, _| {
            let starts = Arc::clone(&starts);
            Box::pin(async move {
                starts.lock().unwrap_or_else(PoisonError::into_inner).push((number, unix_ms()));
            })
        });
        scheduler.add(job.expect("a cron expression")).await.expect("added one after another");
    }
    // Begin in the middle of a period, so that none is cut.
    let period_ms = case.period * 1_000;
    sleep_ms(period_ms - unix_ms() % period_ms + 600).await;
    let begin = unix_ms() / period_ms * period_ms;
    scheduler.start().await.expect("starts");
    sleep_ms((case.periods + 1) * period_ms).await;
    scheduler.shutdown().await.expect("stops");

    let all = std::mem::take(&mut *starts.lock().unwrap_or_else(PoisonError::into_inner));
    // The first instant after the start, and as many periods as asked for.
    let (first, last) = (begin + period_ms, begin + period_ms * (case.periods + 1));
    all.into_iter().filter(|(_, at)| (first..last).contains(at)).collect()
}

fn report(case: &Case, starts: &[(usize, u64)]) {
    let period_ms = case.period * 1_000;
    let mut due: Vec<(usize, u64)> = starts.iter().map(|(job, at)| (*job, at / period_ms)).collect();
    due.sort_unstable();
    due.dedup();
    let expected = case.jobs * usize::try_from(case.periods).expect("a few");
    let mut lags: Vec<u64> = starts.iter().map(|(_, at)| at % period_ms).collect();
    lags.sort_unstable();
    let at =
        |share: usize| lags.get((lags.len() * share / 100).min(lags.len().saturating_sub(1))).copied().unwrap_or(0);
    let lag = format!("{} / {} / {}", at(50), at(99), at(100));
    let (lost, doubled) = (expected.saturating_sub(due.len()), starts.len() - due.len());
    println!(
        "{:>6} {:>6} s {:>8} {expected:>9} {lost:>7} {doubled:>8} {lag:>22}",
        case.jobs, case.period, case.threads
    );
}

async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 584 million")
}

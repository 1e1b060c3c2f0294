//! Which runs get lines, and what is summed up.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    tally::{Sum, Tally},
    *,
};
use crate::domain::{
    health::{JobStats, QueueFigures, Snapshot, WatchedQueue},
    job::JobName,
    run::{ReplicaId, RunId, State, Trigger},
};

fn at(seconds: i64) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-03-02T08:00:00Z".parse().unwrap();
    start + TimeDelta::seconds(seconds)
}

/// A scheduled run of this second.
fn run(job: &str, second: i64) -> Run {
    Run {
        id: RunId(Uuid::now_v7()),
        job: JobName::parse(job).unwrap(),
        epoch: 1,
        trigger: Trigger::Schedule,
        scheduled_for: Some(at(second)),
        covers: 1,
        covers_from: None,
        state: State::Running,
        outcome: None,
        reason: None,
        due_at: at(second),
        priority: 0,
        key: None,
        dedupe_key: None,
        payload: Value::Null,
        attempt: 1,
        max_attempts: 3,
        crashes: 0,
        exclusive: true,
        replica: None,
        resume: None,
        retry_of: None,
        cancel_requested_at: None,
        created_at: at(second),
        started_at: Some(at(second)),
        finished_at: None,
        lag_ms: Some(0),
        duration_ms: None,
        items: None,
        items_failed: None,
        response_code: None,
        result: None,
        error: None,
        errors: json!([]),
    }
}

fn enqueued(second: i64) -> Run {
    Run { trigger: Trigger::Enqueue, scheduled_for: None, ..run("queue", second) }
}

/// Whether start and end have lines: `both`, `none`, `start`, `end`.
fn lines(tally: &mut Tally, run: &Run, second: i64, took_ms: u64) -> &'static str {
    let start = tally.announces(run, at(second));
    assert_eq!(start, tally.announces(run, at(second)), "asked again it says the same");
    let end = tally.ends(run, Outcome::Success, (Some(2), Duration::from_millis(took_ms)));
    match (start, end) {
        (true, true) => "both",
        (true, false) => "start",
        (false, true) => "end",
        (false, false) => "none",
    }
}

fn told(mode: LogSuccess, every: i64) -> Vec<&'static str> {
    let mut tally = Tally::new(mode);
    (0..4).map(|n| lines(&mut tally, &run("probe", n * every), n * every, 5)).collect()
}

#[test]
fn runs_closer_than_a_minute_get_no_lines_of_their_own_but_the_first() {
    assert_eq!(told(LogSuccess::Summary, 30), ["both", "none", "none", "none"]);
    assert_eq!(told(LogSuccess::None, 59), ["both", "none", "none", "none"]);
    assert_eq!(told(LogSuccess::Summary, 60), ["both"; 4]);
    assert_eq!(told(LogSuccess::None, 3_600), ["both"; 4]);
    assert_eq!(told(LogSuccess::All, 1), ["both"; 4]);
}

#[test]
fn a_queue_is_quiet_while_it_is_busy() {
    let mut tally = Tally::new(LogSuccess::Summary);

    let told = [0, 1, 50, 109, 169, 170].map(|second| lines(&mut tally, &enqueued(second), second, 5));

    assert_eq!(told, ["both", "none", "none", "none", "both", "none"]);
}

#[test]
fn what_somebody_asked_for_what_took_long_and_what_failed_before_is_told() {
    let mut tally = Tally::new(LogSuccess::Summary);
    lines(&mut tally, &run("probe", 0), 0, 5);

    let by_hand = Run { trigger: Trigger::Manual, scheduled_for: None, ..run("probe", 1) };
    let second_attempt = Run { attempt: 2, ..run("probe", 2) };

    assert_eq!(lines(&mut tally, &by_hand, 1, 5), "both");
    assert_eq!(lines(&mut tally, &second_attempt, 2, 5), "both");
    assert_eq!(lines(&mut tally, &run("probe", 3), 3, 60_000), "end");
    assert_eq!(lines(&mut tally, &run("probe", 4), 4, 59_999), "none");
}

#[test]
fn an_end_has_a_line_when_its_start_had_one_whatever_began_meanwhile() {
    let mut tally = Tally::new(LogSuccess::Summary);
    let (first, meanwhile) = (run("probe", 0), run("probe", 1));

    assert!(tally.announces(&first, at(0)) && !tally.announces(&meanwhile, at(1)));
    assert!(!tally.ends(&meanwhile, Outcome::Success, (None, Duration::ZERO)));
    assert!(tally.ends(&first, Outcome::Success, (None, Duration::ZERO)));
}

#[test]
fn starts_that_never_end_are_forgotten() {
    let mut tally = Tally::new(LogSuccess::Summary);
    let runs: Vec<Run> = (0..9).map(|hour| run("probe", hour * 3_600)).collect();
    runs.iter().for_each(|run| assert!(tally.announces(run, run.due_at)));

    assert!(!tally.forget(&runs[0]), "the oldest of nine");
    assert!(runs[1..].iter().all(|run| tally.forget(run)));
}

#[test]
fn a_sum_has_count_items_and_durations_and_begins_anew() {
    let mut tally = Tally::new(LogSuccess::Summary);
    for second in 0..4 {
        lines(&mut tally, &run("probe", second), second, 10 * (second as u64));
    }
    let skipped = run("probe", 5);
    tally.announces(&skipped, at(5));
    tally.ends(&skipped, Outcome::Skipped, (None, Duration::ZERO));

    let sums: Vec<_> = tally.take().into_iter().map(|((_, outcome), sum)| (outcome, sum)).collect();

    let millis = Duration::from_millis;
    let good = Sum { runs: 3, items: Some(6), duration: millis(60), longest: millis(30) };
    assert_eq!(sums, [(Outcome::Success, good), (Outcome::Skipped, Sum { runs: 1, ..Sum::default() })]);
    assert!(tally.take().is_empty());
}

#[test]
fn nothing_is_summed_up_where_nobody_wants_it() {
    let mut tally = Tally::new(LogSuccess::None);
    for second in 0..3 {
        lines(&mut tally, &run("probe", second), second, 5);
    }

    assert!(tally.take().is_empty());
}

#[test]
fn a_queue_says_that_it_is_alive_and_how_long_it_is() {
    let job = JobName::from_store("mensagens");
    let mut look = Snapshot::starting(ReplicaId(Uuid::nil()), "0.1.0", at(0));
    let said = |look: &Snapshot| sign_of_life(sizes(&job, look, at(30)), true);
    look.jobs.insert(job.clone(), JobStats::new(at(0)));

    assert_eq!(said(&look), "alive, queue empty (queued=0, processing=0)");
    look.jobs.values_mut().for_each(|stats| (stats.waiting, stats.running) = (3, 1));
    assert_eq!(said(&look), "alive (queued=3, processing=1)");
    look.jobs.values_mut().for_each(|stats| (stats.left, stats.running) = (Some(0), 0));
    assert_eq!(said(&look), "alive, queue empty (queued=0, processing=0)");
    let seen = QueueFigures { left: 7, running: Some(2), ..QueueFigures::empty(at(0)) };
    look.queues.insert(job.clone(), WatchedQueue { figures: Some(seen), ..WatchedQueue::new(at(0)) });
    assert_eq!(said(&look), "alive (queued=7, processing=2)", "its table is newer than its runs");
    assert_eq!(sign_of_life(None, false), "alive, size of the queue not known: the database does not answer");
}

#[test]
fn a_queue_whose_table_cannot_tell_what_is_worked_on_shows_its_runs_and_is_not_called_empty() {
    let job = JobName::from_store("entregas");
    let mut look = Snapshot::starting(ReplicaId(Uuid::nil()), "0.1.0", at(0));
    look.jobs.insert(job.clone(), JobStats { running: 1, ..JobStats::new(at(0)) });
    let seen = QueueFigures::waiting(at(0), 0);
    look.queues.insert(job.clone(), WatchedQueue { figures: Some(seen), ..WatchedQueue::new(at(0)) });

    assert_eq!(sign_of_life(sizes(&job, &look, at(0)), true), "alive (queued=0, processing=1)");
}

#[test]
fn a_number_of_a_table_that_nobody_could_look_at_lately_is_not_told_as_that_of_now() {
    let job = JobName::from_store("fila_worker");
    let mut look = Snapshot::starting(ReplicaId(Uuid::nil()), "0.1.0", at(0));
    look.jobs.insert(job.clone(), JobStats::new(at(0)));
    let seen = QueueFigures { left: 7, ..QueueFigures::empty(at(0)) };
    look.queues.insert(job.clone(), WatchedQueue { figures: Some(seen), ..WatchedQueue::new(at(0)) });
    let said = |look: &Snapshot, second| sign_of_life(sizes(&job, look, at(second)), true);

    assert_eq!(said(&look, 90), "alive (queued=7, processing=0)");
    assert_eq!(said(&look, 91), "alive, size of the queue not known: nobody could look at it");
    look.queues.insert(job.clone(), WatchedQueue::new(at(91)));
    assert_eq!(said(&look, 91), "alive, size of the queue not known: nobody could look at it");
}

//! Sets against sets: what a broken ledger looks like in the account.

use std::time::Duration;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-03-02T{text}:00Z").parse().unwrap()
}

fn every_minute() -> Vec<Epoch> {
    let schedule = Schedule::every(Duration::from_secs(60), Duration::ZERO).unwrap();
    vec![Epoch { epoch: 1, schedule: Some(schedule.spec()), valid_from: at("08:00"), valid_until: None }]
}

fn ran(from: &str, to: &str, covers: i64) -> Entry {
    Entry {
        epoch: 1,
        trigger: Trigger::Schedule,
        scheduled_for: at(to),
        covers_from: at(from),
        covers,
        state: State::Finished,
        outcome: Some(Outcome::Success),
        reason: None,
        attempt: 1,
        lag_ms: Some(2),
    }
}

fn account(entries: &[Entry], until: &str) -> Account {
    reconcile(&every_minute(), entries, at("08:00"), at(until)).unwrap()
}

#[test]
fn every_kind_of_row_is_counted_once() {
    let late = Entry { lag_ms: Some(31_000), ..ran("08:02", "08:02", 1) };
    let caught_up = Entry { trigger: Trigger::CatchUp, ..ran("08:03", "08:04", 2) };
    let overlap = Entry {
        outcome: Some(Outcome::Skipped),
        reason: Some(Reason::Overlap),
        attempt: 0,
        ..ran("08:05", "08:06", 2)
    };
    let open = Entry { state: State::Running, outcome: None, ..ran("08:07", "08:07", 1) };

    let account = account(&[ran("08:01", "08:01", 1), late, caught_up, overlap, open], "08:07");

    assert_eq!((account.expected, account.ran, account.late, account.open), (7, 1, 3, 1));
    assert_eq!(account.skipped, BTreeMap::from([("overlap".to_owned(), 2)]));
    assert_eq!(account.unexplained(), 0);
}

#[test]
fn a_hole_is_missing() {
    let account = account(&[ran("08:01", "08:01", 1), ran("08:04", "08:04", 1)], "08:04");

    assert_eq!((account.missing, account.doubled, account.extra), (2, 0, 0));
}

#[test]
fn two_rows_over_one_instant_are_doubled() {
    let account = account(&[ran("08:01", "08:02", 2), ran("08:02", "08:02", 1)], "08:02");

    assert_eq!((account.missing, account.doubled, account.extra), (0, 1, 0));
}

#[test]
fn a_hole_and_a_double_do_not_cancel_each_other_out() {
    let account = account(&[ran("08:01", "08:01", 1), ran("08:01", "08:01", 1), ran("08:03", "08:03", 1)], "08:03");

    assert_eq!((account.missing, account.doubled), (1, 1));
}

#[test]
fn a_row_for_an_instant_that_was_never_due_is_extra() {
    let stray = Entry {
        covers_from: at("08:01") + TimeDelta::seconds(7),
        scheduled_for: at("08:01") + TimeDelta::seconds(7),
        ..ran("08:01", "08:01", 1)
    };

    let account = account(&[ran("08:01", "08:01", 1), stray], "08:02");

    assert_eq!((account.missing, account.extra), (1, 1));
}

#[test]
fn a_row_that_counts_wrongly_is_unexplained_either_way() {
    assert_eq!(account(&[ran("08:01", "08:03", 2)], "08:03").unexplained(), 1);
    assert_eq!(account(&[ran("08:01", "08:03", 5)], "08:03").unexplained(), 2);
}

#[test]
fn a_row_that_reaches_beyond_the_window_counts_inside_it_only() {
    let account = account(&[ran("08:01", "08:10", 10)], "08:04");

    assert_eq!((account.expected, account.ran, account.unexplained()), (4, 4, 0));
}

#[test]
fn each_epoch_is_held_against_its_own_schedule() {
    let mut epochs = every_minute();
    epochs[0].valid_until = Some(at("08:02"));
    let hourly = Schedule::every(Duration::from_secs(3_600), Duration::ZERO).unwrap();
    epochs.push(Epoch { epoch: 2, schedule: Some(hourly.spec()), valid_from: at("08:02"), valid_until: None });
    let new = Entry { epoch: 2, ..ran("09:00", "09:00", 1) };

    let account = reconcile(&epochs, &[ran("08:01", "08:02", 2), new], at("08:00"), at("09:30")).unwrap();

    assert_eq!((account.expected, account.ran, account.unexplained()), (3, 3, 0));
}

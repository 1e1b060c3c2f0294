//! The golden file: what two independent cron libraries answer, and the only ways in which we may answer otherwise.
//!
//! They disagree with each other in some places; there we side with one of them, and the reason is a class below.

use emponto::domain::schedule::Schedule;

use crate::{AFTER_FIRST, cron, instant};

/// Questions, and how many of them fall in each class: a change of behaviour moves a number.
const ALL_AGREE: usize = 1_015;
/// croniter fires clock times again when the clock goes back, and moves elapsed hours out of a gap.
const CRONITER_AT_CLOCK_CHANGES: usize = 16;
/// cronsim reads `*/n` beside another day field as "both must match"; only a bare `*` means any day here.
const CRONSIM_DAY_RULE: usize = 15;
/// cronsim is half an hour off where the clock changes by half an hour.
const CRONSIM_HALF_HOUR: usize = 4;

struct Question<'a> {
    zone: &'a str,
    expression: &'a str,
    start: &'a str,
    croniter: &'a str,
    cronsim: &'a str,
}

fn questions() -> impl Iterator<Item = Question<'static>> {
    include_str!("golden.tsv").lines().map(|line| {
        let fields: [&str; 5] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let [zone, expression, start, croniter, cronsim] = fields;
        Question { zone, expression, start, croniter, cronsim: if cronsim == "=" { croniter } else { cronsim } }
    })
}

fn answer(schedule: &Schedule, start: &str) -> String {
    let following = |moment: &_| schedule.next_after(*moment);
    let instants = std::iter::successors(schedule.next_after(instant(start)), following).take(4);
    instants.map(|moment| moment.format("%Y-%m-%dT%H:%M:%SZ").to_string()).collect::<Vec<_>>().join(" ")
}

/// Whether the zone's clock changes between the start and the last answer.
fn meets_clock_change(schedule: &Schedule, question: &Question) -> bool {
    let last = question.croniter.rsplit(' ').next().unwrap();
    let (from, until) = (instant(question.start).timestamp(), instant(last).timestamp());
    !schedule.zone().unwrap().shifts(from, until + 1).is_empty()
}

#[test]
fn two_independent_libraries_answer_the_same_but_for_the_listed_classes() {
    let mut classes = [0; 4];
    for question in questions() {
        let Question { zone, expression, start, .. } = question;
        let schedule = cron(expression, zone, AFTER_FIRST);
        let ours = answer(&schedule, start);
        let class = match (ours == question.croniter, ours == question.cronsim) {
            (true, true) => 0,
            (false, true) if meets_clock_change(&schedule, &question) => 1,
            (true, false) if !schedule.warnings().is_empty() => 2,
            (true, false) if zone == "Australia/Lord_Howe" => 3,
            _ => panic!(
                "{expression} in {zone} after {start}\n ours     {ours}\n croniter {}\n cronsim  {}",
                question.croniter, question.cronsim
            ),
        };
        classes[class] += 1;
    }

    assert_eq!(classes, [ALL_AGREE, CRONITER_AT_CLOCK_CHANGES, CRONSIM_DAY_RULE, CRONSIM_HALF_HOUR]);
}

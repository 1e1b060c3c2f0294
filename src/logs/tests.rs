//! Lines as they are written.

use std::{
    io, panic,
    sync::{Arc, Mutex},
};

use tracing::{Level, debug, error, info, subscriber::with_default, warn};

use super::{Look, filter, limiter::Limiter, lines_into, log_panic};
use crate::clock::Clock;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, ink: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(ink);
        Ok(ink.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(level: &str, look: Look, act: impl FnOnce()) -> String {
    let paper = Paper::default();
    let pen = paper.clone();
    let clock = Clock::manual("2026-11-18T13:30:10.007Z".parse().unwrap());
    with_default(lines_into(level, look, clock, move || pen.clone()), act);
    let ink = paper.0.lock().unwrap().clone();
    String::from_utf8(ink).unwrap()
}

#[test]
fn a_json_line_has_the_keys_of_the_closed_list_in_their_order() {
    let text = written("INFO", Look::Json, || {
        let reason = "overlap\n\"x\"";
        info!(target: "emponto::engine::planner", reason, outcome = "success", items = 3, job_name = "fila_worker", "job {}", "finished");
    });

    assert_eq!(
        text,
        "{\"ts\":\"2026-11-18T13:30:10.007Z\",\"level\":\"INFO\",\
         \"message\":\"job finished reason=\\\"overlap\\\\n\\\\\\\"x\\\\\\\"\\\"\",\"component\":\"scheduler\",\
         \"job_name\":\"fila_worker\",\"outcome\":\"success\",\"items\":3}\n"
    );
}

#[test]
fn a_line_for_people_is_aligned_and_keeps_control_characters_out() {
    let text = written("debug", Look::Text { color: false }, || {
        warn!(target: "emponto::http", attempt = 2, "bad \x1b[2J answer");
        debug!(target: "emponto::engine::runner", "x");
    });

    assert_eq!(
        text,
        "2026-11-18T13:30:10.007Z WARN  http      bad \\u{1b}[2J answer attempt=2\n\
         2026-11-18T13:30:10.007Z DEBUG runner    x\n"
    );
}

#[test]
fn levels_of_other_worlds_are_understood_and_nonsense_is_refused() {
    let lines = |level| {
        let act = || {
            error!(target: "emponto::store", "e");
            warn!(target: "emponto::store", "w");
            info!(target: "emponto::store", "i");
            info!(target: "sqlx::query", "noise");
        };
        written(level, Look::Json, act).lines().count()
    };

    assert_eq!([lines("CRITICAL"), lines("WARNING"), lines("Info"), lines("trace"), lines("off")], [1, 2, 3, 3, 0]);
    assert!(filter("emponto=loudly").unwrap_err().contains("LOG_LEVEL"));
}

#[test]
fn a_flood_is_cut_and_the_next_second_says_by_how_much() {
    let limiter = Limiter::default();
    let written = |second, level| (0..600).filter(|_| limiter.admits(second, level)).count();

    assert_eq!([written(1, Level::INFO), written(1, Level::ERROR)], [399, 99]);
    assert_eq!(limiter.untold(1), 0, "the second is not over");
    assert_eq!(limiter.untold(2), 201 + 501, "said without another line");
    assert_eq!(limiter.untold(2), 0, "said once");
    assert!(limiter.admits(2, Level::INFO));
}

#[test]
fn what_was_dropped_in_the_last_second_is_said_at_the_end() {
    let limiter = Limiter::default();
    let admitted = (0..500).filter(|_| limiter.admits(1, Level::ERROR)).count();
    limiter.lost();

    assert_eq!(admitted, 498);

    assert_eq!([limiter.untold_at_the_end(), limiter.untold_at_the_end()], [3, 0]);
}

#[test]
fn a_message_that_no_host_would_take_whole_is_cut_and_says_so() {
    let text = written("info", Look::Json, || info!(target: "emponto::store", "{}", "é".repeat(5_000)));

    assert!(text.len() < 8_000 && text.contains("é... (10000 bytes in all)"), "{}", text.len());
}

#[test]
fn a_panic_is_an_error_with_its_place() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(log_panic));

    let text = written("error", Look::Json, || {
        panic::catch_unwind(|| panic!("no {}", "way")).unwrap_err();
    });
    panic::set_hook(before);

    assert!(text.contains("\"level\":\"ERROR\"") && text.contains("\"component\":\"panic\""), "{text}");
    assert!(text.contains("src/logs/tests.rs:") && text.contains("no way"), "{text}");
}

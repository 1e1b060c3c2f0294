//! The rules of the house that a machine can check: who may import whom, how big things may grow, who may ask for what.
//!
//! Every rule is a function from sources to findings, and has a test here that feeds it a bad source.

mod tidy {
    pub mod source;

    pub mod arrows;
    pub mod bans;
    pub mod budgets;
    pub mod documents;
    pub mod names;
}

use tidy::{
    arrows, bans, budgets, documents, names,
    source::{Finding, Source, house},
};

/// Who may import whom (spec 2, Arrows). A room may always import itself; a room that is not here may not exist.
const ARROWS: [(&str, &[&str]); 14] = [
    ("main", &["cli"]),
    ("cli", &["serve", "config", "job_table", "store", "engine", "logs", "domain", "clock"]),
    (
        "serve",
        &[
            "http",
            "engine",
            "job_table",
            "handlers",
            "store",
            "metrics",
            "outbound",
            "logs",
            "clock",
            "config",
            "domain",
        ],
    ),
    ("http", &["store", "job_table", "metrics", "domain", "clock"]),
    ("engine", &["store", "job_table", "handlers", "metrics", "domain", "clock"]),
    ("job_table", &["handlers", "domain"]),
    ("handlers", &["outbound", "domain", "clock"]),
    ("store", &["domain"]),
    ("metrics", &["domain"]),
    ("outbound", &["domain", "clock"]),
    ("logs", &["clock"]),
    ("clock", &[]),
    ("config", &[]),
    ("domain", &[]),
];

/// Checks the real tree.
fn assert_tidy(findings: Vec<Finding>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// A source of one's own making; its first line is there already.
fn source(path: &str, text: &str) -> Source {
    Source::new(path, &format!("//! A room for a test.\n{text}")).expect("the snippet is Rust")
}

#[track_caller]
fn assert_found(findings: &[Finding], wanted: &[&str]) {
    assert_eq!(findings.len(), wanted.len(), "{findings:#?}");
    for (finding, part) in findings.iter().zip(wanted) {
        assert!(finding.contains(part), "{finding:?} should say {part:?}");
    }
}

#[test]
fn imports_follow_the_arrows() {
    assert_tidy(house("src").iter().flat_map(|source| arrows::wrong_imports(source, &ARROWS)).collect());
}

#[test]
fn a_wrong_import_is_found_however_it_is_written() {
    let wrong = |path: &str, text: &str| arrows::wrong_imports(&source(path, text), &ARROWS);

    assert_found(&wrong("src/http/api.rs", "use crate::engine::runner;"), &["src/http/api.rs:2: http imports engine"]);
    assert_found(&wrong("src/http/mod.rs", "use crate::{domain::job, engine::{a, b}};"), &["http imports engine"]);
    assert_found(&wrong("src/handlers/sql.rs", "fn f() { crate::store::open() }"), &["handlers imports store"]);
    assert_found(
        &wrong("src/handlers/sql.rs", "fn f() { log!(\"{}\", crate::store::N) }"),
        &["handlers imports store"],
    );
    assert_found(&wrong("src/domain/plan.rs", "use super::super::clock::Clock;"), &["domain imports clock"]);
    assert_found(&wrong("src/domain/plan.rs", "mod t { use super::super::super::store; }"), &["domain imports store"]);
    assert_found(&wrong("src/metrics.rs", "use super::store::Store;"), &["metrics imports store"]);
    assert_found(&wrong("src/main.rs", "use emponto::engine;"), &["main imports engine"]);
    assert_found(&wrong("src/gadgets/mod.rs", "use crate::domain::job;"), &["room \"gadgets\" has no arrows"]);
    assert_found(&wrong("src/store/mod.rs", "use crate::{self as house};"), &["store imports the whole crate"]);
    assert_found(&wrong("src/store/mod.rs", "use crate as house;"), &["store imports the whole crate"]);
}

#[test]
fn an_import_along_an_arrow_is_fine() {
    let wrong = |path: &str, text: &str| arrows::wrong_imports(&source(path, text), &ARROWS);

    assert_found(&wrong("src/http/api.rs", "use crate::{domain::{job, run}, http::page, store::Store};"), &[]);
    assert_found(&wrong("src/domain/plan.rs", "use super::job::Job; mod tests { use super::super::run::Run; }"), &[]);
    assert_found(&wrong("src/domain/schedule/zone.rs", "use super::super::job::Job;"), &[]);
    assert_found(&wrong("src/store/mod.rs", "pub(crate) fn f() {} pub(in crate::store) fn g() {}"), &[]);
}

#[test]
fn files_functions_and_rooms_keep_their_budgets() {
    let sources = house("src");
    let mut findings: Vec<Finding> = sources.iter().flat_map(budgets::too_big).collect();
    findings.extend(budgets::crowded_rooms(&sources));
    assert_tidy(findings);
}

#[test]
fn what_is_over_its_budget_is_found() {
    let found = |text: &str| budgets::too_big(&source("src/clock.rs", text));

    assert_found(&found(&"\n".repeat(400)), &["401 lines"]);
    assert_found(&found(&format!("fn long() {{\n{}}}", "\n".repeat(69))), &["function long has 71 lines"]);
    let in_macro = format!("both! {{ impl A {{ fn long() {{\n{}}} }} }}", "\n".repeat(69));
    assert_found(&found(&in_macro), &["function long has 71 lines"]);
    let in_rules = format!("macro_rules! m {{ ($a:ty) => {{ fn long(a: $a) {{\n{}}} }} }}", "\n".repeat(69));
    assert_found(&found(&in_rules), &["function long has 71 lines"]);
    assert_found(&found("fn wide(a: u8, b: u8, c: u8, d: u8, e: u8) {}"), &["function wide has 5 parameters"]);
    assert_found(
        &found("fn deep() { for a in b { if a { match a { _ => { while a {} } } } } }"),
        &["function deep nests 4 deep"],
    );
    assert_found(
        &found("fn deep() { if a {} else if b { loop { if c { if d {} } } } }"),
        &["function deep nests 4 deep"],
    );
}

#[test]
fn what_keeps_its_budget_is_fine() {
    let found = |text: &str| budgets::too_big(&source("src/clock.rs", text));

    assert_found(&found(&"\n".repeat(399)), &[]);
    assert_found(&found(&format!("fn f() {{\n{}}}", "\n".repeat(68))), &[]);
    assert_found(&found("struct A; impl A { fn f(&self, a: u8, b: u8, c: u8, d: u8) {} }"), &[]);
    assert_found(&found("fn f() { if a {} else if b {} else if c {} else if d {} else { if e { if g {} } } }"), &[]);
    assert_found(&found("fn f() { if a { if b { fn g() { if a { if b {} } } } } }"), &[]);
}

#[test]
fn a_crowded_room_is_found_but_handlers_may_be_many() {
    let room = |name: &str| (0..11).map(|i| source(&format!("src/{name}/f{i}.rs"), "")).collect::<Vec<_>>();

    assert_found(&budgets::crowded_rooms(&room("store")), &["src/store has 11 files"]);
    assert_found(&budgets::crowded_rooms(&room("handlers")), &[]);
}

#[test]
fn every_file_says_what_it_is_for() {
    let sources = ["src", "tests", "benches"].into_iter().flat_map(house).collect::<Vec<_>>();
    assert_tidy(sources.iter().filter_map(documents::unsaid_purpose).collect());
}

#[test]
fn a_file_that_does_not_say_what_it_is_for_is_found() {
    let silent = Source::new("src/clock.rs", "use std::fmt;\n//! Too late.").ok();
    assert!(silent.is_none(), "an inner comment in the middle is no Rust");

    let silent = Source::new("src/clock.rs", "use std::fmt;").expect("Rust");
    assert!(documents::unsaid_purpose(&silent).is_some_and(|finding| finding.contains("first line")));
    let placeholder = Source::new("src/clock.rs", "//! (to come)").expect("Rust");
    assert!(documents::unsaid_purpose(&placeholder).is_some_and(|finding| finding.contains("placeholder")));
}

#[test]
fn every_handler_is_documented() {
    let sources = house("src");
    let list = sources.iter().find(|source| source.path == "src/handlers/mod.rs").expect("the room has a door");
    assert!(!documents::handlers(list).is_empty(), "the list of handlers is not where this test looks for it");
    assert_tidy(documents::undocumented_handlers(list, &documents::read("docs/handlers.md")));
}

#[test]
fn an_undocumented_handler_is_found() {
    let list = "handlers! { /// Calls.\nhttp as Http,\n/// Does nothing as such.\n noop as Noop, }";
    let found = |page: &str| documents::undocumented_handlers(&source("src/handlers/mod.rs", list), page);

    assert_found(&found("## `http`\n"), &["src/handlers/mod.rs:5: noop"]);
    assert_found(&found("the noop handler\n"), &["http", "noop"]);
    assert_found(&found("## `http`\n- `run.noop`: nothing\n"), &[]);
}

#[test]
fn only_one_room_asks_for_each_thing() {
    assert_tidy(house("src").iter().flat_map(bans::asked_elsewhere).collect());
}

#[test]
fn time_environment_and_tables_asked_elsewhere_are_found() {
    let found = |path: &str, text: &str| bans::asked_elsewhere(&source(path, text));

    for now in ["Utc::now()", "chrono::Utc::now()", "Instant::now()", "std::time::SystemTime::now()", "Zoned::now()"] {
        assert_found(&found("src/engine/mod.rs", &format!("fn f() {{ {now}; }}")), &["only clock asks the time"]);
        assert_found(&found("src/clock.rs", &format!("fn f() {{ {now}; }}")), &[]);
    }
    assert_found(&found("src/engine/mod.rs", "fn f() { a.map(Utc::now) }"), &["only clock asks the time"]);
    for read in ["std::env::var(\"A\")", "env::var(\"A\")", "env::vars()"] {
        assert_found(&found("src/http/mod.rs", &format!("fn f() {{ {read}; }}")), &["only config reads"]);
        assert_found(&found("src/config/mod.rs", &format!("fn f() {{ {read}; }}")), &[]);
    }
    assert_found(&found("src/http/mod.rs", "use std::{env, fmt};"), &["only config reads"]);
    assert_found(&found("src/main.rs", "fn main() { run(std::env::args_os()) }"), &[]);
    assert_found(&found("src/http/mod.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");"), &[]);
    for sql in ["select * from {runs} where id = $1", "update workers.jobs set a = 1", "INSERT INTO workers_runs (id)"]
    {
        assert_found(&found("src/engine/mod.rs", &format!("const S: &str = \"{sql}\";")), &["only store names"]);
        assert_found(&found("src/store/mod.rs", &format!("const S: &str = \"{sql}\";")), &[]);
    }
    assert_found(&found("src/cli/mod.rs", "const S: &str = \"removed from jobs.toml\";"), &[]);
    assert_found(&found("src/domain/plan.rs", "async fn f() {}"), &["domain is pure"]);
    assert_found(&found("src/domain/plan.rs", "use std::{fmt, fs};"), &["domain is pure"]);
    assert_found(&found("src/domain/plan.rs", "use sqlx::Row;"), &["domain is pure"]);
}

#[test]
fn nothing_is_left_undone_or_silenced() {
    let sources = ["src", "tests", "benches"].into_iter().flat_map(house);
    assert_tidy(sources.flat_map(|source| bans::left_behind(&source)).collect());
}

#[test]
fn what_is_left_undone_or_silenced_is_found() {
    let found = |text: &str| bans::left_behind(&source("src/clock.rs", text));

    assert_found(&found("fn f() { a.unwrap(); }"), &["unwrap"]);
    assert_found(&found("fn f() { info!(\"{}\", a.unwrap()); }"), &["unwrap"]);
    assert_found(&found("#[cfg(test)] mod tests { fn f() { a.unwrap(); } }"), &[]);
    assert_found(&found("#[test] fn f() { a.unwrap(); }"), &[]);
    assert_found(&found("fn f() { a.unwrap_or(1); }"), &[]);
    assert_found(&found("#[allow(dead_code)] fn f() {}"), &["allow"]);
    assert_found(&found("#[cfg_attr(test, allow(dead_code))] fn f() {}"), &["allow"]);
    assert_found(&found("#[cfg(test)] mod tests { #[test] #[ignore = \"slow\"] fn f() {} }"), &["ignored"]);
    assert_found(&found("fn f() { todo!() }"), &["todo!"]);
    assert_found(&found("fn f() { unimplemented!(\"later\") }"), &["unimplemented!"]);
    assert_found(&found("// TODO: later\nfn f() {} // FIXME"), &["TODO", "FIXME"]);
    for path in ["tests/store.rs", "src/domain/tests.rs", "src/domain/tests/plan.rs"] {
        assert_found(&bans::left_behind(&source(path, "fn f() { a.unwrap(); }")), &[]);
    }
}

#[test]
fn names_say_what_things_are() {
    assert_tidy(house("src").iter().flat_map(names::empty_names).collect());
}

#[test]
fn a_name_that_says_nothing_is_found() {
    let found = |path: &str, text: &str| names::empty_names(&source(path, text));

    assert_found(&found("src/clock.rs", "struct JobManager; enum StoreService {}"), &["JobManager", "StoreService"]);
    assert_found(&found("src/clock.rs", "trait Helper {} type Info = u8; mod utils {}"), &["Helper", "Info", "utils"]);
    assert_found(&found("src/store/helpers.rs", ""), &["helpers"]);
    assert_found(&found("src/clock.rs", "struct Database; struct Informed; struct Utility;"), &[]);
}

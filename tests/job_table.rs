//! The job table, by its files: what is refused and with which words, what is warned of, and what comes out.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::job::{Backoff, CatchUp, Delivery, ExpectItems, Gate, Job, JobName, Keep, Overlap, Retry},
    job_table::{Code, Environment, JobTable, MAX_FILE_BYTES, MAX_JOBS, Problem, TeamDefaults, parse, problem, schema},
};

/// The variables that every test of this file sees.
fn environment() -> Environment {
    let pairs = [("APP_ENV", "production"), ("WORD", "hello"), ("EMPTY", ""), ("NUMBER", "5"), ("TOKEN", "s3cr3t")];
    Environment::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
}

fn read(text: &str) -> Result<JobTable, Vec<Problem>> {
    parse(text, "jobs.toml", &environment())
}

fn table(text: &str) -> JobTable {
    read(text).unwrap_or_else(|problems| panic!("{}", problem::as_text(&problems, false)))
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/job_table").join(name)
}

fn toml_files(name: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder(name)).expect("the corpus is there");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let files = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    files
        .map(|path| {
            let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (stem, fs::read_to_string(&path).expect("a readable file"))
        })
        .collect()
}

#[test]
fn every_broken_file_is_refused_with_exactly_the_expected_words() {
    let files = toml_files("broken");
    let write = std::env::var_os("WRITE_EXPECTED").is_some();
    let mut differing = Vec::new();

    for (name, text) in &files {
        let told = match parse(text, &format!("{name}.toml"), &environment()) {
            Ok(_) => "it was taken".into(),
            Err(problems) => problem::as_text(&problems, false),
        };
        let path = folder("broken").join(format!("{name}.txt"));
        if write {
            fs::write(&path, &told).expect("a writable folder");
        }
        if fs::read_to_string(&path).unwrap_or_default() != told {
            differing.push(format!("{name}:\n{told}"));
        }
    }

    assert!(40 <= files.len(), "only {} broken files", files.len());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn project(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn project_text(name: &str) -> String {
    fs::read_to_string(project(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// With `WRITE_EXPECTED` set the file is written instead, so that a change is looked at in the diff.
fn assert_up_to_date(name: &str, expected: &str) {
    if std::env::var_os("WRITE_EXPECTED").is_some() {
        fs::write(project(name), expected).expect("a writable file");
    }
    assert!(project_text(name) == expected, "{name} is stale: run this test with WRITE_EXPECTED=1");
}

#[test]
fn the_checked_in_schema_is_the_one_the_types_give() {
    assert_up_to_date("jobs.schema.json", &schema::text());
}

#[test]
fn the_key_tables_of_the_documentation_are_the_ones_the_types_give() {
    let mut text = project_text("docs/jobs-toml.md");

    for (name, part) in schema::documentation() {
        let begin = format!("<!-- generated: {name} -->\n");
        let start = text.find(&begin).unwrap_or_else(|| panic!("no marker for {name}")) + begin.len();
        let end = start + text[start..].find("<!-- end -->").expect("each marker has an end");
        text.replace_range(start..end, &part);
    }

    assert_up_to_date("docs/jobs-toml.md", &text);
}

fn complaints_of_the_schema(text: &str) -> Vec<String> {
    let schema = serde_json::from_str(&project_text("jobs.schema.json")).expect("the schema is JSON");
    let validator = jsonschema::draft7::new(&schema).expect("the schema is a schema");
    let table: toml::Value = toml::from_str(text).expect("the file is TOML");
    let json = serde_json::to_value(table).expect("TOML fits into JSON");
    validator.iter_errors(&json).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_takes_what_the_parser_takes() {
    let mut files = toml_files("good");
    files.insert("jobs.toml".into(), project_text("jobs.toml"));

    for (name, text) in &files {
        assert_eq!(complaints_of_the_schema(text), Vec::<String>::new(), "{name}");
        assert!(read(text).is_ok(), "{name}: {}", problem::as_text(&read(text).unwrap_err(), false));
    }
}

#[test]
fn the_schema_finds_slips_while_they_are_typed() {
    for name in ["unknown_key_near", "unknown_values", "wrong_types", "out_of_range", "two_handlers", "keys_of_later"] {
        let text = fs::read_to_string(folder("broken").join(format!("{name}.toml"))).expect("it is in the corpus");

        assert!(!complaints_of_the_schema(&text).is_empty(), "{name}");
    }
}

fn job<'a>(table: &'a JobTable, name: &str) -> &'a Job {
    table.job(&JobName::parse(name).expect("a good name")).expect(name)
}

fn only_job(text: &str) -> Job {
    job(&table(text), "a").clone()
}

fn codes(problems: &[Problem]) -> Vec<&'static str> {
    problems.iter().map(|problem| problem.code.text()).collect()
}

fn moment(text: &str) -> DateTime<Utc> {
    text.parse().expect("an RFC 3339 instant")
}

#[test]
fn the_shipped_table_has_the_nine_jobs_on_their_schedules() {
    let table = parse(&project_text("jobs.toml"), "jobs.toml", &Environment::default()).expect("the shipped table");
    // A Saturday morning in Sao Paulo.
    let after = moment("2026-01-03T11:00:30Z");
    let next = |name: &str| {
        let schedule = job(&table, name).schedule.as_ref().expect("all nine have one");
        schedule.next_after(after).expect("it fires").to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };

    let firings: Vec<(String, &str)> =
        table.jobs.values().map(|entry| (next(entry.job.name.as_str()), entry.job.name.as_str())).collect();

    assert_eq!(
        firings,
        [
            ("2026-01-05T11:00:00Z", "daily_report"),
            ("2026-01-03T11:01:00Z", "fila_worker"),
            ("2026-01-03T11:10:00Z", "grupos_worker"),
            ("2026-01-03T11:05:00Z", "handoff_processor"),
            ("2026-01-03T11:15:00Z", "pilot_mode"),
            ("2026-01-05T11:00:00Z", "retomada_fora_horario"),
            ("2026-01-03T11:30:00Z", "shift_confirmation"),
            ("2026-01-03T12:00:00Z", "sync_briefing"),
            ("2026-01-03T12:00:00Z", "temperature_decay"),
        ]
        .map(|(next, name)| (next.to_string(), name))
    );
    let handlers: Vec<&str> = table.jobs.values().map(|entry| entry.job.handler).collect();
    assert_eq!(
        handlers,
        ["report", "fila", "grupos", "handoffs", "pilot", "retomada", "shifts", "briefing", "temperature_decay"]
    );
    assert!(job(&table, "fila_worker").policy.critical && job(&table, "retomada_fora_horario").policy.critical);
}

#[test]
fn a_job_that_says_nothing_gets_what_is_built_in() {
    let policy = only_job("[jobs.a]\nevery = '1h'\nrun.noop = {}").policy;

    let seconds = Duration::from_secs;
    assert_eq!((policy.timeout, policy.slow_after), (seconds(300), seconds(60)));
    let backoff = Backoff::Exponential { first: seconds(5), most: seconds(300) };
    assert_eq!(policy.retry, Retry { max_attempts: 3, backoff, jitter: true });
    assert_eq!((policy.overlap, policy.catch_up), (Overlap::Skip, CatchUp::Latest));
    assert_eq!((policy.delivery, policy.critical, policy.priority), (Delivery::AtLeastOnce, false, 0));
    assert_eq!(policy.keep, Keep { done: seconds(7 * 86_400), failed: seconds(30 * 86_400) });
    assert_eq!((policy.concurrency, policy.stale_after, policy.expect_items), (None, None, ExpectItems::Any));
}

#[test]
fn what_is_too_old_to_catch_up_follows_from_the_period() {
    for (schedule, days) in [
        ("every = '1min'", 1),
        ("cron = '0 8 * * mon'", 7),
        ("every = '3d'", 3),
        ("cron = '0 0 29 2 *'", 7),
        ("catch_up_within = '2d'", 2),
        ("", 1),
    ] {
        let job = only_job(&format!("[jobs.a]\n{schedule}\nrun.noop = {{}}"));

        assert_eq!(job.policy.catch_up_within, TimeDelta::days(days), "{schedule}");
    }
}

#[test]
fn a_setting_comes_from_the_job_then_the_defaults_then_the_teams_variables() {
    let team = TeamDefaults { timeout: Some(Duration::from_secs(77)), ..TeamDefaults::default() };
    let environment = Environment { team, ..environment() };
    let timeout = |text: &str| {
        let table = parse(text, "jobs.toml", &environment).expect("a good table");
        job(&table, "a").policy.timeout.as_secs()
    };

    assert_eq!(timeout("[jobs.a]\nrun.noop = {}"), 77);
    assert_eq!(timeout("[defaults]\ntimeout = 66\n[jobs.a]\nrun.noop = {}"), 66);
    assert_eq!(timeout("[defaults]\ntimeout = 66\n[jobs.a]\ntimeout = 55\nrun.noop = {}"), 55);
}

#[test]
fn the_teams_queue_settings_reach_queues_only() {
    let team =
        TeamDefaults { timeout: None, queue_keep_done: Some(Duration::from_secs(3_600)), queue_concurrency: Some(2) };
    let text = "[jobs.queue]\nrun.noop = {}\n[jobs.clock]\nevery = '1h'\nrun.noop = {}";
    let table = parse(text, "jobs.toml", &Environment { team, ..environment() }).expect("a good table");

    let (queue, clock) = (&job(&table, "queue").policy, &job(&table, "clock").policy);
    assert_eq!((queue.keep.done.as_secs(), queue.concurrency), (3_600, Some(2)));
    assert_eq!((clock.keep.done.as_secs(), clock.concurrency), (7 * 86_400, None));
}

#[test]
fn tables_are_inherited_key_by_key() {
    let job = only_job(
        "[defaults]\nretry = { max_attempts = 9, backoff = 'linear 30s' }\nkeep.done = '1d'\n\
         [jobs.a]\nretry.jitter = false\nretry.max_attempts = 2\nkeep.failed = '2d'\nrun.noop = {}",
    );

    let backoff = Backoff::Linear { step: Duration::from_secs(30) };
    assert_eq!(job.policy.retry, Retry { max_attempts: 2, backoff, jitter: false });
    assert_eq!(job.policy.keep.done, Duration::from_secs(86_400));
    assert_eq!(job.policy.keep.failed, Duration::from_secs(2 * 86_400));
}

#[test]
fn a_filled_in_text_is_read_as_the_type_of_its_key() {
    let job = only_job(
        "[jobs.a]\nevery = '${NONE:-30}'\npriority = '${NUMBER}'\ncritical = '${NONE:-true}'\n\
         timeout = '${NUMBER}min'\nowner = '${WORD} $$5'\nretry.max_attempts = '${NUMBER}'\nrun.noop = {}",
    );

    assert_eq!((job.policy.priority, job.policy.critical, job.policy.retry.max_attempts), (5, true, 5));
    assert_eq!(job.policy.timeout, Duration::from_secs(300));
    assert_eq!(job.about.owner, "hello $5");
}

#[test]
fn a_value_from_outside_cannot_change_the_structure() {
    let evil = Environment::new([("X".into(), "a'\nenabled = false\n[jobs.b]\nevery = '1s".into())].into());

    let table = parse("[jobs.a]\nowner = '${X}'\nrun.noop = {}", "jobs.toml", &evil).expect("a good table");

    assert_eq!(table.jobs.len(), 1);
    assert!(job(&table, "a").disabled.is_none());
}

#[test]
fn gates_on_variables_are_decided_at_load() {
    for (gate, open) in [
        ("{ env = 'WORD', is = 'HELLO' }", true),
        ("{ env = 'WORD', is = 'bye' }", false),
        ("{ env = 'NONE', is = 'false' }", false),
        ("{ env = 'NONE', is = '' }", true),
        ("{ env = 'NUMBER', is = 5 }", true),
    ] {
        let job = only_job(&format!("[jobs.a]\nevery = '1h'\nwhen = {gate}\nrun.noop = {{}}"));

        assert!(matches!(job.gate, Some(Gate::Environment { open: is, .. }) if is == open), "{gate}: {:?}", job.gate);
    }
}

#[test]
fn a_disabled_job_says_why() {
    let reason = |keys: &str, app_env: &str| {
        let environment = Environment::new([("APP_ENV".to_string(), app_env.to_string())].into());
        let table = parse(&format!("[jobs.a]\n{keys}\nrun.noop = {{}}"), "jobs.toml", &environment).expect("good");
        job(&table, "a").disabled.clone()
    };

    assert_eq!(reason("only_in = ['production', 'staging']", "staging"), None);
    assert_eq!(reason("enabled = false", "production").as_deref(), Some("enabled = false"));
    let elsewhere = reason("only_in = 'production'", "development");
    assert_eq!(elsewhere.as_deref(), Some("only in production, and APP_ENV is development"));
    let nowhere = reason("only_in = 'production'", "");
    assert_eq!(nowhere.as_deref(), Some("only in production, and APP_ENV is not set"));
}

#[test]
fn the_work_hash_covers_everything_but_the_schedule() {
    let base = "every = '1h'\nrun.noop = {}";
    let hash = |keys: &str| only_job(&format!("[jobs.a]\n{keys}")).work_hash;

    for same in ["every = '2h'\nrun.noop = {}", "every = '1h'\ndescription = 'x'\ntimeout = 300\nrun.noop = {}"] {
        assert_eq!(hash(same), hash(base), "{same}");
    }
    for other in [
        "every = '1h'\nrun.noop = { sleep = '1s' }",
        "every = '1h'\ntimeout = 301\nrun.noop = {}",
        "every = '1h'\npayload = { x = 1 }\nrun.noop = {}",
        "every = '1h'\nwhen = { env = 'WORD', is = 'hello' }\nrun.noop = {}",
        "every = '1h'\nenabled = false\nrun.noop = {}",
    ] {
        assert_ne!(hash(other), hash(base), "{other}");
    }
}

#[test]
fn the_work_hash_covers_names_of_variables_and_not_what_a_host_has_in_them() {
    let text = "[jobs.a]\nevery = '1h'\nrun.command = { argv = ['true'], env = ['TOKEN'] }";
    let hash = |text: &str, token: &str| {
        let environment = Environment::new([("TOKEN".to_string(), token.to_string())].into());
        let table = parse(text, "jobs.toml", &environment).expect("a good table");
        (table.hash.clone(), job(&table, "a").work_hash.clone())
    };

    assert_eq!(hash(text, "s3cr3t"), hash(text, "r0tated"));
    assert_ne!(hash(text, "s3cr3t"), hash(&text.replace("'TOKEN'", "'TOKEN', 'WORD'"), "s3cr3t"));
    assert_ne!(hash(text, "s3cr3t"), hash(&text.replace("'true'", "'true', 'x'"), "s3cr3t"));
}

#[test]
fn the_table_hash_changes_with_what_runs_and_not_with_how_it_is_written() {
    let base = table("[jobs.a]\nevery = '1h'\nrun.noop = {}").hash;
    let written_otherwise =
        table("# a comment\n[server]\nlisten = ':9'\n[jobs]\na = { run = { noop = {} }, every = 3600 }");
    let other_schedule = table("[jobs.a]\nevery = '2h'\nrun.noop = {}");
    let more_jobs = table("[jobs.a]\nevery = '1h'\nrun.noop = {}\n[jobs.b]\nrun.noop = {}");
    let newer = table("revision = 2\n[jobs.a]\nevery = '1h'\nrun.noop = {}");

    assert_eq!(written_otherwise.hash, base);
    assert_eq!(base.len(), 64);
    for other in [other_schedule, more_jobs, newer] {
        assert_ne!(other.hash, base);
    }
}

#[test]
fn what_came_from_variables_under_a_secret_key_is_masked() {
    let text = "[server]\ntoken = ['${TOKEN}']\n[targets.api]\nbase_url = 'http://localhost'\n\
                headers = { Authorization = 'Bearer ${TOKEN}', Accept = '${WORD}' }\n\
                [jobs.a]\nevery = '1h'\nrun.noop = {}";

    let table = table(text);

    assert!(!table.shown.to_string().contains("s3cr3t"), "{}", table.shown);
    assert_eq!(table.shown["targets"]["api"]["headers"]["Accept"], "hello");
    assert_eq!(table.targets["api"].headers["Authorization"], "Bearer s3cr3t");
    assert_eq!(table.process_settings["server.token"], ("s3cr3t".to_string(), 2));
}

#[test]
fn an_error_does_not_tell_a_secret() {
    let text = "[executor]\nconcurrency = '${TOKEN}'\n[server]\nmetrics_public = true\n[database]\nurl = 5\n\
                [targets.api]\nheaders = { x_token = { a = '${TOKEN}' } }";

    let told = problem::as_text(&read(text).expect_err("bad"), false);

    assert_eq!(told.matches("s3cr3t").count(), 1, "only the key without a secret name may show it: {told}");
}

#[test]
fn a_renamed_job_keeps_the_names_it_had() {
    let job = only_job("[jobs.a]\nprevious_names = ['b', 'c']\nrun.noop = {}");

    assert_eq!(job.previous_names, ["b", "c"].map(|name| JobName::parse(name).expect("good")));
}

#[test]
fn what_is_doubtful_is_warned_of() {
    let zone = "timezone = 'UTC'\n";
    for (keys, expected) in [
        ("every = '1d'".to_string(), vec!["W101"]),
        ("every = '5s'\ntimeout = '5s'".to_string(), vec!["W102"]),
        ("every = '1min'".to_string(), vec!["W103"]),
        ("cron = '0 8 * * *'".to_string(), vec!["W104"]),
        ("at = '08:00'".to_string(), vec!["W104"]),
        (format!("{zone}cron = '0 8 */2 * mon'"), vec!["W106"]),
        (format!("{zone}cron = '0 8 1-5 * mon'"), vec![]),
        ("every = '1h'\nconcurrency = 3".to_string(), vec!["W107"]),
        ("every = '1h'\nconcurrency = 3\noverlap = 'allow'".to_string(), vec![]),
        ("overlap = 'allow'\ncatch_up = 'all'".to_string(), vec!["W107", "W107"]),
        ("every = '1h'\nonly_in = 'production'".to_string(), vec![]),
    ] {
        let table = table(&format!("[jobs.a]\n{keys}\nrun.noop = {{}}"));

        assert_eq!(codes(&table.warnings), expected, "{keys}");
    }
    let unset = table("[jobs.a]\nevery = '1h'\nrun.command = { argv = ['true'], env = ['WORD', 'NONE'] }");
    assert_eq!(codes(&unset.warnings), ["W109"]);
    assert!(unset.warnings[0].message.contains("NONE, which is not set"), "{:?}", unset.warnings);
    let text = "[jobs.a]\nevery = '1h'\nonly_in = 'production'\nrun.noop = {}";
    let nowhere = parse(text, "jobs.toml", &Environment::default()).expect("good");
    assert_eq!(codes(&nowhere.warnings), ["W105"]);
}

#[test]
fn a_file_over_its_limits_is_refused() {
    let mut many = String::new();
    for number in 0..=MAX_JOBS {
        many.push_str(&format!("[jobs.j{number}]\nrun.noop = {{}}\n"));
    }
    let large = format!("# {}\n", "x".repeat(MAX_FILE_BYTES));

    for text in [many, large] {
        let problems = read(&text).expect_err("over the limit");

        assert_eq!(codes(&problems), ["E016"]);
    }
}

#[test]
fn ten_thousand_jobs_are_taken() {
    let text: String =
        (0..MAX_JOBS).map(|number| format!("[jobs.j{number}]\nevery = '1h'\nrun.noop = {{}}\n")).collect();

    assert_eq!(table(&text).jobs.len(), MAX_JOBS);
}

#[test]
fn problems_are_told_to_programs_too() {
    let problems = read("[jobs.a]\nevry = '1h, 50%'\nrun.noop = {}").expect_err("bad");

    assert_eq!(
        problem::as_github(&problems),
        "::error file=jobs.toml,line=2,col=1,title=E002::unknown key `evry`%0Ahelp: did you mean `every`?\n"
    );
    let json = serde_json::to_value(&problems).expect("problems are JSON");
    assert_eq!((&json[0]["code"], &json[0]["line"], &json[0]["column"]), (&"E002".into(), &2.into(), &1.into()));
}

#[test]
fn every_code_is_met_by_a_test_or_a_broken_file() {
    let mut told: String = toml_files("broken")
        .keys()
        .map(|name| fs::read_to_string(folder("broken").join(format!("{name}.txt"))).expect("its text"))
        .collect();
    told.push_str(include_str!("job_table.rs"));

    // No handler of this version has a key that must be given; the others are told by `workers check`, which tests them.
    const ELSEWHERE: [&str; 4] = ["E005", "E017", "E018", "W108"];
    for code in Code::ALL.iter().filter(|code| !ELSEWHERE.contains(&code.text())) {
        assert!(told.contains(code.text()), "nothing shows {}", code.text());
    }
}

#[test]
fn any_text_is_answered_without_a_panic() {
    let text = project_text("tests/job_table/good/everything.toml");
    for cut in (0..text.len()).step_by(5).filter(|cut| text.is_char_boundary(*cut)) {
        let _ = read(&text[..cut]);
    }
    for text in ["\u{feff}[jobs.a]\nrun.noop = {}", "é", "[jobs.\"é\"]\nrün = 1\r\n", "a = 1\r\n[[jobs]]\n", "\0"] {
        let _ = read(text);
    }
}

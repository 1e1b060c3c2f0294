//! What `check` answers, in each of its forms.

use std::{fs, path::Path};

use super::*;

fn arguments(file: &Path, format: Format) -> CheckArguments {
    CheckArguments { file: Some(file.display().to_string()), format: Some(format), strict: false }
}

fn now() -> DateTime<Utc> {
    "2026-01-03T11:00:00Z".parse().expect("an instant")
}

fn answer(table: &str, variables: &[(&str, &str)], format: Format) -> (String, Exit) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs.toml");
    fs::write(&file, table).expect("a writable folder");
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let surroundings = Surroundings { variables, ..Surroundings::default() };
    let arguments = arguments(&file, format);

    let (text, exit) = examine_within(&arguments, &Flags::new(), (&surroundings, now())).answer(&arguments);

    (text.replace(&file.display().to_string(), "jobs.toml"), exit)
}

const GOOD: &str = "[jobs.a]\nevery = '1h'\nrun.noop = {}\n";
const BAD: &str = "[jobs.a]\nevry = '1h'\nrun.noop = {}\n";

#[test]
fn a_good_table_is_summed_up_in_one_line() {
    assert_eq!(answer(GOOD, &[], Format::Text), ("jobs.toml: 1 job, 0 errors, 0 warnings".into(), Exit::Ok));
}

#[test]
fn bad_variables_and_a_bad_table_are_told_together() {
    let (text, exit) = answer(BAD, &[("PORT", "eighty"), ("LOG_LEVEL", "loud")], Format::Text);

    assert_eq!(exit, Exit::ConfigInvalid);
    for part in
        ["error: PORT: ", "error: LOG_LEVEL: ", "error[E002]: unknown key `evry`", "jobs.toml: 3 errors, 0 warnings"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn programs_get_the_same_as_json_and_as_annotations() {
    let (text, _) = answer(BAD, &[], Format::Json);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");

    assert_eq!((&json["ok"], &json["errors"][0]["code"]), (&false.into(), &"E002".into()));
    assert!(answer(BAD, &[], Format::Github).0.starts_with("::error file="));
}

#[test]
fn a_zone_about_which_the_editions_disagree_is_warned_of() {
    // IANA 2026 moved Vancouver to permanent daylight time; the second opinion still carries 2025.
    let table = "[jobs.a]\ncron = '0 8 * * *'\ntimezone = 'America/Vancouver'\nrun.noop = {}\n";

    let (text, exit) = answer(table, &[], Format::Text);

    assert_eq!(exit, Exit::Ok);
    assert!(text.contains("warning[W108]") && text.contains("America/Vancouver"), "{text}");
}

#[test]
fn a_missing_file_is_told_with_its_name() {
    let arguments = arguments(Path::new("/nowhere/jobs.toml"), Format::Text);

    let examined = examine_within(&arguments, &Flags::new(), (&Surroundings::default(), now()));
    let (text, exit) = examined.answer(&arguments);

    assert_eq!(exit, Exit::ConfigInvalid);
    assert!(text.contains("error[E017]: cannot read /nowhere/jobs.toml"), "{text}");
}

#[test]
fn what_the_database_refuses_stands_at_its_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs.toml");
    fs::write(&file, GOOD).expect("a writable folder");
    let arguments = arguments(&file, Format::Text);

    let mut examined = examine_within(&arguments, &Flags::new(), (&Surroundings::default(), now()));
    examined.refuse_statement(&JobName::from_store("a"), "no such table: leads");
    let (text, exit) = examined.answer(&arguments);

    assert_eq!(exit, Exit::ConfigInvalid);
    assert!(text.contains("error[E018]: job `a`: no such table: leads"), "{text}");
    assert!(text.contains("jobs.toml:1:1"), "{text}");
}

#[test]
fn with_strict_a_warning_is_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs.toml");
    fs::write(&file, "[jobs.a]\nevery = '1d'\nrun.noop = {}\n").expect("a writable folder");
    let strict = CheckArguments { strict: true, ..arguments(&file, Format::Text) };

    let (_, exit) = examine_within(&strict, &Flags::new(), (&Surroundings::default(), now())).answer(&strict);

    assert_eq!(exit, Exit::ConfigInvalid);
}

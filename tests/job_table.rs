//! The job table, by its files: what is refused and with which words, what is warned of, and what comes out.

use std::{collections::BTreeMap, fs, path::PathBuf};

use emponto::job_table::{Environment, JobTable, Problem, parse, problem, schema};

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

//! The job table, by its files: what is refused and with which words, what is warned of, and what comes out.

use std::{collections::BTreeMap, fs, path::PathBuf};

use emponto::job_table::{Environment, JobTable, Problem, parse, problem};

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

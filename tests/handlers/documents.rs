//! docs/handlers.md: each handler has its section, and each example in it is one that runs.

use std::{fs, path::Path};

use emponto::handlers::{Targets, Work, http::Target};
use serde_json::Value;

use crate::attempt::checked;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/handlers.md")).expect("docs/handlers.md")
}

#[test]
fn every_handler_says_what_it_is_for_and_has_a_section() {
    let page = page();
    for name in Work::NAMES {
        let file = ["{}.rs", "{}/mod.rs"].map(|form| root().join("src/handlers").join(form.replace("{}", name)));
        let source =
            file.iter().find_map(|path| fs::read_to_string(path).ok()).expect("a handler is one file or one folder");
        let first = source.lines().next().unwrap_or_default();

        assert!(first.starts_with(&format!("//! `{name}`: ")), "{name} begins with {first:?}");
        assert!(page.lines().any(|line| line.starts_with(&format!("## `{name}`"))), "{name} has no section");
    }
}

#[test]
fn every_setting_is_in_the_page() {
    let page = page();
    for name in Work::NAMES {
        let mut generator = schemars::SchemaGenerator::default();
        Work::schema(name, &mut generator).expect("a known name has a schema");
        let definitions = Value::Object(generator.definitions().clone());
        let definitions = definitions.as_object().expect("an object");
        for key in
            definitions.values().filter_map(|schema| schema["properties"].as_object()).flat_map(|keys| keys.keys())
        {
            assert!(page.contains(&format!("`{key}`")), "{name}: the setting {key} is not in docs/handlers.md");
        }
    }
}

#[test]
fn every_example_of_the_page_can_run() {
    let page = page();
    let targets = Targets::from([("default".into(), Target::at("http://localhost:8000"))]);
    let mut seen = 0;
    for example in page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("a first piece")) {
        let table: toml::Table = toml::from_str(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let mut targets = targets.clone();
        for (name, settings) in table.get("targets").and_then(toml::Value::as_table).into_iter().flatten() {
            let target: Target = settings.clone().try_into().unwrap_or_else(|error| panic!("{error}\n{example}"));
            // Variables are filled in by the job table, which is not part of this test.
            assert!(target.base_url.starts_with("${") || target.check().is_empty(), "{example}");
            targets.insert(name.clone(), Target::at("http://localhost:8000"));
        }
        for (job, settings) in table.get("jobs").and_then(toml::Value::as_table).into_iter().flatten() {
            let run = settings["run"].as_table().unwrap_or_else(|| panic!("job {job} runs nothing"));
            for (handler, settings) in run {
                let settings = serde_json::to_value(settings).expect("TOML without dates is JSON");
                checked(handler, settings, &targets).unwrap_or_else(|errors| panic!("{job}: {errors:?}\n{example}"));
                seen += 1;
            }
        }
    }
    assert!(Work::NAMES.len() <= seen, "{seen} examples");
}

#[test]
fn an_unknown_handler_is_refused_with_the_names_that_are_known() {
    let unknown = Work::parse("htpp", serde_json::json!({})).expect_err("unknown");

    assert!(unknown.to_string().starts_with("unknown variant `htpp`, expected one of `http`"), "{unknown}");
}

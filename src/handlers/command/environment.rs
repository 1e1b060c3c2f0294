//! What a child finds in its environment: an allow-list, resolved once when jobs.toml is read.

use std::{collections::BTreeMap, fmt};

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::domain::secret::{MASK, can_be_hidden, is_name_of_secret, password_of};

/// What every child gets when the daemon has it (spec 5, `command`): programs are found, and text and times come out
/// as they do for the daemon.
const ALWAYS: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Names that begin so are the daemon's own: its tokens must not reach children, and a run's identity is not a setting.
const OURS: &str = "WORKERS_";

/// The variables of a child, and what of them must not be shown.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Variables {
    values: BTreeMap<String, String>,
    /// Longest first, so that a secret inside another one hides no part of it alone.
    secrets: Vec<String>,
}

impl Variables {
    /// Takes the named variables out of all that there are; a name that is not set is left out.
    pub fn pick(names: &[String], all: &BTreeMap<String, String>) -> Self {
        let picked = ALWAYS.into_iter().chain(names.iter().map(String::as_str));
        let values = picked.filter_map(|name| all.get(name).map(|value| (name.to_owned(), value.clone()))).collect();
        let mut secrets: Vec<String> =
            names.iter().filter_map(|name| Some(secrets_of(name, all.get(name)?))).flatten().collect();
        secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { values, secrets }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text with `***` in the place of each secret.
    pub fn mask(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), MASK),
            false => text,
        })
    }

    /// The same in every text of a JSON value.
    pub fn mask_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.mask_json(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.mask_json(value)),
            _ => {}
        }
    }
}

/// Names alone: values may be secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// What of a variable must not be shown: all of it when its name says so, and the password of an address.
fn secrets_of(name: &str, value: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    if is_name_of_secret(name) {
        secrets.push(value.to_owned());
    }
    if let Some(password) = password_of(value) {
        // A library may show it as it was written or as it was meant.
        secrets.extend([password.to_owned(), percent_decode_str(password).decode_utf8_lossy().into_owned()]);
    }
    secrets.retain(|secret| can_be_hidden(secret));
    secrets
}

/// One message per name in `env` that cannot be listed.
pub(super) fn wrong_names(names: &[String]) -> Vec<String> {
    let wrong = |name: &String| {
        if !is_name(name) {
            return Some(format!(
                "env lists {name:?}, which is not the name of a variable\nhelp: letters, digits and _, and no digit first; the value is the daemon's own"
            ));
        }
        name.starts_with(OURS)
            .then(|| format!("env lists {name:?}, and variables that begin with {OURS} are the daemon's own"))
    };
    names.iter().filter_map(wrong).collect()
}

fn is_name(name: &str) -> bool {
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Arguments that hold a secret of the process: everybody on the host can read them in the list of processes.
pub(super) fn secret_arguments(argv: &[String], all: &BTreeMap<String, String>) -> Vec<String> {
    // A plain word is a setting with an unlucky name, such as `TOKENIZER=default`, and may stand in an argument by itself.
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase());
    let named =
        all.iter().flat_map(|(name, value)| secrets_of(name, value).into_iter().map(move |secret| (name, secret)));
    let secrets: Vec<_> = named.filter(|(_, secret)| !is_word(secret)).collect();
    let told = |(index, argument): (usize, &String)| {
        let (name, _) = secrets.iter().find(|(_, secret)| argument.contains(secret.as_str()))?;
        let help = match name.starts_with(OURS) {
            true => "a program must not get it at all".to_owned(),
            false => format!("write env = [\"{name}\"], and let the program read it there"),
        };
        Some(format!(
            "argv[{index}] holds the secret of {name}, and everybody on the host can read the arguments of a process\n\
             help: {help}"
        ))
    };
    argv.iter().enumerate().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process() -> BTreeMap<String, String> {
        [
            ("PATH", "/bin"),
            ("HOME", "/root"),
            ("API_TOKEN", "abcdef-123456"),
            ("DATABASE_URL", "postgres://ana:p%40ssw0rd@db/app"),
            ("LOG_LEVEL", "information"),
            ("PIN_TOKEN", "1"),
            ("OTHER_SECRET", "not passed on"),
            ("TOKENIZER", "default"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_child_gets_the_four_and_what_is_listed_and_set() {
        let variables = Variables::pick(&names(&["API_TOKEN", "NOT_SET"]), &process());

        let given: Vec<_> = variables.iter().collect();
        assert_eq!(given, [("API_TOKEN", "abcdef-123456"), ("HOME", "/root"), ("PATH", "/bin")]);
        assert_eq!(format!("{variables:?}"), r#"{"API_TOKEN", "HOME", "PATH"}"#);
    }

    #[test]
    fn secrets_of_listed_variables_are_masked_wherever_they_come_out() {
        let listed = names(&["API_TOKEN", "DATABASE_URL", "LOG_LEVEL", "PIN_TOKEN"]);
        let variables = Variables::pick(&listed, &process());
        let mut json = json!({ "a": ["Bearer abcdef-123456"], "n": 1 });

        variables.mask_json(&mut json);

        assert_eq!(json, json!({ "a": ["Bearer ***"], "n": 1 }));
        let said = "postgres://ana:p%40ssw0rd@db/app and p@ssw0rd at information 1";
        assert_eq!(variables.mask(said), "postgres://ana:***@db/app and *** at information 1");
    }

    #[test]
    fn an_argument_that_holds_a_secret_is_told_without_quoting_it() {
        let argv = names(&["psql", "--url=postgres://ana:p%40ssw0rd@db/app", "-v", "level=information", "default"]);

        let told = secret_arguments(&argv, &process());

        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("argv[1] holds the secret of DATABASE_URL"), "{told:?}");
        assert!(!told[0].contains("ssw0rd"), "{told:?}");
    }

    #[test]
    fn names_are_those_that_a_shell_would_take_and_none_of_ours() {
        assert_eq!(wrong_names(&names(&["A", "_b1", "DATABASE_URL"])), Vec::<String>::new());
        assert_eq!(wrong_names(&names(&["", "1A", "A=b", "a-b", "A\0", "É", "WORKERS_TOKEN"])).len(), 7);
    }
}

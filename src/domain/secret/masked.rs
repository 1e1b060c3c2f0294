//! Hides secrets in what is shown of a job table, wherever they came from.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value};

use super::{MASK, is_name_of_secret, password_of};

/// Shorter values of secret variables hide a text only when they are all of it: as a part they are anywhere.
const LEAST_PART_CHARS: usize = 4;
/// Tables whose keys are names that people gave, such as the job `token_refresh`.
const TABLES_OF_NAMES: [&str; 2] = ["jobs", "targets"];

/// The table whose addresses are shown by scheme and host: the rest may be a key.
const OUTBOUND: &str = "outbound";

/// What is known to be secret besides what looks so.
#[derive(Debug)]
pub struct Masking {
    secrets: Vec<String>,
}

impl Masking {
    /// Knows the values of the variables that look like secrets, and the passwords of addresses in the others.
    pub fn new(variables: &BTreeMap<String, String>) -> Self {
        let of = |(name, value): (&String, &String)| match is_name_of_secret(name) {
            true => Some(value.clone()),
            false => password_of(value).map(str::to_owned),
        };
        let mut secrets: Vec<String> = variables.iter().filter_map(of).filter(|secret| !secret.is_empty()).collect();
        // A secret may hold another one: the longer goes first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The job table as it may be shown.
    pub fn table(&self, table: Value) -> Value {
        let Value::Object(entries) = table else { return self.value(table) };
        let masked = entries.into_iter().map(|(key, value)| match value {
            outbound if key == OUTBOUND => (key, hosts_only(self.value(outbound))),
            Value::Object(named) if TABLES_OF_NAMES.contains(&key.as_str()) => {
                let named = named.into_iter().map(|(name, value)| (name, self.value(value)));
                (key, Value::Object(named.collect()))
            }
            other => self.entry(key, other),
        });
        Value::Object(masked.collect())
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(items) => self.items(items),
            Value::Object(entries) => {
                entries.into_iter().map(|(key, value)| self.entry(key, value)).collect::<Map<_, _>>().into()
            }
            other => other,
        }
    }

    fn entry(&self, key: String, value: Value) -> (String, Value) {
        let value = if is_name_of_secret(&key) { hidden(value) } else { self.value(value) };
        (key, value)
    }

    /// What follows an option such as `--token` in a list of arguments is its value.
    fn items(&self, items: Vec<Value>) -> Value {
        let mut follows = false;
        let masked = items.into_iter().map(|item| {
            let is_option = item.as_str().is_some_and(|text| {
                text.starts_with('-') && !text.contains(['=', ':', ' ']) && is_name_of_secret(text)
            });
            let was = std::mem::replace(&mut follows, is_option);
            if was && !is_option { hidden(item) } else { self.value(item) }
        });
        masked.collect()
    }

    fn text(&self, text: &str) -> String {
        let mut masked = without_named(&without_user(text));
        for secret in &self.secrets {
            if masked == *secret {
                return MASK.into();
            }
            if LEAST_PART_CHARS <= secret.chars().count() {
                masked = masked.replace(secret.as_str(), MASK);
            }
        }
        masked
    }
}

/// All texts and numbers within, hidden; what is on or off is no secret.
fn hidden(value: Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => Value::String(text),
        Value::String(_) | Value::Number(_) => MASK.into(),
        Value::Array(items) => items.into_iter().map(hidden).collect(),
        Value::Object(entries) => {
            entries.into_iter().map(|(key, value)| (key, hidden(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// All addresses within, without what follows their hosts.
fn hosts_only(value: Value) -> Value {
    match value {
        Value::String(text) => host_only(&text).into(),
        Value::Array(items) => items.into_iter().map(hosts_only).collect(),
        Value::Object(entries) => {
            entries.into_iter().map(|(key, value)| (key, hosts_only(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

fn host_only(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    match rest.find(['/', '?', '#']) {
        Some(end) if end + 1 < rest.len() => format!("{scheme}://{}/{MASK}", &rest[..end]),
        _ => text.into(),
    }
}

/// The text with the user part of every address in it hidden.
fn without_user(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return text.into();
    }
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        let end = rest.find(ends_address).unwrap_or(rest.len());
        masked.push_str("://");
        match user_end(&rest[..end]) {
            Some(at) => {
                masked.push_str(MASK);
                masked.push_str(&rest[at..]);
            }
            None => masked.push_str(rest),
        }
    }
    masked.into()
}

fn ends_address(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')
}

/// Where the @ behind the user part stands. A password may hold an @, a / and a ? that were not escaped.
fn user_end(address: &str) -> Option<usize> {
    let authority = address.split(['/', '?', '#']).next().unwrap_or(address);
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port.trim_end_matches(']'));
    let is_host = authority.starts_with('[') || port.chars().all(|c| c.is_ascii_digit());
    authority.rfind('@').or_else(|| if is_host { None } else { address.rfind('@') })
}

/// The text with what follows a name that looks secret hidden: `token=...`, `Authorization: ...`.
fn without_named(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '%' | '[' | ']');
        let name =
            before.rfind(|c: char| !is_part(c)).map_or(before, |end| before[end..].trim_start_matches(|c| !is_part(c)));
        let is_header = rest[at..].starts_with(':');
        masked.push_str(&rest[..=at]);
        rest = after;
        if after.starts_with("//") || !is_name_of_secret(name.trim_matches('-')) {
            continue;
        }
        let ends = |c: char| {
            matches!(c, '"' | '\'' | '\n') || !is_header && (c.is_whitespace() || matches!(c, '&' | '#' | ';'))
        };
        let end = after.find(ends).unwrap_or(after.len());
        if after[..end].trim().is_empty() {
            continue;
        }
        masked.push_str(if is_header { " " } else { "" });
        masked.push_str(MASK);
        rest = &after[end..];
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_canary_is_hidden_wherever_it_stands() {
        let canary = "canary-4711";
        let variables = [("API_TOKEN", canary), ("DATABASE_URL", "postgres://ana:canary-db@db/app"), ("HOME", "/root")];
        let masking = Masking::new(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let literal = "canary-literal";
        for place in [
            json!({ "server": { "token": literal } }),
            json!({ "jobs": { "a": { "headers": { "Authorization": format!("Bearer {literal}") } } } }),
            json!({ "jobs": { "a": { "headers": { "X-Api-Key": [literal, { "any": literal }] } } } }),
            json!({ "jobs": { "a": { "payload": { "senha": 4711, "cookie": literal, "n": [{ "password": literal }] } } } }),
            json!({ "jobs": { "a": { "get": format!("https://ana:{literal}@example.org/x") } } }),
            json!({ "jobs": { "a": { "get": format!("https://{literal}@example.org/x") } } }),
            json!({ "jobs": { "a": { "get": format!("https://ana:p/w?{literal}@example.org/x") } } }),
            json!({ "jobs": { "a": { "get": format!("/x?n=1&access_token={literal}&m=2") } } }),
            json!({ "jobs": { "a": { "text": format!("psql postgres://u:{literal}@h/d -c 'select 1'") } } }),
            json!({ "jobs": { "a": { "argv": ["curl", "-H", format!("Authorization: Bearer {literal}")] } } }),
            json!({ "jobs": { "a": { "argv": ["x", "--token", literal], "more": [format!("--password={literal}")] } } }),
            json!({ "jobs": { "a": { "text": format!("PGPASSWORD={literal} psql") } } }),
            json!({ "jobs": { "a": { "get": format!("/x/{canary}/y"), "n": [canary], "d": "canary-db" } } }),
            json!({ "targets": { "b": { "base_url": format!("http://ana:{literal}@h"), "secret": literal } } }),
            json!({ "defaults": { "webhook": { "to": literal } } }),
            json!({ "outbound": { "evolution": { "url": format!("https://zap.example.org/{literal}") } } }),
        ] {
            let shown = masking.table(place.clone()).to_string();

            assert!(!shown.contains("canary") && !shown.contains("4711"), "{place}: {shown}");
            assert!(shown.contains(MASK), "{shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let masking = Masking::new(&[("PIN_TOKEN".to_owned(), "1".to_owned())].into());
        let table = json!({
            "version": 1,
            "jobs": { "token_refresh": {
                "at": "08:00", "timezone": "America/Sao_Paulo", "enabled": true,
                "run": { "http": { "get": "http://example.org:8000/a@b?n=1&m=2", "judge": "status" } },
                "argv": ["sh", "-c", "echo a=b: c", "10:30"],
            } },
            "targets": { "cookie_shop": { "base_url": "http://[::1]:8000" } },
        });

        assert_eq!(masking.table(table.clone()), table);
    }
}

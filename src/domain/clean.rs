//! What text and JSON from outside must lose before a database keeps them.

use serde_json::Value;

/// Cleans text that enters from outside: NUL, which PostgreSQL refuses, becomes U+FFFD; at most `most` characters stay.
pub fn text(raw: &str, most: usize) -> String {
    let mut cleaned: String = raw.chars().take(most).map(visible).collect();
    if raw.chars().nth(most).is_some() {
        cleaned.pop();
        cleaned.push('…');
    }
    cleaned
}

/// Cleans every string and key of a JSON value in place, without cutting any.
pub fn json(value: &mut Value) {
    match value {
        Value::String(raw) if raw.contains('\0') => *raw = raw.chars().map(visible).collect(),
        Value::Array(values) => values.iter_mut().for_each(json),
        Value::Object(members) => {
            if members.keys().any(|key| key.contains('\0')) {
                let dirty = std::mem::take(members);
                members.extend(dirty.into_iter().map(|(key, value)| (key.chars().map(visible).collect(), value)));
            }
            members.values_mut().for_each(json);
        }
        _ => {}
    }
}

fn visible(c: char) -> char {
    if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn nul_is_replaced_everywhere() {
        let mut value = json!({ "a\0": ["x\0y", { "b": "\0" }], "n": 1 });

        super::json(&mut value);

        assert_eq!(value, json!({ "a\u{fffd}": ["x\u{fffd}y", { "b": "\u{fffd}" }], "n": 1 }));
        assert_eq!(super::text("a\0b", 10), "a\u{fffd}b");
    }

    #[test]
    fn long_text_is_cut_with_a_mark() {
        assert_eq!(super::text("abcdef", 4), "abc…");
        assert_eq!(super::text("abcd", 4), "abcd");
    }
}

//! What text and JSON from outside must lose before a database keeps them.

use std::borrow::Cow;

use serde_json::{Value, json};

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

/// Text from bytes of any kind: what is not UTF-8 is replaced, then as `text`.
pub fn bytes(raw: &[u8], max_chars: usize) -> String {
    text(&String::from_utf8_lossy(raw), max_chars)
}

/// Reads JSON from bytes of any kind; `None` = it is not JSON. Invalid UTF-8, lone surrogates and NUL are replaced.
/// Nesting beyond 128 levels and numbers beyond a double are not JSON here.
pub fn parse_json(raw: &[u8]) -> Option<Value> {
    let decoded = String::from_utf8_lossy(raw);
    let mut value = serde_json::from_str(&without_lone_surrogates(&decoded)).ok()?;
    json(&mut value);
    Some(value)
}

/// The value itself when its JSON has at most `max_bytes`, else `{"truncated": true, "text": "<its beginning>"}`.
pub fn capped(value: Value, max_bytes: usize) -> Value {
    let written = value.to_string();
    if written.len() <= max_bytes {
        return value;
    }
    beginning(&written, max_bytes)
}

/// `{"text": ...}` of a text that is not JSON; of its beginning when that is more than `max_bytes` of JSON.
pub fn as_json(raw: &str, max_bytes: usize) -> Value {
    let whole = json!({ "text": raw.chars().map(visible).collect::<String>() });
    if whole.to_string().len() <= max_bytes { whole } else { beginning(raw, max_bytes) }
}

fn beginning(raw: &str, max_bytes: usize) -> Value {
    // The frame around the text takes less than this.
    const FRAME_BYTES: usize = 40;
    let mut room = max_bytes.saturating_sub(FRAME_BYTES);
    // Escapes make JSON longer than its text: a character counts as long as it is when written.
    let fits = raw.chars().take_while(|&c| {
        let length = written_bytes(c);
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    });
    let kept: String = fits.map(visible).collect();
    json!({ "truncated": true, "text": kept })
}

/// Bytes of a character inside a JSON text, as a database keeps it.
pub fn written_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '\0' => char::REPLACEMENT_CHARACTER.len_utf8(),
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// JSON may spell half of a surrogate pair as `\ud800`, which no text can hold: such halves become `\ufffd`.
fn without_lone_surrogates(raw: &str) -> Cow<'_, str> {
    if !raw.contains("\\ud") && !raw.contains("\\uD") {
        return Cow::Borrowed(raw);
    }
    let mut clean = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = Escape::at_start_of(rest);
        match escape {
            Escape::Lone => clean.push_str("\\ufffd"),
            Escape::Whole(length) => clean.push_str(&rest[..length]),
        }
        rest = &rest[escape.length()..];
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// What begins with a backslash.
enum Escape {
    /// Half of a surrogate pair.
    Lone,
    /// Anything else, a whole pair included, and its bytes.
    Whole(usize),
}

impl Escape {
    const UNIT_BYTES: usize = 6;

    fn at_start_of(rest: &str) -> Self {
        match escaped_unit(rest) {
            Some(0xD800..=0xDBFF) if matches!(rest.get(6..).and_then(escaped_unit), Some(0xDC00..=0xDFFF)) => {
                Self::Whole(2 * Self::UNIT_BYTES)
            }
            Some(0xD800..=0xDFFF) => Self::Lone,
            Some(_) => Self::Whole(Self::UNIT_BYTES),
            // `\\`, `\"` and the like: two characters, of which the second may be longer than a byte in broken JSON.
            None => Self::Whole(1 + rest[1..].chars().next().map_or(0, char::len_utf8)),
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Lone => Self::UNIT_BYTES,
            Self::Whole(length) => *length,
        }
    }
}

/// The unit that `\u` and four digits at the start of `rest` spell.
fn escaped_unit(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    // `from_str_radix` alone would take a sign.
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u16::from_str_radix(digits, 16).ok() } else { None }
}

fn visible(c: char) -> char {
    if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{as_json, bytes, capped, parse_json};

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

    #[test]
    fn json_with_nuls_lone_surrogates_and_broken_utf8_is_read_and_replaced() {
        assert_eq!(bytes(b"ok \xff\xfe", 10), "ok \u{fffd}\u{fffd}");
        for (raw, clean) in [
            (&br#"{"a":"x\u0000y"}"#[..], json!({ "a": "x\u{fffd}y" })),
            (br#"{"a\u0000":[{"b":"\u0000"}]}"#, json!({ "a\u{fffd}": [{ "b": "\u{fffd}" }] })),
            (br#"["\ud800"]"#, json!(["\u{fffd}"])),
            (br#"["\uD800x\udfff"]"#, json!(["\u{fffd}x\u{fffd}"])),
            (br#"["\ud83d\ude00"]"#, json!(["😀"])),
            (br#"["\ud83d\ud83d\ude00"]"#, json!(["\u{fffd}😀"])),
            (br#"["\\ud800"]"#, json!(["\\ud800"])),
            (br#"["\ud800\n"]"#, json!(["\u{fffd}\n"])),
            (b"[\"\xff\"]", json!(["\u{fffd}"])),
        ] {
            assert_eq!(parse_json(raw), Some(clean), "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn what_is_not_json_is_none_and_never_a_panic() {
        for raw in [
            &b""[..],
            b"<html>",
            b"{",
            br#"["\ud8"#,
            br#"["\ud800"#,
            br#"["\"#,
            br#"["\ud"#,
            "[\"\\ud80é".as_bytes(),
            b"1e999",
        ] {
            assert_eq!(parse_json(raw), None, "{}", String::from_utf8_lossy(raw));
        }
        assert_eq!(parse_json("[".repeat(100_000).as_bytes()), None);
    }

    #[test]
    fn a_value_over_the_limit_keeps_its_beginning() {
        let value = json!({ "long": "\"".repeat(1_000) });

        let kept = capped(value.clone(), 200);

        assert_eq!(kept["truncated"], json!(true));
        assert!(kept.to_string().len() <= 200, "{kept}");
        assert_eq!(capped(value.clone(), 10_000), value);
        assert_eq!(as_json("a\0", 100), json!({ "text": "a\u{fffd}" }));
        assert!(as_json(&"\u{1}".repeat(1_000), 200).to_string().len() <= 200);
    }
}

//! `expect`: what a good answer looks like, beyond the rules that hold for all.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

/// What a good answer looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// A code (`200`), a class (`"2xx"`) or a list of them; any 2xx unless given.
    pub status: Option<Statuses>,
    /// Fields that must stand in the answer with these values; other fields may stand beside them.
    pub json: Option<Map<String, Value>>,
}

/// A set of HTTP status codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Whether the code is one of the set.
    pub fn contain(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(written).collect();
        f.write_str(&texts.join(" or "))
    }
}

/// The first field, as a dotted path, in which `answer` does not have what is `expected`.
pub(super) fn difference(expected: &Map<String, Value>, answer: &Map<String, Value>) -> Option<String> {
    expected.iter().find_map(|(name, wanted)| match (wanted, answer.get(name)) {
        (Value::Object(inner), Some(Value::Object(found))) => {
            difference(inner, found).map(|path| format!("{name}.{path}"))
        }
        (wanted, Some(found)) if equal(wanted, found) => None,
        (wanted, _) => Some(format!("{name} is not {wanted}")),
    })
}

/// 1 and 1.0 are the same number, whichever way a file or an application writes it.
fn equal(wanted: &Value, found: &Value) -> bool {
    wanted == found || matches!((wanted.as_f64(), found.as_f64()), (Some(a), Some(b)) if a == b)
}

fn parse(text: &str) -> Result<RangeInclusive<u16>, String> {
    let fault = || format!("{text:?} is neither a status code (200) nor a class of them (\"2xx\")");
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().map_err(|_| fault())?;
        return if (1..=5).contains(&class) { Ok(class * 100..=class * 100 + 99) } else { Err(fault()) };
    }
    let code: u16 = text.parse().map_err(|_| fault())?;
    if (100..=599).contains(&code) { Ok(code..=code) } else { Err(fault()) }
}

fn written(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}xx", range.start() / 100) }
}

struct StatusesVisitor;

impl<'de> de::Visitor<'de> for StatusesVisitor {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status code (200), a class of them (\"2xx\") or a list")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
        parse(text).map(|range| Statuses(vec![range])).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, code: u64) -> Result<Statuses, E> {
        self.visit_str(&code.to_string())
    }

    fn visit_i64<E: de::Error>(self, code: i64) -> Result<Statuses, E> {
        self.visit_str(&code.to_string())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Statuses, A::Error> {
        let mut ranges = Vec::new();
        while let Some(Statuses(inner)) = list.next_element()? {
            ranges.extend(inner);
        }
        if ranges.is_empty() { Err(de::Error::custom("the list of statuses is empty")) } else { Ok(Statuses(ranges)) }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusesVisitor)
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(written))
    }
}

impl JsonSchema for Statuses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^([1-5]xx|[1-5][0-9][0-9])$" },
                { "type": "integer", "minimum": 100, "maximum": 599 }
            ]
        });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_codes_and_classes() {
        for (written, inside, outside) in [
            (json!("2xx"), 204, 300),
            (json!(202), 202, 200),
            (json!("202"), 202, 203),
            (json!(["2xx", 404]), 404, 403),
        ] {
            let statuses: Statuses = serde_json::from_value(written.clone()).expect("a set of statuses");

            assert!(statuses.contain(inside), "{written}");
            assert!(!statuses.contain(outside), "{written}");
        }
        for refused in [json!("9xx"), json!(99), json!(-1), json!("ok"), json!([]), json!(true), json!("2x")] {
            assert!(serde_json::from_value::<Statuses>(refused.clone()).is_err(), "{refused}");
        }
    }

    #[test]
    fn an_answer_may_hold_more_than_what_is_expected() {
        let answer = json!({ "status": "ok", "n": 1.0, "deep": { "a": 1, "b": 2 }, "extra": true });
        for (expected, result) in [
            (json!({}), None),
            (json!({ "status": "ok", "n": 1, "deep": { "b": 2 } }), None),
            (json!({ "status": "done" }), Some("status is not \"done\"")),
            (json!({ "gone": 1 }), Some("gone is not 1")),
            (json!({ "deep": { "a": 2 } }), Some("deep.a is not 2")),
        ] {
            let (expected, answer) = (expected.as_object().expect("object"), answer.as_object().expect("object"));

            assert_eq!(difference(expected, answer).as_deref(), result);
        }
    }
}

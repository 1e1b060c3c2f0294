//! Values of single keys that check themselves while they are read.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::domain::{
    duration::{self, Length},
    job::{Backoff, Gate, JobName},
};

/// A whole number from `LEAST` to `MOST`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const LEAST: i64, const MOST: i64>(pub i64);

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InRange<const LEAST: i64, const MOST: i64>;

        impl<const LEAST: i64, const MOST: i64> de::Visitor<'_> for InRange<LEAST, MOST> {
            type Value = i64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match LEAST == MOST {
                    true => write!(f, "the number {LEAST}"),
                    false => write!(f, "a whole number from {LEAST} to {MOST}"),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
                match (LEAST..=MOST).contains(&number) {
                    true => Ok(number),
                    false => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }

        deserializer.deserialize_i64(InRange::<LEAST, MOST>).map(Self)
    }
}

impl<const LEAST: i64, const MOST: i64> JsonSchema for Whole<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Whole".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// One text, or an array of one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

/// Takes one `T`, or an array of one or more.
struct OneOrMore<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for OneOrMore<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or an array of them", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        T::deserialize(de::value::StrDeserializer::new(text)).map(|one| vec![one])
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
        T::deserialize(de::value::U64Deserializer::new(number)).map(|one| vec![one])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        if all.is_empty() {
            return Err(de::Error::custom(format_args!(
                "the array is empty\nhelp: give {} or leave the key out",
                self.0
            )));
        }
        Ok(all)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMore::<String>("a text", PhantomData)).map(Self)
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "text, or array of texts",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
        })
    }
}

/// The name a job had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerName(pub JobName);

impl<'de> Deserialize<'de> for FormerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        JobName::parse(&text).map(Self).map_err(|why| de::Error::custom(format_args!("{text:?}: {why}")))
    }
}

impl JsonSchema for FormerName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FormerName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": super::raw::NAME_PATTERN })
    }
}

/// `"5s..5min"`, `"linear 30s"`, or a list of waits.
#[derive(Debug, Clone, PartialEq)]
pub struct BackoffText(pub Backoff);

impl BackoffText {
    fn parse(text: &str) -> Result<Backoff, String> {
        if let Some(step) = text.trim().strip_prefix("linear ") {
            return Ok(Backoff::Linear { step: positive(step)? });
        }
        if let Some((first, most)) = text.split_once("..") {
            let (first, most) = (positive(first)?, positive(most)?);
            if most < first {
                return Err(format!("the backoff {text:?} ends before it begins\nhelp: write the shorter wait first"));
            }
            return Ok(Backoff::Exponential { first, most });
        }
        Ok(Backoff::List(vec![positive(text).map_err(|_| {
            format!("the backoff {text:?} is not understood\nhelp: write \"5s..5min\", \"linear 30s\" or a list [\"1min\", \"5min\"]")
        })?]))
    }
}

fn positive(text: &str) -> Result<std::time::Duration, String> {
    match duration::parse(text)? {
        length if length.is_zero() => Err("a wait of 0 is not possible here\nhelp: write 1ms or more".into()),
        length => Ok(length),
    }
}

impl<'de> Deserialize<'de> for BackoffText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyForm;

        impl<'de> de::Visitor<'de> for AnyForm {
            type Value = Backoff;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"5s..5min\", \"linear 30s\" or a list of waits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Backoff, E> {
                BackoffText::parse(text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Backoff, E> {
                BackoffText::parse(&seconds.to_string()).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, items: A) -> Result<Backoff, A::Error> {
                let waits: Vec<Length> = OneOrMore("a wait", PhantomData).visit_seq(items)?;
                Ok(Backoff::List(waits.into_iter().map(|wait| wait.0).collect()))
            }
        }

        deserializer.deserialize_any(AnyForm).map(Self)
    }
}

impl JsonSchema for BackoffText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Backoff".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let wait = Length::json_schema(generator);
        json_schema!({
            "title": "backoff",
            "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 1 }, { "type": "array", "items": wait, "minItems": 1 }]
        })
    }
}

/// The two forms of `when`. Exactly one of `env` and `sql`; `is` goes with `env`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GateKeys {
    /// Name of a variable, read once at start.
    env: Option<String>,
    /// The value at which the gate is open; upper and lower case are the same.
    is: Option<Plain>,
    /// A query; the gate is open when the first column of its first row is true, or a number other than 0.
    sql: Option<String>,
}

/// A gate as written; the variable is looked up when the job is built.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "GateKeys")]
pub enum GateRule {
    Environment { variable: String, is: String },
    Sql(String),
}

impl TryFrom<GateKeys> for GateRule {
    type Error = String;

    fn try_from(keys: GateKeys) -> Result<Self, String> {
        match keys {
            GateKeys { env: Some(variable), is: Some(is), sql: None } => Ok(Self::Environment { variable, is: is.0 }),
            GateKeys { env: None, is: None, sql: Some(text) } if !text.trim().is_empty() => Ok(Self::Sql(text)),
            _ => Err("a gate takes either `env` and `is`, or `sql`\nhelp: write \
                      { env = \"PILOT_MODE\", is = \"false\" } or { sql = \"select ...\" }"
                .into()),
        }
    }
}

impl GateRule {
    /// The gate, with its variable looked up in `value_of`.
    pub fn resolve<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> Gate {
        match self {
            Self::Sql(text) => Gate::Sql { text: text.clone() },
            Self::Environment { variable, is } => {
                let value = value_of(variable).unwrap_or_default();
                Gate::Environment { variable: variable.clone(), open: value.trim().eq_ignore_ascii_case(is.trim()) }
            }
        }
    }
}

impl JsonSchema for GateRule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Gate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        GateKeys::json_schema(generator)
    }
}

/// A text, a boolean or a whole number, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain(String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;

        impl de::Visitor<'_> for AsText {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.into())
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<String, E> {
                Ok(truth.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
                Ok(number.to_string())
            }
        }

        deserializer.deserialize_any(AsText).map(Self)
    }
}

impl JsonSchema for Plain {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Plain".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "title": "text, boolean or number", "type": ["string", "boolean", "integer"] })
    }
}

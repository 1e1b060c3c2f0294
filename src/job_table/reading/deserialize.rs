//! Reads types from the tree, so that each error knows its place and a filled-in text can be a number or a boolean.

use std::{fmt, ops::Range};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use super::{
    suggest,
    tree::{Entry, Node, Step, Text, Value},
};
use crate::job_table::problem::{Code, Problem, Source};

/// Problems told of one table before reading it is given up.
const MAX_FAULTS: usize = 200;

/// Why a value could not be read, with the way to it from the node the reading began at.
#[derive(Debug)]
pub struct Fault {
    code: Code,
    message: String,
    help: Option<String>,
    /// Innermost step first.
    path: Vec<Step>,
    /// It is the last key of the path that is wrong, not its value.
    on_key: bool,
    /// It has been told when the file was read.
    is_known: bool,
}

impl Fault {
    fn new(code: Code, message: String, help: Option<String>) -> Self {
        Self { code, message, help, path: Vec::new(), on_key: false, is_known: false }
    }

    fn below(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    /// What follows `\nhelp: ` in the text becomes the help line.
    fn custom<T: fmt::Display>(text: T) -> Self {
        let text = text.to_string();
        let (message, help) = match text.split_once("\nhelp: ") {
            Some((message, help)) => (message.to_string(), Some(help.to_string())),
            None => (text, None),
        };
        let code = if message.contains("not supported yet") { Code::NotSupportedYet } else { Code::BadValue };
        Self::new(code, message, help)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Code::WrongType, format!("expected {}, found {}", wanted(expected), in_words(&found)), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Code::BadValue, format!("expected {}, found {}", wanted(expected), in_words(&found)), None)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Code::UnknownKey, format!("unknown key `{field}`"), Some(suggest::help(field, expected, "keys")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = suggest::help(variant, expected, "values");
        Self::new(Code::BadValue, format!("unknown value {variant:?}"), Some(help))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Code::MissingKey, format!("the key `{field}` is missing"), None)
    }
}

/// What a type expects, without the names of Rust types.
fn wanted(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "f32" | "f64" => "a number".into(),
        "u8" | "u16" | "u32" | "u64" => "a whole number of 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".into(),
        "a string" => "a text".into(),
        "a sequence" => "an array".into(),
        "a map" => "a table".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.into(),
    }
}

fn in_words(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(truth) => format!("the boolean {truth}"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Seq => "an array".into(),
        Unexpected::Map => "a table".into(),
        other => other.to_string(),
    }
}

/// Where the tables are read from, and where their problems go.
pub struct Reader<'a> {
    pub source: &'a Source<'a>,
    pub problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Tells a problem at a place of the file.
    pub fn tell(&mut self, code: Code, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.problems.push(self.source.problem(code, span, message).with_some_help(help));
    }

    /// Reads a value with `read`. Each thing that cannot be read is told, taken out of the node, and the reading
    /// begins again, so that one pass tells all. `None` = something was wrong and nothing can be made of the rest.
    pub fn read<T>(&mut self, node: &mut Node, read: impl Fn(&Node) -> Result<T, Fault>) -> Option<T> {
        let mut mended: Vec<Vec<Step>> = Vec::new();
        for _ in 0..MAX_FAULTS {
            let fault = match read(node) {
                Ok(value) => return Some(value),
                Err(fault) => fault,
            };
            let path: Vec<Step> = fault.path.iter().rev().cloned().collect();
            // A key that is missing only because it was just taken out has been told already.
            let is_consequence = fault.code == Code::MissingKey && mended.contains(&path);
            if !fault.is_known && !is_consequence {
                let span = node.place(&path, fault.on_key);
                self.tell(fault.code, span, node.hide_secret(&path, fault.message), fault.help);
            }
            if !node.remove(&path) {
                return None;
            }
            mended.push(path[..path.len() - 1].to_vec());
        }
        None
    }
}

impl<'de> IntoDeserializer<'de, Fault> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Reads a filled-in text as the wanted type; anything else as what it is.
macro_rules! coerce {
    ($($method:ident $visit:ident $wanted:ty, $words:literal;)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.value {
                Value::Text(Text { text, from_variables: true }) => match text.trim().parse::<$wanted>() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(not_the_wanted(text, $words)),
                },
                _ => self.deserialize_any(visitor),
            }
        })+
    };
}

fn not_the_wanted(text: &str, wanted: &str) -> Fault {
    Fault::new(Code::WrongType, format!("expected {wanted}, found the text {text:?} after filling in variables"), None)
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor.visit_borrowed_str(&text.text),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(truth) => visitor.visit_bool(*truth),
            Value::Moment(moment) => Err(Fault::new(
                Code::WrongType,
                format!("the bare date or time {moment} is not taken here"),
                Some(format!("put it in quotes: \"{moment}\"")),
            )),
            Value::Broken => Err(Fault { is_known: true, ..Fault::new(Code::Syntax, String::new(), None) }),
            Value::Array(items) => {
                let mut walk = ItemWalk { items, index: 0 };
                visitor.visit_seq(&mut walk)
            }
            Value::Table(table) => visitor.visit_map(EntryWalk { entries: &table.entries, current: None }),
        }
    }

    coerce! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i64 i64, "a whole number";
        deserialize_i16 visit_i64 i64, "a whole number";
        deserialize_i32 visit_i64 i64, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u64 u64, "a whole number of 0 or more";
        deserialize_u16 visit_u64 u64, "a whole number of 0 or more";
        deserialize_u32 visit_u64 u64, "a whole number of 0 or more";
        deserialize_u64 visit_u64 u64, "a whole number of 0 or more";
        deserialize_f32 visit_f64 f64, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// Only a table is one; serde would take an array as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"a table")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(text.text.as_str().into_deserializer()),
            Value::Table(table) if table.entries.len() == 1 => visitor.visit_enum(VariantWalk(&table.entries[0])),
            _ => Err(Fault::new(Code::WrongType, format!("expected one of {}", suggest::listed(variants)), None)),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

struct ItemWalk<'de> {
    items: &'de [Node],
    index: usize,
}

impl<'de> de::SeqAccess<'de> for &mut ItemWalk<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.get(self.index) else { return Ok(None) };
        self.index += 1;
        let step = Step::Index(self.index - 1);
        seed.deserialize(item).map(Some).map_err(|fault| fault.below(step))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.index)
    }
}

struct EntryWalk<'de> {
    entries: &'de [Entry],
    current: Option<&'de Entry>,
}

impl<'de> de::MapAccess<'de> for EntryWalk<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((entry, rest)) = self.entries.split_first() else { return Ok(None) };
        self.entries = rest;
        self.current = Some(entry);
        let key: StrDeserializer<'de, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut fault| {
            fault.on_key = true;
            fault.below(Step::Key(entry.key.clone()))
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let entry = self.current.expect("serde asks for a key before its value");
        seed.deserialize(&entry.node).map_err(|fault| fault.below(Step::Key(entry.key.clone())))
    }
}

/// `name = { ... }` read as a variant with content.
struct VariantWalk<'de>(&'de Entry);

impl<'de> de::EnumAccess<'de> for VariantWalk<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StrDeserializer<'de, Fault> = self.0.key.as_str().into_deserializer();
        let variant = seed.deserialize(name).map_err(|mut fault| {
            fault.on_key = true;
            fault.below(Step::Key(self.0.key.clone()))
        })?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for VariantWalk<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::new(Code::WrongType, format!("`{}` takes no settings", self.0.key), None))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(&self.0.node).map_err(|fault| fault.below(Step::Key(self.0.key.clone())))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.node.deserialize_any(visitor).map_err(|fault| fault.below(Step::Key(self.0.key.clone())))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.0.node.deserialize_any(visitor).map_err(|fault| fault.below(Step::Key(self.0.key.clone())))
    }
}

//! The file as a tree that remembers where each piece stands.

use std::ops::Range;

use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::domain::secret::{MASK, holds_password, is_name_of_secret};

/// A value and its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Text),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A bare TOML date or time, which no key takes.
    Moment(String),
    /// Something was here, and what is wrong with it has been told.
    Broken,
    Array(Vec<Node>),
    Table(Table),
}

/// A text value. One with variables in it may stand where a number or a boolean is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub text: String,
    /// It held a `${...}`.
    pub from_variables: bool,
}

/// Entries in the order of their keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// A span of the file and what is wrong there.
pub type Complaint = (Range<usize>, String);

/// Parses TOML as far as it goes; what is no TOML comes back as complaints.
pub fn parse(text: &str) -> (Table, Vec<Complaint>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut complaints: Vec<Complaint> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message().to_string())).collect();
    let table = table_of(document.into_inner(), &mut complaints);
    (table, complaints)
}

fn table_of(table: DeTable<'_>, complaints: &mut Vec<Complaint>) -> Table {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let key_span = key.span();
            Entry { key: key.into_inner().into_owned(), key_span, node: node_of(value, complaints) }
        })
        .collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Table { entries }
}

fn node_of(value: Spanned<DeValue<'_>>, complaints: &mut Vec<Complaint>) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(Text { text: text.into_owned(), from_variables: false }),
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Datetime(moment) => Value::Moment(moment.to_string()),
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| node_of(item, complaints)).collect()),
        DeValue::Table(table) => Value::Table(table_of(table, complaints)),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => broken(&span, format!("the number {digits} is too large"), complaints),
        },
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => broken(&span, format!("the number {digits} is not finite"), complaints),
        },
    };
    Node { span, value }
}

fn broken(span: &Range<usize>, complaint: String, complaints: &mut Vec<Complaint>) -> Value {
    complaints.push((span.clone(), complaint));
    Value::Broken
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Takes an entry out.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }

    /// The resolved table as JSON, with its secrets.
    pub fn to_json(&self) -> Json {
        let entries = self.entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json()));
        Json::Object(entries.collect::<Map<_, _>>())
    }
}

impl Node {
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Text(text) => Json::String(text.text.clone()),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Boolean(truth) => (*truth).into(),
            Value::Moment(moment) => Json::String(moment.clone()),
            Value::Broken => Json::Null,
            Value::Array(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(table) => table.to_json(),
        }
    }

    /// The message without the secret that a path leads to.
    pub fn hide_secret(&self, path: &[Step], message: String) -> String {
        let is_secret = path.iter().any(|step| matches!(step, Step::Key(key) if is_name_of_secret(key)));
        match self.at(path) {
            Some(Node { value: Value::Text(text), .. }) if text.from_variables && !text.text.is_empty() => {
                match is_secret || holds_password(&text.text) {
                    true => message.replace(&text.text, MASK),
                    false => message,
                }
            }
            _ => message,
        }
    }

    fn at(&self, path: &[Step]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| match (step, &node.value) {
            (Step::Key(key), Value::Table(table)) => table.get(key).map(|entry| &entry.node),
            (Step::Index(index), Value::Array(items)) => items.get(*index),
            _ => None,
        })
    }

    /// The place a path leads to: the span of the key when `on_key`, else of the value. A path that leads nowhere
    /// ends at the last place it reached.
    pub fn place(&self, path: &[Step], on_key: bool) -> Range<usize> {
        let mut node = self;
        let mut place = self.span.clone();
        for (depth, step) in path.iter().enumerate() {
            match (step, &node.value) {
                (Step::Key(key), Value::Table(table)) => {
                    let Some(entry) = table.get(key) else { break };
                    node = &entry.node;
                    let is_last = depth + 1 == path.len();
                    // A table written as dotted keys or as a header has no span of its own worth showing.
                    place = match (on_key && is_last) || matches!(node.value, Value::Table(_)) {
                        true => entry.key_span.clone(),
                        false => node.span.clone(),
                    };
                }
                (Step::Index(index), Value::Array(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    node = item;
                    place = node.span.clone();
                }
                _ => break,
            }
        }
        place
    }

    /// Takes out what a path leads to; false when there is nothing.
    pub fn remove(&mut self, path: &[Step]) -> bool {
        let Some((step, rest)) = path.split_first() else { return false };
        match (step, &mut self.value) {
            (Step::Key(key), Value::Table(table)) if rest.is_empty() => table.take(key).is_some(),
            (Step::Key(key), Value::Table(table)) => {
                let entry = table.entries.iter_mut().find(|entry| entry.key == *key);
                entry.is_some_and(|entry| entry.node.remove(rest))
            }
            (Step::Index(index), Value::Array(items)) if *index < items.len() => match rest.is_empty() {
                true => {
                    items.remove(*index);
                    true
                }
                false => items[*index].remove(rest),
            },
            _ => false,
        }
    }
}

//! Where a job stands in the file, so that a problem found late still points at its key.

use std::ops::Range;

use super::reading::{
    deserialize::Reader,
    tree::{Entry, Node, Step, Table, Value},
};
use crate::job_table::problem::Code;

/// The table of one job as it was written, and the `[defaults]` behind it.
pub struct Site<'a> {
    name: String,
    header: Range<usize>,
    node: Node,
    defaults: Option<&'a Entry>,
}

impl<'a> Site<'a> {
    /// `root` is the top of the file, where `[defaults]` is.
    pub fn new(job: Entry, root: &'a Node) -> Self {
        let defaults = match &root.value {
            Value::Table(table) => table.get("defaults"),
            _ => None,
        };
        Self { name: job.key, header: job.key_span, node: job.node, defaults }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The span of the job's name.
    pub fn header(&self) -> Range<usize> {
        self.header.clone()
    }

    /// The job's own table.
    pub fn table(&self) -> &Table {
        match &self.node.value {
            Value::Table(table) => table,
            _ => unreachable!("only tables become sites"),
        }
    }

    /// The job says it itself.
    pub fn gives(&self, key: &str) -> bool {
        self.table().get(key).is_some()
    }

    /// The key in the job's own table, else in `[defaults]`, else the job's header; where the key is.
    pub fn key(&self, key: &str) -> Range<usize> {
        match self.table().get(key).or_else(|| self.default_of(key)) {
            Some(entry) => entry.key_span.clone(),
            None => self.header(),
        }
    }

    /// The same, but where the value is, unless it is a table.
    pub fn value(&self, key: &str) -> Range<usize> {
        match self.table().get(key).or_else(|| self.default_of(key)) {
            Some(entry) if matches!(entry.node.value, Value::Table(_)) => entry.key_span.clone(),
            Some(entry) => entry.node.span.clone(),
            None => self.header(),
        }
    }

    /// The place of a path inside the job's own table.
    pub fn place_of(&self, path: &[Step]) -> Range<usize> {
        self.node.place(path, false)
    }

    /// Tells a problem at the value of a key; one of an inherited value says which job it is about.
    pub fn tell(&self, reader: &mut Reader<'_>, code: Code, key: &str, message: impl Into<String>) {
        let help = self.inherits(key).then(|| format!("job `{}` inherits it", self.name));
        reader.tell(code, self.value(key), message, help);
    }

    /// The job leaves the key to `[defaults]`, which give it.
    pub fn inherits(&self, key: &str) -> bool {
        !self.gives(key) && self.default_of(key).is_some()
    }

    fn default_of(&self, key: &str) -> Option<&Entry> {
        match &self.defaults?.node.value {
            Value::Table(table) => table.get(key),
            _ => None,
        }
    }
}

//! What a work may look at while it is checked.

use std::{collections::BTreeMap, path::Path};

use crate::outbound::Outbound;
pub use crate::outbound::call::Targets;

/// The surroundings of a job in its file.
pub struct Scope<'a> {
    pub targets: &'a Targets,
    /// How and when people are written to.
    pub outbound: &'a Outbound,
    /// The folder of jobs.toml: relative paths start here.
    pub folder: &'a Path,
    /// All variables of the process, for what a work hands on to others.
    pub variables: &'a BTreeMap<String, String>,
}

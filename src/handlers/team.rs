//! Tables of the team: created when they are missing, adopted when they are there.

/// A table that a typed handler works on. Names and words are the team's; the daemon never changes an existing one.
#[derive(Debug, PartialEq)]
pub struct TeamTable {
    pub name: &'static str,
    /// `create table` and its indexes.
    pub postgres: &'static str,
    pub sqlite: &'static str,
}

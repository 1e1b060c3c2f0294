//! The team's table, and the SQL that is spoken to it.

pub(super) mod cell;
pub(super) mod columns;
pub(super) mod fragment;
pub(super) mod name;
pub(super) mod refusal;
pub(super) mod statement;
pub(super) mod time;

//! What is done: claims, settlements, leases, and what producers and people ask for.

mod claim;
mod promote;
mod settle;
mod settle_app;

use super::dialect::Sql;

pub(super) const STATEMENTS: &[&[Sql]] =
    &[claim::STATEMENTS, promote::STATEMENTS, settle::STATEMENTS, settle_app::STATEMENTS];

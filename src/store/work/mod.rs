//! What is done: claims, settlements, leases, and what producers and people ask for.

mod asked;
mod claim;
mod lease;
mod lost;
mod promote;
mod retention;
mod settle;
mod settle_app;

pub use asked::{Cancelled, Enqueued, NewRun, Retried, Retrying, Unfinished};
pub use lost::Freed;
pub use retention::Pruning;

use super::dialect::Sql;

pub(super) const STATEMENTS: &[&[Sql]] = &[
    asked::STATEMENTS[0],
    asked::STATEMENTS[1],
    asked::STATEMENTS[2],
    claim::STATEMENTS,
    lease::STATEMENTS,
    lost::STATEMENTS,
    promote::STATEMENTS,
    retention::STATEMENTS,
    settle::STATEMENTS,
    settle_app::STATEMENTS,
];

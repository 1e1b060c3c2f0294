//! What is done: claims, settlements, leases, and what producers and people ask for.

mod cancel;
mod claim;
mod enqueue;
mod lease;
mod lost;
mod promote;
mod retention;
mod settle;
mod settle_app;

pub use enqueue::{Enqueued, NewRun};
pub use lost::Freed;

use super::dialect::Sql;

pub(super) const STATEMENTS: &[&[Sql]] = &[
    cancel::STATEMENTS,
    claim::STATEMENTS,
    enqueue::STATEMENTS,
    lease::STATEMENTS,
    lost::STATEMENTS,
    promote::STATEMENTS,
    retention::STATEMENTS,
    settle::STATEMENTS,
    settle_app::STATEMENTS,
];

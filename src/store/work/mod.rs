//! What is done: claims, settlements, leases, and what producers and people ask for.

mod cancel;
mod claim;
mod enqueue;
mod lease;
mod lost;
mod promote;
mod retention;
mod retry;
mod settle;
mod settle_app;

pub use cancel::{Cancelled, Unfinished};
pub use enqueue::{Enqueued, NewRun};
pub use lost::Freed;
pub use retention::Pruning;
pub use retry::{Retried, Retrying};

use super::dialect::Sql;

pub(super) const STATEMENTS: &[&[Sql]] = &[
    cancel::STATEMENTS,
    claim::STATEMENTS,
    enqueue::STATEMENTS,
    lease::STATEMENTS,
    lost::STATEMENTS,
    promote::STATEMENTS,
    retention::STATEMENTS,
    retry::STATEMENTS,
    settle::STATEMENTS,
    settle_app::STATEMENTS,
];

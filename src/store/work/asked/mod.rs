//! What producers and people ask for: runs, their end, and the same once more.

mod cancel;
mod enqueue;
mod retry;

pub use cancel::{Cancelled, Unfinished};
pub use enqueue::{Enqueued, NewRun};
pub use retry::{Retried, Retrying};

use crate::store::dialect::Sql;

pub(super) const STATEMENTS: [&[Sql]; 3] = [cancel::STATEMENTS, enqueue::STATEMENTS, retry::STATEMENTS];

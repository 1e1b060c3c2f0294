//! What jobs can do: one file each, one line in the list below.

pub mod context;
pub mod noop;

pub use context::{AppTx, Context, Done, Ending};

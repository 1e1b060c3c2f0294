//! `/api/v1`: asks for runs, shows them, cancels them. What a run does is in the job table and nowhere here.

mod runs;
mod ask;
mod body;
mod json;
mod desk;
mod waiting;

pub use desk::Desk;
pub use runs::{cancel, enqueue, retry, show};

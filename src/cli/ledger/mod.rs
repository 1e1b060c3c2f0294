//! Commands that read and change the ledger themselves, whether or not the service is up.

pub mod books;
pub mod jobs;
pub mod queue;
pub mod runs;
pub mod change;
pub mod prune;
pub mod account;

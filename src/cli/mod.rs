//! (to come)

pub mod schedule;

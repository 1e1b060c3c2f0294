//! (to come)

pub mod output;
pub mod loading;
pub mod check;
pub mod config;
pub mod schedule;

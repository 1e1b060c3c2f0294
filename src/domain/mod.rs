//! The decisions of the house, pure: no async, no I/O, no clock.

pub mod duration;
pub mod job;
pub mod clean;
pub mod secret;
pub mod schedule;
pub mod run;
pub mod plan;
pub mod settle;
pub mod ledger;
pub mod health;
pub mod lasting;

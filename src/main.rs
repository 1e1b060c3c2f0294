//! The `workers` binary.

#![warn(clippy::disallowed_methods, clippy::unwrap_used)]

fn main() {}

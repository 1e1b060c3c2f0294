//! The `workers` binary.

fn main() {}

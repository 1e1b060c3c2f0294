//! The `workers` binary.

#![warn(clippy::disallowed_methods, clippy::unwrap_used)]

use std::process::ExitCode;

fn main() -> ExitCode {
    emponto::cli::main()
}

//! `completions`: what a shell needs to complete our commands and flags.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{exit::Exit, output};

#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell that will read it
    pub shell: Shell,
}

/// Prints the script for a shell.
pub fn completions(arguments: &CompletionsArguments, mut command: Command) -> anyhow::Result<Exit> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, name, &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}

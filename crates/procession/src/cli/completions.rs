//! `completions`: a script that teaches a shell this command line: verbs, flags, states. Ids
//! and task names are the server's and are not completed.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::exit::Exit;
use super::screen::Screen;

/// `procession completions`.
#[derive(Debug, Args)]
#[command(after_help = "  procession completions bash > /etc/bash_completion.d/procession")]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints it.
pub(super) fn run(args: &CompletionsArgs, screen: &Screen) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "procession", &mut script);
    screen.bytes(&script)?;
    Ok(Exit::OK)
}

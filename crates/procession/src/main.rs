//! `procession`: any program as a reliable HTTP endpoint.

mod app;
mod background;
mod board;
mod cli;
mod config;
mod data;
mod drain;
mod facts;
mod handover;
mod http;
mod keeper;
mod maintenance;
mod meters;
mod random;
mod removal;
mod say;
mod scheduler;
mod space;
mod standby;
mod submit;
mod succession;
mod tail;
mod way_out;

use std::io::IsTerminal;
use std::process::ExitCode;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let Cli { global, command } = cli::parse();
    match command {
        Command::Serve(args) => cli::serve(&args, &global),
        Command::Server(args) => serve(&global, &args),
        Command::Keeper(args) => cli::keeper(&args),
        Command::Demo(args) => cli::demo(&args, &global),
        Command::Verb(verb) => cli::run(&global, &verb),
    }
}

/// The server process, which only a keeper starts.
fn serve(global: &cli::Global, args: &cli::ServerArgs) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PROCESSION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .init();
    let config = global.config.as_deref().unwrap_or(std::path::Path::new("procession.toml"));
    match app::run(config, args) {
        Ok(status) => status.into(),
        Err(error) => {
            say::line(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

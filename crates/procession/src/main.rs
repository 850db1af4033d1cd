//! `procession`: any program as a reliable HTTP endpoint.

mod app;
mod background;
mod backup;
mod board;
mod callback;
mod cli;
mod compose;
mod config;
mod data;
mod doctor;
mod drain;
mod facts;
mod handover;
mod http;
mod keeper;
mod lately;
mod log;
mod maintenance;
mod meters;
mod owner;
mod random;
mod removal;
mod scheduler;
mod space;
mod standby;
mod submit;
mod succession;
mod tail;
mod timetable;
mod way_out;

use std::process::ExitCode;

use background::EXIT_CONFIG;
use cli::{Cli, Command};
use log::{Log, SAID};
use procession_store::StoreError;

fn main() -> ExitCode {
    let Cli { global, command } = cli::parse();
    match command {
        Command::Serve(args) => cli::serve(&args, &global),
        Command::Server(args) => go_by_our_name(|| serve(&args, &global)),
        Command::Keeper(args) => go_by_our_name(|| cli::keeper(&args)),
        Command::Demo(args) => cli::demo(&args, &global),
        Command::Verb(verb) => cli::run(&global, &verb),
    }
}

/// These are executed by handle, and would be called after that: people look for `procession`.
fn go_by_our_name(run: impl FnOnce() -> ExitCode) -> ExitCode {
    let _ = rustix::thread::set_name(c"procession");
    run()
}

/// The server process, which only a keeper starts.
fn serve(args: &cli::ServerArgs, global: &cli::Global) -> ExitCode {
    let config = global.config.as_deref().unwrap_or(std::path::Path::new("procession.toml"));
    let log = match Log::start(args.daemon) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: the log cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = match app::run(config, args, &log) {
        Ok(status) => status.into(),
        Err(error) => {
            tracing::error!(target: SAID, error = format!("{error:#}"), "the server ends");
            log.say(&format!("error: {error:#}"));
            match error.downcast_ref() {
                // To try again would change nothing.
                Some(StoreError::Refused(_)) => EXIT_CONFIG.into(),
                _ => ExitCode::FAILURE,
            }
        }
    };
    log.flush();
    exit
}

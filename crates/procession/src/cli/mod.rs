//! The command line: what can be said to it, and which file does each verb.
//!
//! A verb of this folder speaks HTTP to a server, as any other client does; it never
//! opens the store (`backup` and `doctor` ask rooms that do). `serve`, the hidden server and `demo` are only declared here:
//! `main` gives them to the rooms that do them, and everything else to [`run`].

mod backup;
mod cancel;
mod check;
mod client;
mod completions;
mod deliveries;
mod demo;
mod doctor;
mod endpoint;
mod exit;
mod follow;
mod holder;
mod id;
mod init;
mod inside;
mod job;
mod jobs;
mod keeper;
mod listeners;
mod logs;
mod own_data;
mod paint;
mod patience;
mod pause;
mod payload;
mod plain;
mod progress_line;
mod query;
mod reload;
mod resume;
mod retry;
mod rm;
mod schedules;
mod screen;
mod serve;
mod sse;
mod status;
mod stop;
mod submit;
mod table;
mod tasks;
mod wait;
mod when;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use self::client::Client;
use self::exit::Exit;
use self::screen::{Format, Screen};
use crate::config::{self, NoConfig};

pub use self::demo::run as demo;
pub use self::keeper::run as keeper;
pub use self::serve::run as serve;

/// Any program as a reliable HTTP endpoint.
#[derive(Debug, Parser)]
#[command(name = "procession", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Where the config and the server are.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every verb understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The config file [default: $PROCESSION_CONFIG, ./procession.toml, /etc/procession/procession.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The server: http://HOST:PORT or unix:/PATH [default: found through the config's data directory]
    #[arg(long, global = true, value_name = "URL", env = "PROCESSION_URL")]
    pub url: Option<String>,
    /// The bearer token; others see a flag in `ps`, so prefer the variable or the data directory's file
    #[arg(long, global = true, value_name = "TOKEN", env = "PROCESSION_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Tables for people, or the API's JSON
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

impl Global {
    /// The config file: named here or by the variable, or where one usually lies.
    fn config_file(&self) -> Result<PathBuf, NoConfig> {
        let variable = std::env::var_os("PROCESSION_CONFIG").map(PathBuf::from);
        config::find(self.config.as_deref(), variable.as_deref())
    }
}

/// Everything the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServeArgs),
    /// What the keeper starts beside itself.
    #[command(hide = true)]
    Server(ServerArgs),
    /// What a keeper that executes itself anew becomes.
    #[command(hide = true)]
    Keeper(KeeperArgs),
    /// Set up an example, run it and show what happens.
    Demo(DemoArgs),
    /// What a client does.
    #[command(flatten)]
    Verb(Verb),
}

/// `procession serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Allow listeners that other machines reach without TLS.
    #[arg(long)]
    pub insecure: bool,
    /// Return once the server answers, and leave it running.
    #[arg(long)]
    pub daemon: bool,
}

/// What the keeper says to the server it starts.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Once it answers, it says what it has to say in a file.
    #[arg(long)]
    pub daemon: bool,
    /// Where the texts of the config in force are kept.
    #[arg(long)]
    pub in_force: Option<PathBuf>,
}

/// The hidden `procession keeper`.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// The descriptor of what the keeper before owns.
    #[arg(long)]
    pub image: i32,
}

/// `procession demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to put it; what is there already stays [default: procession-demo]
    pub folder: Option<PathBuf>,
    /// Leave as soon as the example has run, instead of serving until Ctrl-C.
    #[arg(long)]
    pub no_wait: bool,
}

/// What a client does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Asks a server.
    #[command(flatten)]
    Remote(Remote),
    /// Needs none.
    #[command(flatten)]
    Local(Local),
}

/// What a server is asked.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Run a task: submit a job.
    Submit(submit::SubmitArgs),
    /// List jobs, newest first.
    #[command(visible_alias = "ps")]
    Jobs(jobs::JobsArgs),
    /// Show one job, or explain it.
    Job(job::JobArgs),
    /// Print what a job wrote.
    Logs(logs::LogsArgs),
    /// Wait until jobs are over; exit as they did.
    Wait(wait::WaitArgs),
    /// End jobs.
    Cancel(cancel::CancelArgs),
    /// Submit a finished job again, as a new one.
    Retry(retry::RetryArgs),
    /// Remove finished jobs with their output.
    Rm(rm::RmArgs),
    /// List the tasks of the server.
    Tasks(tasks::TasksArgs),
    /// List what follows ends of jobs, or repeat one of it.
    Deliveries(deliveries::DeliveriesArgs),
    /// Start no more jobs of a task; they queue.
    Pause(pause::PauseArgs),
    /// Start a paused task's jobs again.
    Resume(resume::ResumeArgs),
    /// List what runs by the clock; run, pause or resume it.
    Schedules(schedules::SchedulesArgs),
}

/// What is done without a server.
#[derive(Debug, Subcommand)]
pub enum Local {
    /// Show whether the server runs, and how it is.
    Status(status::StatusArgs),
    /// Stop the server: what runs may finish.
    Stop(stop::StopArgs),
    /// Let the server take the config as it is now.
    Reload(reload::ReloadArgs),
    /// From inside a job: say something about it.
    #[command(name = "self", subcommand)]
    Inside(inside::InsideVerb),
    /// Check the config without starting anything.
    Check(check::CheckArgs),
    /// Write a first config.
    Init(init::InitArgs),
    /// Copy everything into a folder a server can be started on; safe while one runs.
    Backup(backup::BackupArgs),
    /// Look for damage and say what to do, or save what is left of a damaged database.
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsArgs),
}

/// The command line of this process; says what is wrong with it and exits with 2.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Does what a client does, and exits as `docs/cli.md` says.
pub fn run(global: &Global, verb: &Verb) -> ExitCode {
    let screen = Screen::new(global.output);
    let exit = match perform(global, &screen, verb) {
        Ok(exit) => exit,
        Err(error) if screen::is_closed(&error) => Exit::OK,
        Err(error) => {
            screen.complain(&error);
            verb.exit_when_refused()
        }
    };
    exit.into()
}

fn perform(global: &Global, screen: &Screen, verb: &Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Local(Local::Status(args)) => status::run(args, global, screen),
        Verb::Local(Local::Stop(args)) => stop::run(args, global, screen),
        Verb::Local(Local::Reload(args)) => reload::run(args, global, screen),
        Verb::Local(Local::Inside(verb)) => inside::run(verb),
        Verb::Local(Local::Check(args)) => check::run(args, global, screen),
        Verb::Local(Local::Init(args)) => init::run(args, screen),
        Verb::Local(Local::Backup(args)) => backup::run(args, global, screen),
        Verb::Local(Local::Doctor(args)) => doctor::run(args, global, screen),
        Verb::Local(Local::Completions(args)) => completions::run(args, screen),
        Verb::Remote(verb) => {
            let client = Client::new(endpoint::find(global)?);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the client's runtime")?;
            let exit = runtime.block_on(ask(&client, screen, verb));
            // A read of stdin that nobody needs any more cannot be called back.
            runtime.shutdown_background();
            exit
        }
    }
}

async fn ask(client: &Client, screen: &Screen, verb: &Remote) -> anyhow::Result<Exit> {
    match verb {
        Remote::Submit(args) => submit::run(args, client, screen).await,
        Remote::Jobs(args) => jobs::run(args, client, screen).await,
        Remote::Job(args) => job::run(args, client, screen).await,
        Remote::Logs(args) => logs::run(args, client, screen).await,
        Remote::Wait(args) => wait::run(args, client, screen).await,
        Remote::Cancel(args) => cancel::run(args, client, screen).await,
        Remote::Retry(args) => retry::run(args, client, screen).await,
        Remote::Rm(args) => rm::run(args, client, screen).await,
        Remote::Tasks(args) => tasks::run(args, client, screen).await,
        Remote::Deliveries(args) => deliveries::run(args, client, screen).await,
        Remote::Pause(args) => pause::run(args, client, screen).await,
        Remote::Resume(args) => resume::run(args, client, screen).await,
        Remote::Schedules(args) => schedules::run(args, client, screen).await,
    }
}

impl Verb {
    /// The code where the answer is not a job's own: 125 from the verbs that otherwise
    /// exit as the job did, so that a script can tell the two apart.
    fn exit_when_refused(&self) -> Exit {
        match self {
            Verb::Remote(Remote::Submit(args)) if args.waits() => Exit::PROCESSION_FAILED,
            Verb::Remote(Remote::Wait(_)) => Exit::PROCESSION_FAILED,
            _ => Exit::REFUSED,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn verbs_that_exit_as_the_job_did_keep_their_own_failures_apart() {
        let exit = |line: &str| match Cli::try_parse_from(line.split(' ')).expect(line).command {
            Command::Verb(verb) => verb.exit_when_refused(),
            _ => panic!("{line} is no verb of a client"),
        };
        assert_eq!(exit("procession submit x --wait"), Exit::PROCESSION_FAILED);
        assert_eq!(exit("procession submit x --follow"), Exit::PROCESSION_FAILED);
        assert_eq!(exit("procession wait 12345678"), Exit::PROCESSION_FAILED);
        assert_eq!(exit("procession submit x"), Exit::REFUSED);
        assert_eq!(exit("procession ps"), Exit::REFUSED);
    }
}

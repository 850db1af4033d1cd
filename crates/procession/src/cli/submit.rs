//! `submit`: one job; its id at once, or its output and its exit code at its end.
//!
//! A submission is never sent twice: whether a broken one was taken, only the server knows.
//! What waits afterwards (`wait`, `follow`) bears a server that is replaced.

use clap::Args;
use hyper::header::HeaderName;
use procession_core::api::Job;
use procession_core::id::{JobId, TaskName};

use super::client::{Call, Client};
use super::exit::Exit;
use super::follow::{self, Shown};
use super::id;
use super::logs;
use super::patience::Patience;
use super::payload;
use super::query::Query;
use super::screen::Screen;
use super::wait;
use super::words;

/// `procession submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the new job's id. With --wait or --follow it prints what the program prints instead, its stdout on \
stdout and its stderr on stderr, and exits as the program did: 128+n for a signal, 124 for a time-out, 125 when \
Procession itself failed.

  procession submit hello --data '{\"name\": \"Ada\"}' --wait
  procession submit import --data @rows.csv --content-type text/csv --follow")]
pub struct SubmitArgs {
    /// The task to run.
    task: TaskName,
    /// The payload: JSON, @FILE, or - for stdin; none sends no body.
    #[arg(long, short, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// What the payload is.
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    content_type: String,
    /// Wait for the end, then print its output and exit as it did.
    #[arg(long, short)]
    wait: bool,
    /// Print its output as it comes, and exit as it did.
    #[arg(long, short, conflicts_with = "wait")]
    follow: bool,
    /// Higher starts sooner.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: Option<i32>,
    /// Start no sooner than after this: 250ms, 10s, 1h30m, 7d.
    #[arg(long, value_name = "DURATION")]
    delay: Option<String>,
    /// The same key is the same job, however often it is sent.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// With --wait or --follow: leave control sequences in, even on a terminal.
    #[arg(long)]
    raw: bool,
}

impl SubmitArgs {
    /// Whether it exits as the job does.
    pub(super) fn waits(&self) -> bool {
        self.wait || self.follow
    }
}

/// Submits, and stays if it should.
pub(super) async fn run(args: &SubmitArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(call(args).await?).await?;
    let job: Job = answer.json()?;
    if args.waits() {
        return tokio::select! {
            exit = stay(args, client, screen, job.id) => exit,
            _ = tokio::signal::ctrl_c() => Ok(leave(screen, job.id)),
        };
    }
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        screen.line(&job.id.to_string())?;
        screen.hint(&format!("{}; its output: procession logs -f {}", words::state(&job), id::short(job.id)));
    }
    Ok(Exit::OK)
}

async fn call(args: &SubmitArgs) -> anyhow::Result<Call> {
    let path = Query::of(format!("/v1/tasks/{}/jobs", args.task))
        .maybe("priority", args.priority.map(|priority| priority.to_string()).as_deref())
        .maybe("delay", args.delay.as_deref())
        .end();
    let mut call = Call::post(path);
    if let Some(key) = &args.idempotency_key {
        call = call.written(HeaderName::from_static("idempotency-key"), key)?;
    }
    match &args.data {
        Some(data) => payload::attach(call, data, &args.content_type).await,
        None => Ok(call),
    }
}

async fn stay(args: &SubmitArgs, client: &Client, screen: &Screen, id: JobId) -> anyhow::Result<Exit> {
    let mut patience = Patience::new();
    patience.answered();
    let shown = Shown { stdout: true, stderr: true, raw: args.raw };
    if args.follow {
        let job = follow::until_over(client, screen, id, shown, patience).await?;
        if !screen.is_json() {
            screen.say(&words::ending(&job));
        }
        return Ok(Exit::of(&job));
    }
    let (job, answer) = wait::until_over(client, id, patience).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        if job.output.as_ref().is_some_and(|output| output.stdout_bytes + output.stderr_bytes > 0) {
            logs::print(client, screen, id, None, shown).await?;
        }
        screen.say(&words::ending(&job));
    }
    Ok(Exit::of(&job))
}

/// Ctrl-C ends this command, never the job.
fn leave(screen: &Screen, id: JobId) -> Exit {
    let short = id::short(id);
    screen.say(&format!(
        "\nthe job goes on; watch it: procession logs -f {short}, end it: procession cancel {short}"
    ));
    Exit::INTERRUPTED
}

//! `cancel`: ends jobs, by id or all of a task in a state.
//!
//! It asks and does not wait: a program that runs has its grace. `wait` waits.

use std::io::{self, IsTerminal};

use anyhow::Context;
use clap::Args;
use procession_core::api::Job;
use procession_core::id::{JobId, TaskName};
use procession_core::state::JobState;

use super::client::{Answer, Call, Client, Failure};
use super::exit::Exit;
use super::id;
use super::jobs::{self, Found};
use super::query::Query;
use super::screen::Screen;
use super::words;

/// `procession cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
A job that runs gets SIGTERM, and SIGKILL when its task's grace is over; with --now SIGKILL at once.

  procession cancel 9f3a1c2b
  procession cancel --task import --state queued")]
pub struct CancelArgs {
    /// Ids, or their unique ends.
    #[arg(value_name = "ID", required_unless_present = "task", conflicts_with_all = ["task", "state"])]
    ids: Vec<String>,
    /// All jobs of this task in the state --state.
    #[arg(long, requires = "state")]
    task: Option<TaskName>,
    /// Which of the task's jobs.
    #[arg(long, requires = "task", value_parser = jobs::state_parser())]
    state: Option<JobState>,
    /// Without waiting for the grace.
    #[arg(long)]
    now: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// Cancels what was asked for.
pub(super) async fn run(args: &CancelArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    match (&args.task, args.state) {
        (Some(task), Some(state)) => all_of(args, task, state, client, screen).await,
        _ => each(args, client, screen).await,
    }
}

async fn each(args: &CancelArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let mut exit = Exit::OK;
    let mut answers = Vec::new();
    for text in &args.ids {
        match one(args, client, text).await {
            Ok((job, answer)) => {
                if !screen.is_json() {
                    screen.line(&said(&job))?;
                }
                answers.push(answer);
            }
            Err(error) => {
                screen.complain(&error);
                exit = Exit::REFUSED;
            }
        }
    }
    if screen.is_json() {
        screen.json_of(&answers, args.ids.len())?;
    }
    Ok(exit)
}

async fn one(args: &CancelArgs, client: &Client, text: &str) -> anyhow::Result<(Job, Answer)> {
    let id = id::resolve(client, text).await?;
    let answer = cancel(client, id, args.now).await.with_context(|| format!("cannot cancel {text}"))?;
    Ok((answer.json()?, answer))
}

async fn cancel(client: &Client, id: JobId, now: bool) -> Result<Answer, Failure> {
    let path = Query::of(format!("/v1/jobs/{id}/cancel")).maybe("now", now.then_some("1")).end();
    client.ask(Call::post(path)).await
}

/// A job that was over before stays as it ended; one that runs ends a little later.
fn said(job: &Job) -> String {
    if job.state.is_final() { words::ending(job) } else { format!("{} is being ended", id::short(job.id)) }
}

async fn all_of(
    args: &CancelArgs,
    task: &TaskName,
    state: JobState,
    client: &Client,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    anyhow::ensure!(!state.is_final(), "jobs that are {} are over already", state.name().replace('_', " "));
    let filter = || Query::of("/v1/jobs").with("task", task.as_str()).with("state", state.name());
    let found: Found<Job> = jobs::collect(client, filter, usize::MAX).await?;
    let count = found.items.len();
    if count > 0 && !args.yes && !confirmed(screen, &format!("cancel {count} {state} jobs of {task}?"))? {
        screen.say("nothing was cancelled");
        return Ok(Exit::REFUSED);
    }
    let mut exit = Exit::OK;
    let mut answers = Vec::new();
    for job in &found.items {
        match cancel(client, job.id, args.now).await {
            Ok(answer) => answers.push(answer),
            Err(failure) => {
                screen.complain(&anyhow::Error::from(failure).context(format!("cannot cancel {}", job.id)));
                exit = Exit::REFUSED;
            }
        }
    }
    if screen.is_json() {
        // A list, even of one: it was asked for as such.
        screen.json_of(&answers, count.max(2))?;
    } else {
        let of = if answers.len() == count { String::new() } else { format!(" of {count}") };
        screen.line(&format!("{}{of} jobs cancelled", answers.len()))?;
    }
    Ok(exit)
}

/// Asks whoever sits at the terminal; a script was written by somebody who knew.
fn confirmed(screen: &Screen, question: &str) -> anyhow::Result<bool> {
    if !(io::stdin().is_terminal() && screen.stderr_terminal) {
        return Ok(true);
    }
    screen.stderr(format!("{question} [y/N] ").as_bytes());
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

//! `retry`: a finished job again, as a new one. Final stays final: the old job keeps its
//! outcome, the new one names it in `retry_of`.

use clap::Args;
use procession_core::api::Job;

use super::client::{Call, Client};
use super::exit::Exit;
use super::id;
use super::screen::Screen;

/// `procession retry`.
#[derive(Debug, Args)]
#[command(after_help = "Prints the new job's id. The old job stays as it is.")]
pub struct RetryArgs {
    /// The id of a finished job, or its unique end.
    id: String,
}

/// Submits it again.
pub(super) async fn run(args: &RetryArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let id = id::resolve(client, &args.id).await?;
    let answer = client.ask(Call::post(format!("/v1/jobs/{id}/retry"))).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        let job: Job = answer.json()?;
        screen.line(&job.id.to_string())?;
        screen.hint(&format!("its output: procession logs -f {}", id::short(job.id)));
    }
    Ok(Exit::OK)
}

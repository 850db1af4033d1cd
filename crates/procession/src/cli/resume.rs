//! `resume`: jobs of a paused task are started again, the oldest first as ever. Harmless
//! where nothing is paused.

use clap::Args;
use procession_core::api::TaskInfo;
use procession_core::id::TaskName;

use super::client::{Call, Client};
use super::exit::Exit;
use super::screen::Screen;

/// `procession resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The task.
    task: TaskName,
}

/// Resumes it.
pub(super) async fn run(args: &ResumeArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(Call::post(format!("/v1/tasks/{}/resume", args.task))).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        let TaskInfo { name, queued, .. } = answer.json()?;
        screen.line(&format!("{name} runs again: {queued} queued"))?;
    }
    Ok(Exit::OK)
}

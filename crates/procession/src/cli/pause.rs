//! `pause`: no more jobs of a task are started. They are still taken, as many as may wait;
//! `resume` is the way back.

use clap::Args;
use procession_core::api::TaskInfo;
use procession_core::id::TaskName;

use super::client::{Call, Client};
use super::exit::Exit;
use super::screen::Screen;

/// `procession pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The task. What runs of it runs on; what is submitted waits.
    task: TaskName,
}

/// Pauses it.
pub(super) async fn run(args: &PauseArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(Call::post(format!("/v1/tasks/{}/pause", args.task))).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        let TaskInfo { name, running, queued, .. } = answer.json()?;
        screen.line(&format!("{name} is paused: {queued} queued, {running} running on"))?;
    }
    Ok(Exit::OK)
}

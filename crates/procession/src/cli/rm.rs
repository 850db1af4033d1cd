//! `rm`: removes finished jobs and all they left. One that is not over is refused; `cancel`
//! comes first.

use anyhow::Context;
use clap::Args;
use procession_core::id::JobId;

use super::client::{Call, Client};
use super::exit::Exit;
use super::id;
use super::screen::Screen;

/// `procession rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Ids of finished jobs, or their unique ends.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// Removes each; those that cannot be removed stop none of the others.
pub(super) async fn run(args: &RmArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let mut exit = Exit::OK;
    for text in &args.ids {
        match remove(client, text).await {
            // The server's answer is empty, and so is ours.
            Ok(_) if screen.is_json() => {}
            Ok(id) => screen.line(&format!("{} removed", id::short(id)))?,
            Err(error) => {
                screen.complain(&error);
                exit = Exit::REFUSED;
            }
        }
    }
    Ok(exit)
}

async fn remove(client: &Client, text: &str) -> anyhow::Result<JobId> {
    let id = id::resolve(client, text).await?;
    let path = format!("/v1/jobs/{id}");
    client.ask(Call::delete(path)).await.with_context(|| format!("cannot remove {text}"))?;
    Ok(id)
}

//! `reload`: another server takes over, with the config, and if wished the program, as they are
//! now. The keeper is asked, and answers once that is done or refused.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use procession_core::frame::admin::{Answer, Ask};
use procession_keeper::AskError;
use serde_json::json;

use super::exit::Exit;
use super::screen::Screen;
use super::{Global, holder, own_data};

/// The new server reads the config, and the old one finishes what it does.
const PATIENCE: Duration = Duration::from_secs(120);

/// `procession reload`.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything is checked first: with a config that is wrong the server goes on as it was, and this exits with 1.")]
pub struct ReloadArgs {
    /// The program too: for an upgrade.
    #[arg(long)]
    binary: bool,
    /// Cancel unfinished jobs of tasks that left the config; without it they are a reason to refuse.
    #[arg(long)]
    force: bool,
}

/// Asks for it and waits.
pub(super) fn run(args: &ReloadArgs, global: &Global, screen: &Screen) -> anyhow::Result<Exit> {
    let data = own_data::find(global)?;
    let Some(holder) = holder::find(&data)? else {
        bail!("nothing runs (data directory {}); start it with `procession serve`", data.root().display());
    };
    let question = Ask::Reload { binary: args.binary, force: args.force };
    let answer = match holder.ask(&data, &question, PATIENCE) {
        Err(error @ (AskError::Nobody | AskError::Crowded)) => {
            return Err(error).context("not reloaded; `procession status` says what runs");
        }
        answer => answer.context("not known to be reloaded; `procession status` says")?,
    };
    let error = match answer {
        Answer::Done => None,
        Answer::Failed { message } => Some(message),
        other => bail!("the keeper answered {other:?}"),
    };
    if screen.is_json() {
        screen.line(&json!({ "reloaded": error.is_none(), "error": error }).to_string())?;
    } else if let Some(message) = &error {
        screen
            .say(&format!("procession: not reloaded, the server goes on as it was:\n{}", message.trim_end()));
    } else {
        screen.line("reloaded")?;
    }
    Ok(if error.is_none() { Exit::OK } else { Exit::REFUSED })
}

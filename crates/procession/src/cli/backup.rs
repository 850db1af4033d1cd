//! `backup`: a copy of the data directory that a server can be started on, made while one
//! runs or not.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::screen::Screen;
use super::when;
use super::{Global, own_data};
use crate::backup::{Backup, backup};

/// `procession backup`.
#[derive(Debug, Args)]
#[command(after_help = "To restore, start a server with the folder as its data_dir. \
Exits with 1 where nothing was made, or where the body of a job that is not over is missing.")]
pub struct BackupArgs {
    /// The folder to make; it must not exist or be empty.
    folder: PathBuf,
    /// Also what finished jobs left: outputs, results, artifacts, bodies.
    #[arg(long)]
    files: bool,
}

/// Makes it, and says what is in it.
pub(super) fn run(args: &BackupArgs, global: &Global, screen: &Screen) -> anyhow::Result<Exit> {
    let data = own_data::find(global)?;
    let made = backup(&data, &args.folder, args.files)?;
    for path in &made.missing {
        screen.say(&format!("not there: {}", path.display()));
    }
    for path in &made.bodies_missing {
        screen.say(&format!("the body of a job that is not over is not there: {}", path.display()));
    }
    if let Some(error) = &made.left_to_root {
        let (folder, owner) = (made.folder.display(), data.root().display());
        screen.say(&format!("it belongs to root ({error}): chown -R --reference={owner} {folder}"));
    }
    if screen.is_json() {
        screen.line(&as_json(&made).to_string())?;
    } else {
        let Backup { folder, store, files, bytes, .. } = &made;
        screen.line(&format!(
            "{}: {} unfinished jobs ({} of them running: in a restored copy they are lost), {} finished",
            folder.display(),
            store.unfinished,
            store.running,
            store.finished
        ))?;
        screen.line(&format!(
            "database {}, {files} files of jobs {}",
            when::size(store.bytes),
            when::size(*bytes)
        ))?;
    }
    // The rest of it is whole, and better than none.
    Ok(if made.bodies_missing.is_empty() { Exit::OK } else { Exit::REFUSED })
}

fn as_json(made: &Backup) -> serde_json::Value {
    json!({
        "folder": made.folder,
        "jobs": { "unfinished": made.store.unfinished, "running": made.store.running, "finished": made.store.finished },
        "database_bytes": made.store.bytes,
        "files": made.files,
        "file_bytes": made.bytes,
        "missing": made.missing,
        "bodies_missing": made.bodies_missing,
    })
}

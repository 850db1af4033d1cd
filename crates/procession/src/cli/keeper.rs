//! The hidden `keeper`: what a keeper becomes when it executes itself anew. All it needs is in
//! the image that the program before left open; the config is the server's to read.

use std::path::Path;
use std::process::ExitCode;

use procession_keeper::{Identity, KeeperError, Resumed};

use super::KeeperArgs;
use super::serve::remove_names;
use crate::background::EXIT_BUG;
use crate::data::{DataDir, write_atomically};

/// Keeps on until there is nothing more to keep.
pub fn run(args: &KeeperArgs) -> ExitCode {
    match keep(args.image) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {error}");
            // A service manager starts another, which says of every job what is known of it.
            ExitCode::from(EXIT_BUG as u8)
        }
    }
}

fn keep(image: i32) -> Result<u8, KeeperError> {
    let resumed = Resumed::read(image)?;
    let state = resumed.state_dir();
    let data = DataDir::existing(state.parent().unwrap_or(Path::new("/")));
    if resumed.begins_anew() {
        sign(&data);
    }
    let status = resumed.keep()?;
    remove_names(&data);
    Ok(status)
}

/// The files that named the keeper before name this process.
fn sign(data: &DataDir) {
    let ourselves = std::process::id();
    let named = Identity::own()
        .and_then(|name| std::fs::write(data.lock(), name.to_string()))
        .and_then(|()| write_atomically(&data.pid(), &format!("{ourselves}\n"), 0o644));
    if let Err(error) = named {
        eprintln!("warning: the files LOCK and pid still name the keeper before: {error}");
    }
}

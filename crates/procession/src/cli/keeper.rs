//! The hidden `keeper`: what a keeper becomes when it executes itself anew. All it needs is in
//! the image that the program before left open; the config is the server's to read.

use std::path::Path;
use std::process::ExitCode;

use procession_keeper::{KeeperError, Resumed};

use super::KeeperArgs;
use super::serve::remove_names;
use crate::background::EXIT_BUG;
use crate::data::DataDir;

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
    let status = resumed.keep()?;
    remove_names(&data);
    Ok(status)
}

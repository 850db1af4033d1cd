//! Whether the files that are written are still the files of the store: a database that was
//! replaced or a log that was deleted under a running server takes writes that no restart
//! will ever see. The writer asks after each commit, before it answers.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// The database and its log, by path and by identity.
#[derive(Debug)]
pub(super) struct Watch {
    files: [(PathBuf, (u64, u64)); 2],
}

impl Watch {
    /// Notes the files at `path` and beside it; both exist once a connection wrote.
    pub(super) fn new(path: &Path) -> Result<Self, StoreError> {
        let note = |path: PathBuf| match identity(&path) {
            Ok(identity) => Ok((path, identity)),
            Err(error) => Err(StoreError::Disk(format!("{}: {error}", path.display()))),
        };
        Ok(Self { files: [note(path.into())?, note(log(path))?] })
    }

    /// Fails for good when a file is another one or gone.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, noted) in &self.files {
            if identity(path).ok() != Some(*noted) {
                let what = format!("{} was removed or replaced while in use", path.display());
                return Err(StoreError::Disk(what));
            }
        }
        Ok(())
    }
}

/// The log beside a database.
pub(super) fn log(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

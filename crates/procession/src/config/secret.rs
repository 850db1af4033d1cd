//! The file with the keys that sign callbacks. It is read when the config is judged, and again for
//! each callback, so that its keys can be exchanged at any time.

use std::io;
use std::path::Path;

use procession_core::webhook::{BadSecret, Secret};

use super::schema::read_bounded;

/// There is no secret in a file.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It holds none.
    #[error(transparent)]
    Text(#[from] BadSecret),
}

/// The secret in a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn read_secret(path: &Path) -> Result<Secret, NoSecret> {
    Ok(Secret::parse(&read_bounded(path)?)?)
}

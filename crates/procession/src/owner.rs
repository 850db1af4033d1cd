//! Whose files are. What root makes beside a data directory is for the user the server runs
//! as: else that user could not open what root saved. Called by `backup` and `doctor`.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

/// Where root asks: gives `made`, and all that is in it, to the owner of `data`. A link is
/// given itself, not what it names.
pub fn give_to_owner_of(data: &Path, made: &Path) -> io::Result<()> {
    let owner = fs::metadata(data)?;
    if rustix::process::geteuid().is_root() && owner.uid() != 0 {
        give(made, owner.uid(), owner.gid())?;
    }
    Ok(())
}

/// What is in a folder first: whoever owns a folder can put something else in its place.
fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    lchown(path, Some(uid), Some(gid))
}

//! Whose files are. What root makes beside a data directory is for the user the server runs
//! as: else that user could not open what root saved. Called by `backup` and `doctor`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, fstat, openat};
use rustix::io::Errno;

use crate::removal::names;

/// A name is never followed to what it links to, and a pipe keeps nobody waiting.
const HERE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Where root asks: gives `made`, and all that is in it, to the owner of `data`. A link is
/// given itself, not what it names.
pub fn give_to_owner_of(data: &Path, made: &Path) -> io::Result<()> {
    let owner = fs::metadata(data)?;
    if rustix::process::geteuid().is_root() && owner.uid() != 0 {
        let owner = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        give(openat(CWD, made, HERE, Mode::empty())?, owner)?;
    }
    Ok(())
}

/// What is in a folder first, by descriptors: whoever owns a folder can put something else in its
/// place.
fn give(opened: OwnedFd, (user, group): (Uid, Gid)) -> io::Result<()> {
    let stat = fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        for name in names(opened.as_fd())? {
            match openat(&opened, &name, HERE, Mode::empty()) {
                Ok(inner) => give(inner, (user, group))?,
                Err(Errno::LOOP) => {
                    chownat(opened.as_fd(), &name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    } else if stat.st_nlink > 1 {
        return Err(io::Error::other("a file has a second name, and may be somebody else's"));
    }
    Ok(fchown(&opened, Some(user), Some(group))?)
}

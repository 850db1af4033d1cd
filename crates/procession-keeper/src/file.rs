//! Files in folders that a job may be able to change (one that runs as the keeper's own
//! user can): whatever stands at the path, opening it neither blocks nor leads elsewhere.
//!
//! A fifo would hold up the keeper's only thread, and all deadlines with it; so would a file
//! under a lease. Only the last name of a path is guarded: folders belong to the server.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, open, unlinkat};
use rustix::io::Errno;

/// Who puts something in the way between our two steps does so this often.
const TRIES: usize = 3;

/// Opens a file that is there. The descriptor blocks, as children expect of theirs.
pub(crate) fn open_regular(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR),
        _ => return Err(Errno::INVAL),
    }
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(file)
}

/// Makes a new file that only its owner reads. What stands at the path is of no more use to
/// anyone and goes: a path belongs to one attempt, which is begun anew where an earlier try
/// had no process, or a full disk.
pub(crate) fn create_anew(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
    for _ in 1..TRIES {
        match open(path, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => unlinkat(CWD, path, AtFlags::empty())?,
            result => return result,
        }
    }
    open(path, flags, Mode::from_raw_mode(0o600))
}

/// Another open of the same file, whatever its path leads to by now.
pub(crate) fn open_again(file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    open(name, flags | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::mkfifoat;

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_and_does_not_block() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "x").expect("writable");
        symlink(path("file"), path("link")).expect("new");
        mkfifoat(CWD, path("fifo"), Mode::from_raw_mode(0o600)).expect("new");
        let opened = |name: &str| open_regular(&path(name), OFlags::RDONLY).map(drop);
        assert_eq!(opened("file"), Ok(()));
        assert_eq!(opened("link"), Err(Errno::LOOP));
        assert_eq!(opened("fifo"), Err(Errno::INVAL));
        assert_eq!(opened("."), Err(Errno::ISDIR));
        assert_eq!(opened("missing"), Err(Errno::NOENT));
    }

    #[test]
    fn what_stands_in_the_way_of_a_new_file_goes_and_what_it_led_to_stays() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("other"), "kept").expect("writable");
        symlink(path("other"), path("link")).expect("new");
        symlink(path("nowhere"), path("dangling")).expect("new");
        mkfifoat(CWD, path("fifo"), Mode::from_raw_mode(0o600)).expect("new");
        for name in ["link", "dangling", "fifo", "fresh"] {
            let file = create_anew(&path(name), OFlags::RDWR).expect(name);
            rustix::io::write(&file, b"ours").expect("a file");
            assert!(path(name).symlink_metadata().expect("there").is_file(), "{name}");
        }
        assert_eq!(std::fs::read(path("other")).expect("there"), b"kept");
        assert!(!path("nowhere").exists());
        std::fs::create_dir(path("folder")).expect("new");
        assert_eq!(create_anew(&path("folder"), OFlags::RDWR).map(drop), Err(Errno::ISDIR));
    }

    #[test]
    fn another_open_is_of_the_same_file_and_by_its_own_mode() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("file");
        let file = create_anew(&path, OFlags::RDWR).expect("new");
        std::fs::rename(&path, folder.path().join("away")).expect("ours");
        let again = open_again(&file, OFlags::WRONLY | OFlags::APPEND).expect("the same");
        rustix::io::write(&again, b"x").expect("writable");
        assert_eq!(fstat(&file).expect("open").st_size, 1);
        assert_eq!(rustix::io::read(&again, &mut [0; 1]), Err(Errno::BADF));
    }
}

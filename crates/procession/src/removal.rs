//! Removes what strangers made: folders nested deeper than a stack or a descriptor table,
//! without permissions, with links in them. Never follows a link, never recurses deeper than
//! a fixed bound: what lies deeper is moved up first.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Folders in folders that are entered before what is below is moved up.
const DEPTH: usize = 32;

/// Removes whatever stands at `path`; nothing there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A folder; what it is says opening it.
        Err(_) => {}
    }
    let top = match open_folder(CWD, path) {
        // Two may remove the same: a server, and the one that takes over from it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut removal = Removal { top: top.as_fd(), moved: 0 };
    // Each round empties all that was there when it began; what it moved up is left for the next.
    loop {
        let moved = removal.moved;
        removal.empty(top.as_fd(), 0)?;
        if removal.moved == moved {
            break;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    moved: u64,
}

impl Removal<'_> {
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        // A folder without the right to write in it cannot be emptied.
        let _ = fchmod(folder, Mode::RWXU);
        for name in names(folder)? {
            match unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            if depth == DEPTH {
                self.moved += 1;
                match renameat(folder, &name, self.top, format!(".moved-{}", self.moved)) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let inner = match open_inner(folder, &name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            self.empty(inner.as_fd(), depth + 1)?;
            drop(inner);
            match unlinkat(folder, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn open_inner(above: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    match open_folder(above, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            rustix::fs::chmodat(above, name, Mode::RWXU, AtFlags::empty())?;
            open_folder(above, name)
        }
        opened => opened,
    }
}

fn open_folder(above: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(above, path, flags, Mode::empty())?)
}

/// What is in a folder, but for itself and the one above.
pub fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    rustix::fs::seek(folder, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = vec![MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(folder, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_deep_locked_or_linked_goes_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let outside = root.path().join("outside");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("keep"), "x").expect("written");
        let victim = root.path().join("victim");
        fs::create_dir(&victim).expect("made");
        symlink(&outside, victim.join("link")).expect("linked");
        let locked = victim.join("locked");
        fs::create_dir_all(locked.join("inner")).expect("made");
        fs::write(locked.join("inner/file"), "x").expect("written");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("locked");
        dig(&victim, 5_000);
        remove(&victim).expect("removed");
        assert!(!victim.exists() && outside.join("keep").exists());
    }

    /// Folders in folders, deeper than a path can say.
    fn dig(root: &Path, depth: usize) {
        let mut at = open_folder(CWD, root).expect("opened");
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).expect("made");
            at = open_folder(at.as_fd(), "d").expect("opened");
        }
    }

    #[test]
    fn files_links_and_nothing_at_all_are_removed_too() {
        let root = tempfile::tempdir().expect("a folder");
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        fs::write(&file, "x").expect("written");
        symlink(root.path(), &link).expect("linked");
        for path in [&file, &link, &root.path().join("nothing")] {
            remove(path).expect("removed");
            assert!(path.symlink_metadata().is_err());
        }
        assert!(root.path().exists());
    }
}

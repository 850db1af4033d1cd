//! What the log's threads do to the disk, one call each, so that a test can let any of them
//! fail. Decides nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Which file a name means: another one of the same name is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// A file's identity and length.
pub(super) type Standing = (Identity, u64);

/// The operations.
pub(super) trait Disk: Send + 'static {
    /// To append to; made, with its folder, where it is missing.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// To read, and to be cut.
    fn read(&self, path: &Path) -> io::Result<File>;
    /// Empty, for its owner only, whatever was there.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Appends some of `bytes`: how many.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize>;
    /// What `path` is now.
    fn standing(&self, path: &Path) -> io::Result<Standing>;
    /// Never takes another file's place.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// One that is gone already is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What is in a folder.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes it survive a power cut; for folders: the names in it.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Makes it empty.
    fn clear(&self, file: &File) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Local;

impl Disk for Local {
    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
                DirBuilder::new().mode(0o700).create(folder)?;
                open()
            }
            opened => opened,
        }
    }

    fn read(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn standing(&self, path: &Path) -> io::Result<Standing> {
        fs::metadata(path).map(|meta| standing(&meta))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot promise it: nobody else makes such names.
            Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to),
            renamed => Ok(renamed?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string()));
        // A name that is no text is none of ours.
        names.filter_map(|name: io::Result<_>| name.map(Result::ok).transpose()).collect()
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn clear(&self, file: &File) -> io::Result<()> {
        file.set_len(0)
    }
}

/// What an open file is.
pub(super) fn standing_of(file: &File) -> io::Result<Standing> {
    file.metadata().map(|meta| standing(&meta))
}

fn standing(meta: &fs::Metadata) -> Standing {
    (Identity { device: meta.dev(), inode: meta.ino() }, meta.len())
}

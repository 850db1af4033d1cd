//! Scratch folders: private to one attempt, empty when it begins. Making and removing a
//! folder for each costs more than running a tiny program, so an attempt borrows one; one
//! that comes back empty is lent again, any other is removed with what is in it.
//!
//! The caller gives a folder back only when the whole tree of its attempt is dead.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folders of this server.
#[derive(Debug)]
pub struct ScratchPool {
    root: PathBuf,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<u32>,
    next: u32,
}

/// A borrowed folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Its number in the pool.
    pub number: u32,
    /// Absolute path.
    pub path: PathBuf,
}

impl Scratch {
    /// Where the program leaves files to keep.
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// Where the program leaves its result.
    pub fn result(&self) -> PathBuf {
        self.path.join("result")
    }

    /// Where the program says how far it is.
    pub fn progress(&self) -> PathBuf {
        self.path.join("progress")
    }

    /// A small body as a file.
    pub fn payload(&self) -> PathBuf {
        self.path.join("payload")
    }

    /// Copies of the task's secrets.
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets")
    }

    /// Whether it is as it was lent: nothing in it but an empty artifacts folder.
    pub fn is_untouched(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.path)? {
            if entry?.file_name() != "artifacts" {
                return Ok(false);
            }
        }
        match fs::read_dir(self.artifacts()) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl ScratchPool {
    /// Clears away the folders of a server before, but for those in `in_use`.
    pub fn open(root: &Path, in_use: &BTreeSet<u32>) -> io::Result<Self> {
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !number.is_some_and(|number| in_use.contains(&number)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let next = in_use.last().map_or(0, |last| last + 1);
        Ok(Self { root: root.to_owned(), state: Mutex::new(PoolState { free: Vec::new(), next }) })
    }

    /// An empty folder, and whether it was made just now.
    pub fn borrow(&self) -> io::Result<(Scratch, bool)> {
        let (number, fresh) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.free.pop() {
                Some(number) => (number, false),
                None => {
                    state.next += 1;
                    (state.next - 1, true)
                }
            }
        };
        let scratch = self.folder(number);
        if fresh {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).create(&scratch.path)?;
            builder.create(scratch.artifacts())?;
        }
        Ok((scratch, fresh))
    }

    /// The folder with this number, borrowed before a restart.
    pub fn folder(&self, number: u32) -> Scratch {
        Scratch { number, path: self.root.join(number.to_string()) }
    }

    /// Takes a folder back: lends it again if it is untouched, else removes it. Its number
    /// is not used again, so nothing late can write into another attempt's folder.
    pub fn give_back(&self, scratch: &Scratch) -> io::Result<()> {
        if scratch.is_untouched()? {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(scratch.number);
            return Ok(());
        }
        fs::remove_dir_all(&scratch.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_lent_again_only_when_nothing_was_left_in_it() {
        let root = tempfile::tempdir().expect("a folder");
        let pool = ScratchPool::open(root.path(), &BTreeSet::new()).expect("a pool");
        let (first, fresh) = pool.borrow().expect("a folder");
        assert!(fresh && first.is_untouched().expect("readable"));
        pool.give_back(&first).expect("given back");
        assert_eq!(pool.borrow().expect("a folder"), (first.clone(), false));

        fs::write(first.artifacts().join("report"), "x").expect("written");
        pool.give_back(&first).expect("removed");
        assert!(!first.path.exists());
        let (second, fresh) = pool.borrow().expect("a folder");
        assert!(fresh && second.number != first.number);
    }

    #[test]
    fn a_new_server_clears_what_nobody_uses() {
        let root = tempfile::tempdir().expect("a folder");
        for number in ["0", "3", "7", "junk"] {
            fs::create_dir(root.path().join(number)).expect("made");
        }
        let pool = ScratchPool::open(root.path(), &[3].into()).expect("a pool");
        let left: Vec<_> = fs::read_dir(root.path()).expect("readable").flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(pool.borrow().expect("a folder").0.number, 4);
    }
}

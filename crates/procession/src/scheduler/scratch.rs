//! Scratch folders: private to one attempt, empty when it begins. Making and removing a
//! folder for each costs more than running a tiny program, so an attempt borrows one; one
//! that comes back empty is lent again, any other is removed with what is in it.
//!
//! A job may do what it likes with its folder, also put another in its place: a folder is
//! known by its device and inode, is looked at through a descriptor opened without following
//! a link, and what a path leads to is otherwise never trusted. No descriptor is held in
//! between: many slots would take those of the connections. The caller gives a folder back
//! only when the whole tree of its attempt is dead.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, RawDir, Stat, fstat, openat};

/// The folders of this server.
#[derive(Debug)]
pub struct ScratchPool {
    root: PathBuf,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<Arc<Folder>>,
    lent: HashMap<u32, Arc<Folder>>,
    next: u32,
}

/// A folder this server made, whatever stands at its path later.
#[derive(Debug)]
struct Folder {
    scratch: Scratch,
    inside: Identity,
    artifacts: Identity,
}

/// Device and inode. A folder made anew may get the same: it is as good if it is as empty and
/// as private.
type Identity = (u64, u64);

/// A borrowed folder, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Its number in the pool.
    pub number: u32,
    /// Absolute path.
    pub path: PathBuf,
}

/// How a folder came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As it was lent.
    Nothing,
    /// With something in it, or not as it was, or not known.
    Something,
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

    /// What a join reads, where it is large.
    pub fn family(&self) -> PathBuf {
        self.path.join("family")
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
}

impl ScratchPool {
    /// A pool, and what a server before left behind in its place, but for folders `in_use`: to
    /// be removed, which may take long. Numbers that are there are not used.
    pub fn open(root: &Path, in_use: &BTreeSet<u32>) -> io::Result<(Self, Vec<PathBuf>)> {
        let (mut taken, mut left) = (in_use.clone(), Vec::new());
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if number.is_none_or(|number| !in_use.contains(&number)) {
                taken.extend(number);
                left.push(entry.path());
            }
        }
        let next = taken.last().map_or(0, |last| last + 1);
        let state = Mutex::new(PoolState { next, ..PoolState::default() });
        Ok((Self { root: root.to_owned(), state }, left))
    }

    /// An empty folder, and whether it was made just now.
    pub fn borrow(&self) -> io::Result<(Scratch, bool)> {
        let mut state = self.lock();
        let (folder, fresh) = match state.free.pop() {
            Some(folder) => (folder, false),
            None => {
                let number = state.next;
                state.next += 1;
                (Arc::new(Folder::make(self.named(number))?), true)
            }
        };
        let scratch = folder.scratch.clone();
        state.lent.insert(scratch.number, folder);
        Ok((scratch, fresh))
    }

    /// The folder with this number.
    pub fn named(&self, number: u32) -> Scratch {
        Scratch { number, path: self.root.join(number.to_string()) }
    }

    /// What an attempt left in its folder. Of one lent by a server before nothing is known.
    pub fn left_in(&self, number: u32) -> Left {
        let folder = self.lock().lent.get(&number).cloned();
        match folder.map(|folder| folder.is_untouched()) {
            Some(Ok(true)) => Left::Nothing,
            _ => Left::Something,
        }
    }

    /// Takes a folder back. One in which nothing was left is lent again; the path of any
    /// other is returned, to be removed: that may take long. Its number is not used again, so
    /// nothing late can write into another attempt's folder.
    pub fn give_back(&self, number: u32, left: Left) -> Option<PathBuf> {
        let mut state = self.lock();
        match (state.lent.remove(&number), left) {
            (Some(folder), Left::Nothing) => {
                state.free.push(folder);
                None
            }
            _ => Some(self.named(number).path),
        }
    }

    /// Forgets a folder without touching it: what the attempt left running may still use it.
    pub fn abandon(&self, number: u32) {
        self.lock().lent.remove(&number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    fn make(scratch: Scratch) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(&scratch.path)?;
        builder.create(scratch.artifacts())?;
        let inside = open(CWD, &scratch.path)?;
        let artifacts = open(inside.as_fd(), "artifacts")?;
        let (inside, artifacts) = (identity(&fstat(&inside)?), identity(&fstat(&artifacts)?));
        Ok(Self { scratch, inside, artifacts })
    }

    fn is_untouched(&self) -> io::Result<bool> {
        let inside = open(CWD, &self.scratch.path)?;
        if !is_as_made(&inside, self.inside)? || !holds_only(&inside, &["artifacts"])? {
            return Ok(false);
        }
        let artifacts = open(inside.as_fd(), "artifacts")?;
        Ok(is_as_made(&artifacts, self.artifacts)? && holds_only(&artifacts, &[])?)
    }
}

fn open(above: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(above, path, flags, Mode::empty())?)
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// The same folder, with the permissions it was made with.
fn is_as_made(folder: &OwnedFd, made: Identity) -> io::Result<bool> {
    let now = fstat(folder)?;
    Ok(identity(&now) == made && now.st_mode & 0o7777 == 0o700)
}

fn holds_only(folder: &OwnedFd, known: &[&str]) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !known.iter().any(|known| known.as_bytes() == name) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::removal::remove;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn pool() -> (tempfile::TempDir, ScratchPool) {
        let root = tempfile::tempdir().expect("a folder");
        let (pool, left) = ScratchPool::open(root.path(), &BTreeSet::new()).expect("a pool");
        assert!(left.is_empty());
        (root, pool)
    }

    /// Borrows, lets a job do something, gives back; whether the folder is lent again.
    fn after(job: impl FnOnce(&Scratch)) -> bool {
        let (_root, pool) = pool();
        let (first, fresh) = pool.borrow().expect("a folder");
        assert!(fresh);
        job(&first);
        if let Some(path) = pool.give_back(first.number, pool.left_in(first.number)) {
            remove(&path).expect("removed");
        }
        let (second, _) = pool.borrow().expect("a folder");
        let again = second.number == first.number;
        assert!(again || first.path.symlink_metadata().is_err(), "neither lent again nor gone");
        again
    }

    #[test]
    fn a_folder_is_lent_again_only_as_it_was() {
        let outside = tempfile::tempdir().expect("a folder");
        assert!(after(|_| {}));
        assert!(!after(|scratch| fs::write(scratch.artifacts().join("report"), "x").expect("written")));
        assert!(!after(|scratch| fs::write(scratch.result(), "x").expect("written")));
        assert!(!after(|scratch| fs::remove_dir(scratch.artifacts()).expect("removed")));
        assert!(!after(|scratch| {
            fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o777)).expect("changed");
        }));
        assert!(!after(|scratch| {
            fs::remove_dir_all(&scratch.path).expect("removed");
            fs::create_dir_all(scratch.artifacts()).expect("made anew");
        }));
        assert!(!after(|scratch| {
            fs::remove_dir(scratch.artifacts()).expect("removed");
            symlink(outside.path(), scratch.artifacts()).expect("linked");
        }));
        fs::create_dir(outside.path().join("artifacts")).expect("made");
        assert!(!after(|scratch| {
            fs::remove_dir_all(&scratch.path).expect("removed");
            symlink(outside.path(), &scratch.path).expect("linked");
        }));
        assert!(outside.path().join("artifacts").exists(), "what a link led to is untouched");
    }

    #[test]
    fn what_nobody_uses_is_told_and_its_numbers_are_not_used() {
        let root = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("keep"), "x").expect("written");
        for number in ["0", "3", "7", "junk"] {
            fs::create_dir(root.path().join(number)).expect("made");
        }
        fs::write(root.path().join("file"), "x").expect("written");
        symlink(outside.path(), root.path().join("9")).expect("linked");
        let (pool, left) = ScratchPool::open(root.path(), &[3].into()).expect("a pool");
        assert_eq!(left.len(), 5);
        left.iter().for_each(|path| remove(path).expect("removed"));
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
        assert!(outside.path().join("keep").exists());
        assert_eq!(pool.borrow().expect("a folder").0.number, 10);
        assert_eq!(pool.left_in(3), Left::Something, "lent by a server before");
    }
}

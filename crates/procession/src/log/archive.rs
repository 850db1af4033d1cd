//! What becomes of log files that are over: compressed or removed as `rotation` plans it. On
//! a thread of its own, so that no line waits for it.
//!
//! A crash at any point leaves a file plain, or compressed and whole, or both: compressed is
//! what has the name, and it gets that last. Whoever still writes to a file holds a lock on
//! it and is waited for.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::disk::Disk;
use super::rotation::{Archived, Family, Form, Step, plan};
use crate::config::Logging;

/// `stderr.log` is put aside where it is larger.
const STDERR: u64 = 1 << 20;

/// What was done in the folder.
#[derive(Debug, Default)]
pub(super) struct Tidied {
    /// Files that somebody still writes to: to be looked at again soon.
    pub(super) busy: usize,
    /// What could not be done, by file.
    pub(super) failed: Vec<(String, io::Error)>,
}

/// Compresses and removes what is due.
pub(super) fn tidy(disk: &impl Disk, folder: &Path, rules: &Logging, now: Timestamp) -> io::Result<Tidied> {
    let mut tidied = Tidied::default();
    for step in plan(&disk.names(folder)?, now, rules) {
        let (name, done) = match step {
            Step::Remove(name) => {
                let removed = disk.remove(&folder.join(&name));
                (name, removed.map(|()| Packed::Yes))
            }
            Step::Pack(archived) => (archived.name(Form::Plain), pack(disk, folder, archived)),
        };
        match done {
            Ok(Packed::Yes) => {}
            Ok(Packed::InUse) => tidied.busy += 1,
            Err(error) => tidied.failed.push((name, error)),
        }
    }
    Ok(tidied)
}

/// Whether a file could be compressed.
enum Packed {
    Yes,
    InUse,
}

fn pack(disk: &impl Disk, folder: &Path, archived: Archived) -> io::Result<Packed> {
    let plain = folder.join(archived.name(Form::Plain));
    let mut file = disk.read(&plain)?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Ok(Packed::InUse);
    }
    make(disk, folder, archived, Form::Packed, |out| compress(disk, &mut file, out))?;
    disk.remove(&plain)?;
    Ok(Packed::Yes)
}

/// What has the name is whole, also after a power cut; half of it may be what fills the disk.
fn make(
    disk: &impl Disk,
    folder: &Path,
    archived: Archived,
    form: Form,
    fill: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let half = folder.join(archived.name(Form::Half));
    let out = disk.create(&half)?;
    let made = fill(&out)
        .and_then(|()| disk.sync(&out))
        .and_then(|()| disk.rename(&half, &folder.join(archived.name(form))));
    if made.is_err() {
        let _ = disk.remove(&half);
    }
    made?;
    disk.sync(&File::open(folder)?)
}

fn compress(disk: &impl Disk, from: &mut File, to: &File) -> io::Result<()> {
    let mut encoder = GzEncoder::new(Sink { disk, file: to }, Compression::default());
    io::copy(from, &mut encoder)?;
    encoder.finish().map(|_| ())
}

/// A file as a stream.
struct Sink<'a, D> {
    disk: &'a D,
    file: &'a File,
}

impl<D: Disk> Write for Sink<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts a large `stderr.log` aside. Keeper and server hold it open and go on appending to it,
/// so it is copied and emptied, not moved: what they say in between the two is lost.
pub(super) fn put_stderr_aside(disk: &impl Disk, folder: &Path, now: Timestamp) -> io::Result<()> {
    let path = folder.join(Family::Stderr.file());
    match disk.standing(&path) {
        Ok((_, size)) if size > STDERR => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    }
    let archived = Archived::new(Family::Stderr, now, &disk.names(folder)?);
    let mut from = disk.read(&path)?;
    make(disk, folder, archived, Form::Plain, |out| {
        io::copy(&mut from, &mut Sink { disk, file: out }).map(drop)
    })?;
    disk.clear(&from)
}

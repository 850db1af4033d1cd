//! Exit records that outlive the server, and the keeper: an append-only file of records and
//! acknowledgements.
//!
//! Not fsynced: it has to survive processes, not power (after a reboot every attempt is
//! lost anyway, and a journal of another boot is not read). A torn end is cut off. A disk
//! that takes no more costs the file, never an attempt: records also stay in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use procession_core::frame::journal::{Entry, read};
use procession_core::id::AttemptKey;
use procession_core::record::ExitRecord;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fault;
use crate::file::{create_anew, open_regular};
use crate::unacknowledged::Unacknowledged;

const MAGIC: &[u8; 8] = b"procjrn1";
const HEADER: u64 = 24;

/// The file is cut back to its header once it is longer than this and nothing in it counts.
const WORTH_CUTTING: u64 = 256 * 1024;

/// The file is rewritten once it is longer than this and most of it is acknowledged.
const WORTH_REWRITING: u64 = 8 * 1024 * 1024;

/// What nobody has acknowledged by the entries of a journal, and how many of their bytes are whole.
fn unacknowledged(entries: Bytes) -> (Unacknowledged, usize) {
    let (entries, whole) = read(entries);
    let mut left = Unacknowledged::default();
    for entry in entries {
        match entry {
            Entry::Record(record) => left.insert(*record),
            Entry::Ack(key) => drop(left.acknowledge(key)),
        }
    }
    (left, whole)
}

/// The file at its end, and what is to be appended.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    boot_id: [u8; 16],
    file: File,
    length: u64,
    pending: Vec<u8>,
}

impl Journal {
    /// Opens or makes `journal` in `folder`; gives the records of this boot that are not
    /// acknowledged.
    pub(crate) fn open(folder: &Path, boot_id: [u8; 16]) -> std::io::Result<(Self, Unacknowledged)> {
        let path = folder.join("journal");
        let file = match open_regular(&path, OFlags::RDWR) {
            Err(Errno::NOENT) => create_anew(&path, OFlags::RDWR)?,
            result => result?,
        };
        let mut file = File::from(file);
        let mut bytes = vec![];
        file.read_to_end(&mut bytes)?;
        let (mut left, mut length) = (Unacknowledged::default(), HEADER);
        if bytes.len() as u64 >= HEADER && bytes[..8] == *MAGIC && bytes[8..24] == boot_id {
            let whole;
            (left, whole) = unacknowledged(bytes.split_off(24).into());
            length += whole as u64;
        } else {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(MAGIC)?;
            file.write_all(&boot_id)?;
        }
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok((Self { path, boot_id, file, length, pending: vec![] }, left))
    }

    /// The open file of the program before, at its end.
    pub(crate) fn resume(folder: &Path, boot_id: [u8; 16], file: OwnedFd, length: u64) -> Self {
        Self { path: folder.join("journal"), boot_id, file: file.into(), length, pending: vec![] }
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn record(&mut self, record: &ExitRecord) {
        Entry::Record(Box::new(record.clone())).encode(&mut self.pending);
    }

    pub(crate) fn acknowledge(&mut self, key: AttemptKey) {
        Entry::Ack(key).encode(&mut self.pending);
    }

    /// Writes what was added since the last call: before the server is told of it. `left`
    /// is what still counts.
    pub(crate) fn flush(&mut self, left: &Unacknowledged) {
        if self.pending.is_empty() {
            return;
        }
        fault::point("journal.before_write");
        let pending = std::mem::take(&mut self.pending);
        if let Err(error) = self.append(&pending, left) {
            // Records go on in memory; a torn entry must not hide later ones.
            let _ =
                self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            crate::complain(format_args!("journal not written: {error}"));
        }
        self.pending = pending;
        self.pending.clear();
        fault::point("journal.after_write");
    }

    fn append(&mut self, pending: &[u8], left: &Unacknowledged) -> std::io::Result<()> {
        if left.is_empty() && self.length > WORTH_CUTTING {
            self.file.set_len(HEADER)?;
            self.length = self.file.seek(SeekFrom::Start(HEADER))?;
            return Ok(());
        }
        self.file.write_all(pending)?;
        self.length += pending.len() as u64;
        if self.length > WORTH_REWRITING { self.rewrite(left) } else { Ok(()) }
    }

    /// Only where it makes the file at least half as long.
    fn rewrite(&mut self, left: &Unacknowledged) -> std::io::Result<()> {
        let mut bytes = [MAGIC.as_slice(), &self.boot_id].concat();
        for record in left.iter() {
            Entry::Record(Box::new(record.clone())).encode(&mut bytes);
        }
        if bytes.len() as u64 > self.length / 2 {
            return Ok(());
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::from(create_anew(&fresh, OFlags::WRONLY)?);
        file.write_all(&bytes)?;
        std::fs::rename(&fresh, &self.path)?;
        (self.file, self.length) = (file, bytes.len() as u64);
        Ok(())
    }
}

pub(crate) mod inspect;
#[cfg(test)]
mod tests;

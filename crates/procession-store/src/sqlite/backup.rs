//! A copy of a store that may be in use: one moment of it, complete and checked, under its
//! name only once it is on the disk. What lies in files beside the store is its caller's.
//! Called by `procession backup`, in a process of its own.

use std::fs;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{open, statement};
use crate::error::StoreError;

/// By how much a copy is ahead: more claims than the original will ever make after it.
const EPOCH: i64 = 1 << 32;

const RAISE: &str = "UPDATE meta SET fence = fence + ?1";
/// What runs in the copy was claimed by a server of the original, which must not be able to
/// write here: to it, what it claimed is gone.
const DISOWN: &str = "UPDATE live SET fence = fence + ?1 WHERE fence IS NOT NULL";
const COUNTS: &str = "
    SELECT (SELECT count(*) FROM live), (SELECT count(*) FROM live WHERE holds_slot = 1),
        (SELECT count(*) FROM done), (SELECT fence FROM meta)";

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Jobs that are not over, those that run among them.
    pub unfinished: u64,
    /// Jobs that run in the original: in the copy they will be lost, since nobody owns them.
    pub running: u64,
    /// Jobs that are over.
    pub finished: u64,
    /// The last fence of the copy: the original never reaches it.
    pub fence: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Copies the store at `from`, which other processes may be writing, to `to`, which is not
/// there yet: all that was committed when it began. Reads only; the writer does not wait.
///
/// # Errors
/// `from` is no store that could be opened, or the copy could not be made whole; then there is
/// nothing at `to`.
pub fn backup(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    if !from.exists() {
        return Err(open::refused(from, &"there is none", "a server makes it at its first start"));
    }
    if to.exists() {
        return Err(open::refused(to, &"something is there already", "name a new place"));
    }
    open::look(from)?;
    let made = open::beside(to, ".new");
    let copied =
        copy(&open::readable(from)?, &made).and_then(|counts| open::put_in_place(&made, to).map(|()| counts));
    if copied.is_err() {
        // The reason matters more than what is left of the attempt.
        let _ = fs::remove_file(&made);
    }
    let bytes = fs::metadata(to).map_or(0, |found| found.len());
    Ok(Copied { bytes, ..copied? })
}

fn copy(from: &Connection, to: &Path) -> Result<Copied, StoreError> {
    open::make_private(to)?;
    let mut copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Synced once, as a whole, before it gets its name.
    copy.pragma_update(None, "synchronous", "OFF")?;
    // In one step: one moment, from which pages that change meanwhile are not read again.
    match Backup::new(from, &mut copy)?.step(-1)? {
        StepResult::Done => {}
        other => return Err(StoreError::Database(format!("the copy was not made: {other:?}"))),
    }
    // One file: a log of its own would be a second to move.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    open::prepare(&copy)?;
    let transaction = copy.transaction()?;
    statement::run(&transaction, RAISE, [EPOCH])?;
    statement::run(&transaction, DISOWN, [EPOCH])?;
    transaction.commit()?;
    check(&copy)?;
    let counts = counts(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    Ok(counts)
}

/// What cannot be read again is no backup.
fn check(copy: &Connection) -> Result<(), StoreError> {
    let verdict: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Corrupt(format!("the copy is damaged: {verdict}"))) }
}

fn counts(copy: &Connection) -> Result<Copied, StoreError> {
    let count = |row: &rusqlite::Row<'_>, at| super::column::count(row.get(at)?);
    let found = statement::one(copy, COUNTS, [], |row| {
        Ok(Copied {
            unfinished: count(row, 0)?,
            running: count(row, 1)?,
            finished: count(row, 2)?,
            fence: count(row, 3)?,
            bytes: 0,
        })
    })?;
    found.ok_or_else(|| StoreError::Corrupt("a count without a row".into()))
}

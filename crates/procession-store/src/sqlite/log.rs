//! The write-ahead log: when it is copied into the database, and when free pages go back to
//! the file system. Done by the writer between its batches and by nobody else, so a failure
//! of the disk is seen here too; SQLite's own automatic copying would have kept it quiet.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::statement;
use crate::error::StoreError;

/// Copied when so many pages came since the last time (8 MiB).
const STEP: i32 = 2_048;

/// From here on (128 MiB) readers are waited for, so that the log can begin anew.
const LONGEST: i32 = 32_768;

/// Free pages kept for the next jobs, and given back at once beyond that (4 MiB).
const SPARE: i64 = 1_024;

const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
const TRUNCATE: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
const FREE: &str = "PRAGMA freelist_count";
const GIVE_BACK: &str = "PRAGMA incremental_vacuum(1024)";

/// How long the log is.
#[derive(Debug)]
pub(super) struct Log {
    /// Pages, as of the last commit.
    pages: Arc<AtomicI32>,
    /// Pages that were copied last time.
    copied: i32,
}

impl Log {
    /// Watches the commits of `conn`.
    pub(super) fn new(conn: &mut Connection) -> Result<Self, StoreError> {
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut Wal, now| {
            seen.store(now, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, copied: 0 })
    }

    /// Whether it has grown enough to be copied.
    pub(super) fn is_due(&mut self) -> bool {
        let pages = self.pages.load(Ordering::Relaxed);
        // It began anew since.
        if pages < self.copied {
            self.copied = 0;
        }
        pages - self.copied >= STEP
    }

    /// Copies it. What readers still need stays for the next time, unless it is too long.
    pub(super) fn copy(&mut self, conn: &Connection) -> Result<(), StoreError> {
        self.copied = self.pages.load(Ordering::Relaxed);
        let sql = if self.copied < LONGEST { PASSIVE } else { TRUNCATE };
        statement::all(conn, sql, [], |_| Ok(()))?;
        Ok(())
    }
}

/// Gives a bounded number of free pages back; `true`: there are more.
pub(super) fn give_back(conn: &Connection) -> Result<bool, StoreError> {
    let free = statement::one(conn, FREE, [], |row| Ok(row.get::<_, i64>(0)?))?.unwrap_or(0);
    if free > SPARE {
        // A page for each step.
        statement::all(conn, GIVE_BACK, [], |_| Ok(()))?;
    }
    Ok(free > 2 * SPARE)
}

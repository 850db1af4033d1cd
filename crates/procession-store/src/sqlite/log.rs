//! The write-ahead log: when it is copied into the database, and when free pages go back to
//! the file system. Done by the writer between its batches and by nobody else, so a failure
//! of the disk is seen here too; SQLite's own automatic copying would have kept it quiet.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::{open, statement};
use crate::error::StoreError;

/// Copied when so many pages came since the last time (8 MiB).
const STEP: i32 = 2_048;

/// From here on (128 MiB) readers are waited for, so that the log can begin anew.
const LONGEST: i32 = 32_768;

/// How long for: one that reads all of the store (a backup, `doctor`) takes longer than any
/// caller may be kept waiting, and one that reads a row is done by then.
const PATIENCE: Duration = Duration::from_millis(20);

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
    /// Where it should begin anew.
    longest: i32,
    /// A reader kept it from that, and this was said.
    held: bool,
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
        Ok(Self { pages, copied: 0, longest: LONGEST, held: false })
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

    /// Copies it. What readers still need stays for the next time; where it is too long, they
    /// are given a moment to end.
    pub(super) fn copy(&mut self, conn: &Connection) -> Result<(), StoreError> {
        self.copied = self.pages.load(Ordering::Relaxed);
        if self.copied < self.longest {
            return checkpoint(conn, PASSIVE).map(drop);
        }
        conn.busy_timeout(PATIENCE)?;
        let held = checkpoint(conn, TRUNCATE);
        conn.busy_timeout(open::BUSY)?;
        let held = held?;
        if held && !self.held {
            let pages = self.copied;
            tracing::info!(pages, "a long reader keeps the write-ahead log from beginning anew: it grows on");
        }
        self.held = held;
        Ok(())
    }
}

/// Runs it; `true`: a reader kept it from its end.
fn checkpoint(conn: &Connection, sql: &str) -> Result<bool, StoreError> {
    Ok(statement::one(conn, sql, [], |row| Ok(row.get::<_, bool>(0)?))?.unwrap_or(false))
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::sqlite::watch;

    /// Commits until the log is due, then copies it; how long that took.
    fn write_until_due(conn: &Connection, log: &mut Log) -> Duration {
        while !log.is_due() {
            conn.execute("INSERT INTO filler (bytes) VALUES (zeroblob(1000000))", []).expect("written");
        }
        let began = Instant::now();
        log.copy(conn).expect("a reader is no failure");
        began.elapsed()
    }

    fn len(path: &Path) -> u64 {
        std::fs::metadata(watch::log(path)).expect("there").len()
    }

    #[test]
    fn f43_while_a_reader_holds_the_log_writes_go_on_and_it_begins_anew_afterwards_heavy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let mut conn = open::writable(&path).expect("a new store");
        let mut log = Log { longest: 1, ..Log::new(&mut conn).expect("watched") };
        conn.execute_batch("CREATE TABLE filler (bytes BLOB)").expect("made");
        let reader = open::readable(&path).expect("opens");
        reader.execute_batch("BEGIN; SELECT count(*) FROM filler").expect("as a backup or `doctor` does");
        let rounds = 4;
        let waited: Duration = (0..rounds).map(|_| write_until_due(&conn, &mut log)).sum();
        assert!(waited < open::BUSY / 2, "{waited:?}: every caller would have waited for the reader");
        assert!(log.held, "it is said once");
        let kept = len(&path);
        assert!(kept > 4096 * STEP as u64 * (rounds - 1), "{kept} bytes: the reader needs all of it");
        assert_eq!(
            conn.pragma_query_value(None, "busy_timeout", |row| row.get(0)),
            Ok(open::BUSY.as_millis() as i64)
        );
        reader.execute_batch("COMMIT").expect("ends");
        write_until_due(&conn, &mut log);
        assert_eq!((log.held, len(&path)), (false, 0), "the log begins anew");
        assert!(!log.is_due(), "and is counted from there");
    }
}

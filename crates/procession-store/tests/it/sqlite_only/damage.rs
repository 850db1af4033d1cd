//! Rows that the contract does not allow, written by another hand, are seen when loaded.

use std::path::Path;

use procession_core::id::JobId;
use procession_store::{SqliteStore, Store, StoreError};

use crate::fixture::*;

/// A finished job in a closed store, changed by `sql`.
async fn changed(sql: &str) -> (tempfile::TempDir, SqliteStore, JobId) {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    let lease = running(&store, "a", 0).await;
    store.finish(ok(lease, 0)).await.expect("recorded");
    drop(store);
    meddle(&path, sql);
    let store = SqliteStore::open(&path).expect("a whole file");
    (folder, store, lease.job)
}

fn meddle(path: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(path).expect("opens");
    conn.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").expect("set");
    conn.execute_batch(sql).expect("changed");
}

#[tokio::test]
async fn corrupt_rows_are_seen() {
    for sql in [
        r#"UPDATE done SET outcome = '{"kind":"exited","code":1}'"#,
        r#"UPDATE done SET outcome = '{"kind":"slept"}'"#,
        "UPDATE done SET outcome = 'exited'",
        "DELETE FROM done",
        "UPDATE attempt SET stdout_total = -1",
        "UPDATE attempt SET containment = 'hope'",
        "UPDATE job SET labels = '[]'",
        "UPDATE task SET name = 'No Name'",
        "UPDATE job SET submitted_at = 9223372036854775807",
        "INSERT INTO live (job, task, state, priority, run_at) SELECT id, task, 'queued', 0, 0 FROM job",
    ] {
        // Those a whole-file check at start finds are refused there.
        let (folder, path) = place();
        drop(folder);
        drop(path);
        match tokio::spawn(changed(sql)).await {
            Ok((_folder, store, job)) => {
                let answer = store.get(job).await;
                assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{sql}: {answer:?}");
            }
            Err(refused) => assert!(refused.is_panic(), "{sql}"),
        }
    }
}

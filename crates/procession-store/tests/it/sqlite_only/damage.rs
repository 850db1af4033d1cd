//! Rows that the contract does not allow, written by another hand, are seen when loaded.

use std::path::Path;

use procession_core::job::JobRecord;
use procession_store::{SqliteStore, Store, StoreError};

use crate::fixture::*;

/// A finished job in a store that was changed by `sql` while it was closed: what the store
/// says of it.
async fn loaded_after(sql: &str) -> Result<Option<JobRecord>, StoreError> {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path)?;
    let lease = running(&store, "a", 0).await;
    store.finish(ok(lease, 0)).await?;
    drop(store);
    meddle(&path, sql);
    SqliteStore::open(&path)?.get(lease.job).await
}

fn meddle(path: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(path).expect("opens");
    conn.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").expect("set");
    conn.execute_batch(sql).expect("changed");
}

#[tokio::test]
async fn rows_that_cannot_be_are_seen_when_loaded() {
    assert!(loaded_after("UPDATE job SET priority = 5").await.is_ok_and(|job| job.is_some()));
    for sql in [
        r#"UPDATE done SET outcome = '{"kind":"exited","code":1}'"#,
        r#"UPDATE done SET outcome = '{"kind":"slept"}'"#,
        "UPDATE done SET outcome = 'exited'",
        "UPDATE done SET state = 'resting'",
        "DELETE FROM done",
        "UPDATE attempt SET stdout_total = -1",
        "UPDATE attempt SET containment = 'hope'",
        "UPDATE job SET labels = '[]'",
        "UPDATE job SET submitted_at = 9223372036854775807",
        "UPDATE task SET name = 'No Name'",
        "INSERT INTO live (job, task, state, priority, run_at) SELECT id, task, 'queued', 0, 0 FROM job",
    ] {
        let answer = loaded_after(sql).await;
        // Some of it the check of the file at start sees first.
        let seen = matches!(answer, Err(StoreError::Corrupt(_) | StoreError::Refused(_)));
        assert!(seen, "{sql}: {answer:?}");
    }
}

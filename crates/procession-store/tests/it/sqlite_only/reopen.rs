//! What is there after the file was closed and opened again.

use std::sync::Arc;

use procession_core::id::Fence;
use procession_core::job::NewJob;
use procession_core::limits::Limit;
use procession_core::record::Containment;
use procession_core::state::JobState;
use procession_store::{SqliteStore, Store, StoreError};

use crate::fixture::*;

#[tokio::test]
async fn all_is_there_after_closing_and_opening() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    store.put_tasks(vec![task("a"), task("b"), task("idle")]).await.expect("known");
    for n in 0..20 {
        put(
            &store,
            NewJob { idempotency: key(&n.to_string(), 1), labels: labels(&[("x", "1")]), ..job("a", n) },
        )
        .await;
        put(&store, NewJob { run_at: Some(at(500)), expires_at: Some(at(900)), ..job("b", n) }).await;
    }
    let jobs = take(&store, 9, "a", 30).await;
    for job in &jobs[..4] {
        store.started(job.lease, at(31), Containment::Cgroup).await.expect("noted");
        store.finish(ok(job.lease, 31)).await.expect("recorded");
    }
    store.release(jobs[4].lease, Some(at(400))).await.expect("deferred");
    store.pause(&task("b"), true).await.expect("paused");
    let seen = (
        store.list(everything()).await.expect("listed"),
        store.stats().await.expect("read"),
        store.claimed_by("n1").await.expect("read"),
        store.next_due().await.expect("read"),
    );
    assert_eq!(seen.2.len(), 4);
    drop(store);
    assert!(!path.with_file_name("store.db-wal").exists(), "closing tidies the log away");

    let store = SqliteStore::open(&path).expect("the same store");
    let again = (
        store.list(everything()).await.expect("listed"),
        store.stats().await.expect("read"),
        store.claimed_by("n1").await.expect("read"),
        store.next_due().await.expect("read"),
    );
    assert_eq!(again, seen);
    // Fences go on where they were.
    let next = take(&store, 1, "a", 40).await[0].lease;
    assert_eq!(next.fence, Fence(10));
    assert_eq!(state(&store, next.job).await, JobState::Running);
    assert_eq!(store.claim(ask(5, &[("b", Limit::Unlimited)], 600)).await.expect("claims").jobs, []);
}

#[tokio::test]
async fn a_depth_that_is_not_that_of_the_rows_is_corrected() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    put(&store, job("a", 0)).await;
    running(&store, "b", 0).await;
    let counts = store.stats().await.expect("read");
    drop(store);
    let conn = rusqlite::Connection::open(&path).expect("opens");
    conn.execute_batch("UPDATE task SET queued = 70, scheduled = 3, unfinished = 9").expect("meddled");
    drop(conn);
    let store = SqliteStore::open(&path).expect("the same store");
    assert_eq!(store.stats().await.expect("read"), counts);
}

#[tokio::test]
async fn the_file_is_set_up_as_promised() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    put(&store, job("a", 0)).await;
    let conn = rusqlite::Connection::open(&path).expect("opens");
    let number = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).expect(name);
    assert_eq!(number("application_id"), i64::from(u32::from_be_bytes(*b"Proc")));
    assert_eq!(number("user_version"), 4);
    assert_eq!(number("auto_vacuum"), 2, "incremental");
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
    let loose: i64 = conn
        .query_row("SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(loose, 0, "every table is STRICT");
    assert!(rusqlite::version_number() >= 3_051_003, "F44");
}

#[tokio::test]
async fn f05_a_store_that_is_given_away_takes_no_more_writes_and_sees_those_of_the_next() {
    let (_folder, path) = place();
    assert_eq!(SqliteStore::check(&path), Ok([].into()), "no file, no tasks");
    assert!(!path.exists(), "looking makes none");
    let before = Arc::new(SqliteStore::open(&path).expect("a new store"));
    let writes: Vec<_> = (0..50)
        .map(|n| {
            let before = before.clone();
            spawn(async move { before.submit(job("a", n)).await })
        })
        .collect();
    let given = before.clone();
    tokio::task::yield_now().await;
    given.stop_writing();
    let mut kept = 0;
    for write in writes {
        match write.await.expect("no panic") {
            Ok(submitted) => kept += u64::from(submitted == taken()),
            Err(error) => assert_eq!(error, StoreError::Closed),
        }
    }
    assert_eq!(before.submit(job("a", 99)).await, Err(StoreError::Closed));
    assert_eq!(SqliteStore::check(&path).expect("readable").get(&task("a")).map_or(0, |a| a.queued), kept);
    let next = SqliteStore::open(&path).expect("the same store");
    let id = put(&next, job("b", 0)).await;
    assert!(before.get(id).await.expect("read").is_some(), "reads go on");
    assert_eq!(before.stats().await, next.stats().await);
}

//! SQLite fails at its n-th page, or its n-th instruction, for n = 1, 2, 3 … until nothing
//! fails any more: whatever fails, a verb is done or it is not, and what is asked again after
//! a restart is done once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use procession_core::id::ClaimId;
use procession_core::job::{Finished, Lease, NewJob, OutputSummary, StoredPayload};
use procession_core::limits::Limit;
use procession_core::outcome::Outcome;
use procession_core::state::JobState;

use super::job;
use crate::error::StoreError;
use crate::sqlite::writer::Sync;
use crate::sqlite::{SqliteStore, open};
use crate::store::{Applied, Claim, Query, Room, Store, Submitted};

const JOBS: u8 = 3;

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("store.db");
    (folder, path)
}

/// Bodies and output of some pages each.
fn large(id: u8) -> NewJob {
    NewJob { payload: StoredPayload::Inline(Bytes::from(vec![b'x'; 9_000])), ..job(id) }
}

fn end(lease: Lease) -> Finished {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let mut finished = Finished::unseen(lease, Outcome::Exited { code: 0 }, at, "r");
    finished.output = OutputSummary::default();
    finished.output.stdout.tail = Bytes::from(vec![b'y'; 9_000]);
    (finished.output.stdout.total, finished.output.stdout.written) = (9_000, 9_000);
    finished
}

/// Some whole lives, begun anew by whoever does not know how far they came.
async fn lives(store: &SqliteStore) -> Result<(), StoreError> {
    for n in 1..=JOBS {
        let submitted = store.submit(large(n)).await?;
        assert!(matches!(submitted, Submitted::New(_) | Submitted::Replay(_)), "{submitted:?}");
    }
    let tasks =
        BTreeMap::from([(job(1).task, Room { running: Limit::Unlimited, per_lane: Limit::Unlimited })]);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let claim_id = ClaimId([7; 16]);
    store.claim(Claim { node: "n".into(), boot_id: [1; 16], free: 9, tasks, now, claim_id }).await?;
    for (claimed, _) in store.claimed_by("n").await? {
        let applied = store.finish(end(claimed.lease)).await?;
        assert_eq!(applied.applied, Applied::Applied);
    }
    Ok(())
}

/// Every job is whole: as it was before a verb or after it.
async fn check(store: &SqliteStore) {
    for listed in store.list(Query { limit: 99, ..Query::default() }).await.expect("reads go on") {
        let job = store.get(listed.id).await.expect("loads").expect("listed");
        let ended =
            store.attempts(job.id).await.expect("loads").iter().filter(|a| a.outcome.is_some()).count();
        assert_eq!(ended, usize::from(job.state == JobState::Succeeded), "{job:?}");
        assert!(store.payload(job.id).await.expect("loads").is_some());
    }
}

/// What is left to do is done once, also by another process.
async fn complete(store: SqliteStore, path: &Path) {
    check(&store).await;
    drop(store);
    let store = SqliteStore::open(path).expect("it opens");
    check(&store).await;
    lives(&store).await.expect("nothing fails any more");
    let counts = store.stats().await.expect("read")[&job(1).task];
    assert_eq!((counts.finished, counts.queued, counts.running), (u64::from(JOBS), 0, 0));
}

#[tokio::test]
async fn f07_whichever_page_is_the_last_nothing_is_half_done() {
    let mut failed = 0;
    for room in 0.. {
        let (_folder, path) = place();
        let store = SqliteStore::open(&path).expect("a new store");
        let limit = |pages: i64| {
            store.writer.write(Sync::Full, move |tx| {
                Ok(tx
                    .conn
                    .query_row(&format!("PRAGMA max_page_count({pages})"), [], |row| row.get::<_, i64>(0))?)
            })
        };
        let size = std::fs::metadata(&path).expect("there").len().cast_signed() / 4_096;
        limit(size + room).await.expect("set");
        match lives(&store).await {
            Ok(()) => break,
            Err(error) => assert_eq!(error, StoreError::Full, "{room}"),
        }
        failed += 1;
        check(&store).await;
        // Without a restart, as soon as there is room.
        limit(1 << 20).await.expect("set");
        lives(&store).await.expect("there is room again");
        complete(store, &path).await;
    }
    assert!(failed > 5, "{failed}");
}

#[tokio::test]
async fn f01_whichever_instruction_is_cut_short_nothing_is_half_done() {
    let (mut n, mut cut) = (1, 0);
    loop {
        let (_folder, path) = place();
        let mut conn = open::writable(&path).expect("a new store");
        let (steps, armed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, counts) = (steps.clone(), armed.clone());
        // Once in the batch and again when it runs alone; what follows is let through.
        let cuts = move || {
            let step =
                if counts.load(Ordering::Relaxed) { counted.fetch_add(1, Ordering::Relaxed) } else { 0 };
            (n..n + 40).contains(&step)
        };
        conn.progress_handler(1, Some(cuts)).expect("set");
        let store = SqliteStore::with(conn, &path).expect("started");
        armed.store(true, Ordering::Relaxed);
        let outcome = lives(&store).await;
        complete(store, &path).await;
        if steps.load(Ordering::Relaxed) < n {
            break;
        }
        cut += u64::from(outcome.is_err());
        n += 1 + n / 12;
    }
    assert!(cut > 20, "{cut}");
}

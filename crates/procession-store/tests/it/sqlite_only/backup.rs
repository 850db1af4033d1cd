//! F43: a copy of a store that is in use: whole, of one moment, and closed to those who own
//! the original.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_core::id::JobId;
use procession_core::state::JobState;
use procession_store::sqlite::{Exam, backup};
use procession_store::{Applied, SqliteStore, Store, StoreError};

use crate::fixture::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_backup_under_load_has_every_job_that_was_acknowledged_before_it_heavy() {
    let (folder, path) = place();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("a new store"));
    let stop = Arc::new(AtomicBool::new(false));
    let submitters: Vec<_> = (0..8)
        .map(|_| {
            let (store, stop) = (store.clone(), stop.clone());
            spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(store.submit(job("a", 0)).await, Ok(taken()));
                }
            })
        })
        .collect();
    let mut before: Vec<JobId> = Vec::new();
    for n in 0..3 {
        let id = put(&*store, job("b", n)).await;
        before.push(id);
        let copy = folder.path().join(format!("copy-{n}.db"));
        let (from, to) = (path.clone(), copy.clone());
        let copied = blocking(move || backup(&from, &to)).await.expect("copied");
        assert!(copied.unfinished > n as u64);
        let copy = SqliteStore::open(&copy).expect("the copy is a store");
        for id in &before {
            assert_eq!(state(&copy, *id).await, JobState::Queued, "{id} was acknowledged before");
        }
        let counts = copy.stats().await.expect("read");
        let listed = copy.list(everything()).await.expect("listed").len() as u64;
        assert_eq!(counts.values().map(|task| task.queued).sum::<u64>(), listed, "of one moment");
        assert_eq!(copied.unfinished, listed);
    }
    stop.store(true, Ordering::Relaxed);
    for submitter in submitters {
        submitter.await.expect("none failed meanwhile");
    }
}

#[tokio::test]
async fn f43_who_owned_the_original_cannot_write_to_its_copy() {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    let over = running(&store, "a", 0).await;
    store.finish(ok(over, 0)).await.expect("recorded");
    let lease = running(&store, "a", 0).await;
    let queued = put(&store, job("a", 1)).await;
    let copy = folder.path().join("copy.db");
    let copied = backup(&path, &copy).expect("copied");
    assert_eq!((copied.unfinished, copied.running, copied.finished), (2, 1, 1));

    let copy = SqliteStore::open(&copy).expect("the copy is a store");
    // The old server's word counts in the original, and in the copy for nothing.
    assert_eq!(copy.finish(ok(lease, 5)).await, Ok(change(Applied::Stale)));
    assert_eq!(
        copy.started(lease, at(5), procession_core::record::Containment::Cgroup).await,
        Ok(Applied::Stale)
    );
    assert_eq!(copy.release(lease, None).await, Ok(change(Applied::Stale)));
    assert_eq!(state(&copy, lease.job).await, JobState::Running);
    assert_eq!(store.finish(ok(lease, 5)).await, Ok(change(Applied::Applied)));
    // Whoever starts on the copy finds the claim, and that nobody has it.
    let (claimed, _) = copy.claimed_by("n1").await.expect("read").remove(0);
    assert_eq!((claimed.lease.job, claimed.lease.attempt), (lease.job, lease.attempt));
    assert!(claimed.lease.fence.0 > 1 << 32);
    assert_eq!(copy.finish(ok(claimed.lease, 6)).await, Ok(change(Applied::Applied)));
    assert_eq!(copy.finish(ok(lease, 7)).await, Ok(change(Applied::Stale)), "also once it is over");
    // No claim of the original can be taken for one of the copy, nor the other way round.
    let (new, old) = (take(&copy, 1, "a", 8).await.remove(0), take(&store, 1, "a", 8).await.remove(0));
    assert_eq!((new.lease.job, old.lease.job), (queued, queued));
    assert!(new.lease.fence.0 > copied.fence && old.lease.fence.0 < 1 << 32);
    assert_eq!(copy.finish(ok(old.lease, 9)).await, Ok(change(Applied::Stale)));
}

#[tokio::test]
async fn f43_a_backup_changes_nothing_of_the_store_it_is_of() {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    for n in 0..50 {
        put(&store, job("a", n)).await;
    }
    let log = path.with_file_name("store.db-wal");
    let seen = || (fs::read(&path).expect("read"), fs::read(&log).expect("read"));
    let before = seen();
    backup(&path, &folder.path().join("used.db")).expect("copied");
    assert_eq!(seen(), before);
    put(&store, job("a", 51)).await;
    drop(store);
    let before = fs::read(&path).expect("read");
    let copied = backup(&path, &folder.path().join("unused.db")).expect("copied");
    assert_eq!((copied.unfinished, copied.bytes > 0), (51, true));
    assert_eq!(fs::read(&path).expect("read"), before);
    assert_eq!(Exam::open(&folder.path().join("unused.db")).expect("a store").faults(), []);
}

#[tokio::test]
async fn f43_a_backup_that_cannot_be_whole_is_none() {
    let (folder, path) = place();
    let copy = folder.path().join("copy.db");
    assert!(refused(&path, &copy).contains("there is none"));
    drop(SqliteStore::open(&path).expect("a new store"));
    fs::write(&copy, "precious").expect("written");
    assert!(refused(&path, &copy).contains("something is there"));
    assert_eq!(fs::read_to_string(&copy).expect("read"), "precious");
    let whole = fs::read(&path).expect("read");
    fs::write(&path, &whole[..whole.len() / 2]).expect("cut off");
    let other = folder.path().join("other.db");
    assert!(refused(&path, &other).contains("procession doctor"));
    let missing = folder.path().join("missing/copy.db");
    fs::write(&path, &whole).expect("whole again");
    backup(&path, &missing).expect_err("no such folder");
    assert!(!other.exists() && !missing.exists());
    let names: Vec<_> =
        fs::read_dir(folder.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains(".new")), "{names:?}");
}

fn refused(from: &Path, to: &Path) -> String {
    match backup(from, to) {
        Err(StoreError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Beside the runtime's threads, as another process would.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(work()));
    wait.await.expect("no panic")
}

//! F07: a disk without space, as a tmpfs of two MiB.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use procession_core::job::{NewJob, StoredPayload};
use procession_core::state::JobState;
use procession_store::{Applied, Effects, SqliteStore, Store, StoreError, Submitted};
use tempfile::TempDir;

use crate::fixture::*;

/// A file system of its own, unmounted in the end.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().expect("a scratch folder");
        let mounted =
            program("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        program("umount").arg("-l").arg(self.path()).status().expect("umount runs");
    }
}

fn large(n: i64) -> NewJob {
    NewJob { payload: StoredPayload::Inline(Bytes::from(vec![b'x'; 40_000])), ..job("a", n) }
}

#[tokio::test]
async fn f07_a_full_disk_refuses_and_recovers() {
    let Some(disk) = Small::mount() else {
        println!("skipped: mounting a tmpfs needs root");
        return;
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).expect("room for it");
    let store = SqliteStore::open(&disk.path().join("store.db")).expect("a new store");
    let lease = running(&store, "b", 0).await;
    let mut taken = Vec::new();
    let refused = loop {
        let job = large(taken.len() as i64);
        let id = job.id;
        match store.submit(job).await {
            Ok(Submitted::New(_)) => taken.push(id),
            other => break other,
        }
        assert!(taken.len() < 100, "never full");
    };
    assert_eq!(refused, Err(StoreError::Full));
    // Again and again, and never something worse.
    for n in 0..20 {
        let refused = store.submit(large(n)).await;
        assert!(matches!(refused, Ok(Submitted::New(_)) | Err(StoreError::Full)), "{refused:?}");
        if refused.is_ok() {
            taken.push(store.list(everything()).await.expect("reads go on")[0].id);
        }
    }
    let listed = store.list(everything()).await.expect("reads go on");
    assert_eq!(listed.len(), taken.len() + 1, "nothing but what was acknowledged");

    fs::remove_file(&ballast).expect("removed");
    assert_eq!(store.finish(ok(lease, 9)).await, Ok(change(Applied::Applied)));
    assert_eq!(store.submit(large(50)).await, Ok(Submitted::New(Effects::default())));
    assert_eq!(store.probe().await, Ok(()));
    drop(store);
    let store = SqliteStore::open(&disk.path().join("store.db")).expect("the same store");
    assert_eq!(state(&store, lease.job).await, JobState::Succeeded);
    for id in taken {
        assert_eq!(state(&store, id).await, JobState::Queued);
    }
}

//! F09: a disk that fails to keep what it was given, by `strace` failing every fsync from
//! some point on. Nothing is acknowledged after the first failure, and nothing that was
//! acknowledged is lost.

use std::path::{Path, PathBuf};

use procession_core::id::JobId;
use procession_store::{SqliteStore, Store, StoreError, Submitted};

use crate::fixture::*;

const PLACE: &str = "PROCESSION_STORE_ON_A_BAD_DISK";

/// The child of the next test. Does nothing when run by itself.
#[tokio::test]
async fn child_on_a_bad_disk() {
    let Some(path) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let store = SqliteStore::open(&path).expect("opens");
    for n in 0..60 {
        let job = job("a", n);
        let id = job.id;
        match store.submit(job).await {
            Ok(Submitted::New(_)) => println!("\ntaken {id}"),
            Err(StoreError::Disk(_)) => println!("\nrefused {id}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(store.probe().await, Err(StoreError::Disk(_))));
    println!("\nreads {}", store.list(everything()).await.expect("reads go on").len());
}

fn run_with_failing_fsyncs(path: &Path, from: usize) -> Option<String> {
    let child = program("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"])
        .arg(format!("inject=fsync,fdatasync:error=EIO:when={from}+"))
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "sqlite_only::fsync::child_on_a_bad_disk", "--nocapture"])
        .env(PLACE, path)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    child.status.success().then_some(text)
}

#[tokio::test]
async fn f09_nothing_is_acknowledged_after_a_failed_fsync() {
    for from in [5, 9, 20] {
        let (_folder, path) = place();
        drop(SqliteStore::open(&path).expect("a new store"));
        let Some(text) = run_with_failing_fsyncs(&path, from) else {
            println!("skipped: strace cannot be used here");
            return;
        };
        let said = |what: &str| -> Vec<JobId> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(what)?.trim().parse().ok());
            lines.collect()
        };
        let (taken, refused) = (said("taken"), said("refused"));
        assert_eq!(taken.len() + refused.len(), 60);
        assert!(!taken.is_empty() && !refused.is_empty(), "from {from}: {} taken", taken.len());
        assert!(text.rfind("taken") < text.find("refused"), "no answer is good after the first bad one");
        let store = SqliteStore::open(&path).expect("recovers");
        for id in taken {
            assert!(store.get(id).await.expect("read").is_some(), "{id} was acknowledged");
        }
        put(&store, job("a", 99)).await;
    }
}

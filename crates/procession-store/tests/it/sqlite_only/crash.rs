//! What was acknowledged survives the death of the process at any moment.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use procession_core::id::JobId;
use procession_core::job::NewJob;
use procession_core::state::JobState;
use procession_store::{SqliteStore, Store};

use crate::fixture::*;

const PLACE: &str = "PROCESSION_STORE_TO_CRASH";

/// The child of the next test: submits, claims and finishes without end and prints what
/// was acknowledged. Does nothing when run by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("opens"));
    for _ in 0..6 {
        let store = Arc::clone(&store);
        spawn(async move {
            loop {
                println!("\nqueued {}", put(&*store, NewJob { id: random(), ..job("a", 0) }).await);
            }
        });
    }
    loop {
        for claimed in take(&*store, 3, "a", 1).await {
            store.finish(ok(claimed.lease, 1)).await.expect("recorded");
            println!("\nfinished {}", claimed.lease.job);
        }
    }
}

/// Ids of two children must differ.
fn random() -> JobId {
    let bytes = std::collections::hash_map::RandomState::new();
    let word = std::hash::BuildHasher::hash_one(&bytes, std::process::id()).to_be_bytes();
    let mut random = *id(0).as_bytes();
    random[8..].copy_from_slice(&word);
    JobId::from_bytes(random)
}

#[tokio::test]
async fn every_acknowledged_write_survives_a_kill() {
    let (_folder, path) = place();
    let (mut queued, mut finished) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let mut child = program(std::env::current_exe().expect("this program"))
            .args(["--exact", "sqlite_only::crash::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(PLACE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            // The last line may be torn by the kill.
            match line.split_once(' ').map(|(what, id)| (what, id.parse::<JobId>())) {
                Some(("queued", Ok(id))) => queued.push(id),
                Some(("finished", Ok(id))) => finished.push(id),
                _ => continue,
            }
            seen += 1;
            if seen == 150 + round * 37 {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("reaped");
        assert!(seen >= 150, "round {round} wrote {seen}");

        let store = SqliteStore::open(&path).expect("opens after the kill");
        for id in &queued {
            assert!(store.get(*id).await.expect("read").is_some(), "{id} was acknowledged");
        }
        for id in &finished {
            assert_eq!(state(&store, *id).await, JobState::Succeeded);
        }
        // What the dead process held is known, and can be taken back.
        for (claimed, boot) in store.claimed_by("n1").await.expect("read") {
            assert_eq!(boot, BOOT);
            store.release(claimed.lease, None).await.expect("released");
        }
    }
    assert!(finished.len() > 10, "{} finished", finished.len());
}

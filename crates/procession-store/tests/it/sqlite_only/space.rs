//! What deleted jobs leave free goes back to the file system when nothing else is to do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use procession_core::job::{NewJob, StoredPayload};
use procession_core::outcome::CancelledBy;
use procession_store::{SqliteStore, Store};

use crate::fixture::*;

#[tokio::test]
async fn a_pruned_store_becomes_smaller() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    for n in 0..400 {
        let payload = StoredPayload::Inline(Bytes::from(vec![b'x'; 60_000]));
        let id = put(&store, NewJob { payload, ..job("a", n) }).await;
        store.cancel(id, CancelledBy::Client, at(n)).await.expect("cancelled");
    }
    let size = || std::fs::metadata(&path).expect("there").len();
    let log = std::fs::metadata(path.with_file_name("store.db-wal")).expect("there").len();
    assert!(log < 24 << 20, "the log is copied while it grows, and has {log} bytes");
    assert_eq!(store.prune(at(1_000), 1_000).await.expect("pruned").len(), 400);
    let begun = Instant::now();
    while size() > 16 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(20), "still {} bytes", size());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

//! Removing what is over.

use std::sync::Arc;

use procession_core::job::NewJob;
use procession_core::outcome::CancelledBy;
use procession_store::{Deleted, Query, Store};

use crate::fixture::*;

pub(crate) async fn only_what_is_over_is_deleted(store: &Arc<dyn Store>) {
    let queued = put(&**store, job("b", 0)).await;
    let lease = running(&**store, "a", 0).await;
    assert_eq!(store.delete(queued).await, Ok(Deleted::Unfinished));
    assert_eq!(store.delete(lease.job).await, Ok(Deleted::Unfinished));
    assert_eq!(store.delete(id(0)).await, Ok(Deleted::Unknown));
    store.finish(ok(lease, 1)).await.expect("recorded");
    assert_eq!(store.delete(lease.job).await, Ok(Deleted::Deleted(vec![lease.job])));
    assert_eq!(store.delete(lease.job).await, Ok(Deleted::Unknown));
    assert_eq!(store.get(lease.job).await, Ok(None));
    assert_eq!(page(&**store, everything()).await, [queued]);
    // Totals are of all there ever was.
    assert_eq!(store.stats().await.expect("read")[&task("a")].finished, 1);
}

pub(crate) async fn prune_takes_the_oldest_ends_first(store: &Arc<dyn Store>) {
    let mut ended = Vec::new();
    for n in 0..10 {
        let id = put(&**store, job("a", n)).await;
        // Later jobs end earlier.
        store.cancel(id, CancelledBy::Client, at(100 - n)).await.expect("cancelled");
        ended.push(id);
    }
    ended.reverse();
    let waits = put(&**store, job("a", 0)).await;
    assert_eq!(store.prune(at(91), 100).await, Ok(vec![]));
    assert_eq!(store.prune(at(95), 3).await.expect("pruned"), ended[..3]);
    assert_eq!(store.prune(at(95), 3).await.expect("pruned"), ended[3..4]);
    assert_eq!(store.prune(at(95), 3).await, Ok(vec![]));
    assert_eq!(store.prune(at(500), 100).await.expect("pruned"), ended[4..]);
    assert_eq!(page(&**store, everything()).await, [waits]);
}

pub(crate) async fn labels_and_attempts_go_with_their_job(store: &Arc<dyn Store>) {
    let labelled =
        || NewJob { labels: labels(&[("x", "1"), ("y", "2")]), idempotency: key("k", 1), ..job("a", 0) };
    let first = labelled();
    let id = put(&**store, first.clone()).await;
    let lease = take(&**store, 1, "a", 0).await[0].lease;
    store.finish(ok(lease, 1)).await.expect("recorded");
    assert_eq!(store.prune(at(50), 10).await, Ok(vec![id]));
    let x = Query { labels: labels(&[("x", "1")]), ..everything() };
    assert_eq!(page(&**store, x.clone()).await, []);
    assert_eq!(store.attempts(id).await, Ok(vec![]));
    assert_eq!(store.payload(id).await, Ok(None));
    assert_eq!(store.ids_ending(&id.to_string()[24..], 5).await, Ok(vec![]));
    // Even the same id leaves no trace.
    put(&**store, first).await;
    assert_eq!(page(&**store, x).await, [id]);
}

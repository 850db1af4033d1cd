//! A request that is repeated makes no second job.

use std::sync::Arc;

use procession_core::job::{Idempotency, NewJob};
use procession_core::limits::Limit;
use procession_core::outcome::CancelledBy;
use procession_store::{Deleted, Store, Submitted};

use crate::fixture::*;

fn keyed(name: &str, text: &str, body: u8) -> NewJob {
    NewJob { idempotency: key(text, body), ..job(name, 0) }
}

pub(crate) async fn the_same_key_and_body_is_the_same_job(store: &Arc<dyn Store>) {
    let first = put(&**store, keyed("a", "k", 1)).await;
    assert_eq!(store.submit(keyed("a", "k", 1)).await, Ok(Submitted::Replay(first)));
    let lease = take(&**store, 1, "a", 1).await[0].lease;
    assert_eq!(store.submit(keyed("a", "k", 1)).await, Ok(Submitted::Replay(first)));
    store.finish(ok(lease, 1)).await.expect("recorded");
    assert_eq!(store.submit(keyed("a", "k", 1)).await, Ok(Submitted::Replay(first)));
    assert_eq!(page(&**store, everything()).await, [first]);
}

pub(crate) async fn another_body_is_a_conflict(store: &Arc<dyn Store>) {
    let first = put(&**store, keyed("a", "k", 1)).await;
    assert_eq!(store.submit(keyed("a", "k", 2)).await, Ok(Submitted::Conflict(first)));
    assert_eq!(page(&**store, everything()).await, [first]);
}

pub(crate) async fn keys_of_other_principals_and_tasks_are_others(store: &Arc<dyn Store>) {
    put(&**store, keyed("a", "k", 1)).await;
    put(&**store, keyed("b", "k", 2)).await;
    put(&**store, keyed("a", "K", 3)).await;
    put(&**store, keyed("a", "", 4)).await;
    let other = Idempotency { principal: "token:b".into(), key: "k".into(), body_hash: [5; 32] };
    put(&**store, NewJob { idempotency: Some(Box::new(other)), ..job("a", 0) }).await;
}

pub(crate) async fn a_replay_is_answered_though_the_queue_is_full(store: &Arc<dyn Store>) {
    let one = Some(admission(Limit::AtMost(1), 0));
    let first = put(&**store, NewJob { admission: one, ..keyed("a", "k", 1) }).await;
    let again = NewJob { admission: one, ..keyed("a", "k", 1) };
    assert_eq!(store.submit(again).await, Ok(Submitted::Replay(first)));
    let conflict = NewJob { admission: one, ..keyed("a", "k", 2) };
    assert_eq!(store.submit(conflict).await, Ok(Submitted::Conflict(first)));
}

pub(crate) async fn one_key_fifty_times_at_once_is_one_job(store: &Arc<dyn Store>) {
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(store);
            spawn(async move { store.submit(keyed("a", "k", 1)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.expect("no panic").expect("no error"));
    }
    let jobs = page(&**store, everything()).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == taken()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Submitted::Replay(jobs[0])).count(), 49);
}

pub(crate) async fn a_key_is_free_again_with_its_job(store: &Arc<dyn Store>) {
    let first = put(&**store, keyed("a", "k", 1)).await;
    store.cancel(first, CancelledBy::Client, at(1)).await.expect("cancelled");
    assert_eq!(store.submit(keyed("a", "k", 1)).await, Ok(Submitted::Replay(first)));
    assert_eq!(store.delete(first).await, Ok(Deleted::Deleted(vec![first])));
    put(&**store, keyed("a", "k", 2)).await;
}

pub(crate) async fn the_very_same_job_again_is_a_replay(store: &Arc<dyn Store>) {
    let one = Some(admission(Limit::AtMost(1), 1));
    let first = NewJob { admission: one, ..job("a", 0) };
    let second = NewJob { admission: one, labels: labels(&[("x", "y")]), ..job("a", 0) };
    for again in [&first, &second] {
        put(&**store, again.clone()).await;
        assert_eq!(store.submit(again.clone()).await, Ok(Submitted::Replay(again.id)));
    }
    assert_eq!(store.submit(first.clone()).await, Ok(Submitted::Replay(first.id)));
    assert_eq!(store.stats().await.expect("read")[&task("a")].queued, 2);
}

//! Whether one more job is taken, decided in the transaction that would take it.

use std::sync::Arc;

use procession_core::admission::Full;
use procession_core::job::{Admission, NewJob};
use procession_core::limits::Limit;
use procession_core::outcome::CancelledBy;
use procession_store::{Store, Submitted};

use crate::fixture::*;

fn bounded(name: &str, max_running: Limit, max_queued: u64, n: i64) -> NewJob {
    NewJob { admission: Some(admission(max_running, max_queued)), ..job(name, n) }
}

/// On a node with so many slots.
fn on_node(node_slots: u64, job: NewJob) -> NewJob {
    NewJob { admission: job.admission.map(|admission| Admission { node_slots, ..admission }), ..job }
}

pub(crate) async fn the_last_place_is_given_once_to_fifty_at_a_time(store: &Arc<dyn Store>) {
    for (name, max_queued, places) in [("a", 0, 2), ("b", 5, 7)] {
        let asked: Vec<_> = (0..50)
            .map(|_| {
                let store = Arc::clone(store);
                spawn(async move { store.submit(bounded(name, Limit::AtMost(2), max_queued, 0)).await })
            })
            .collect();
        let mut taken = 0;
        for answer in asked {
            match answer.await.expect("no panic").expect("no error") {
                Submitted::New(_) => taken += 1,
                Submitted::Busy(Full::Task) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken, places, "{name}");
    }
}

pub(crate) async fn without_a_waiting_room_a_slot_that_others_wait_for_is_not_free(store: &Arc<dyn Store>) {
    let small = |name, n| on_node(2, bounded(name, Limit::AtMost(5), 0, n));
    assert_eq!(store.submit(small("a", 0)).await, Ok(taken()));
    assert_eq!(store.submit(small("b", 0)).await, Ok(taken()));
    assert_eq!(store.submit(small("a", 0)).await, Ok(Submitted::Busy(Full::Node)));
    let tasks = [("a", Limit::AtMost(5)), ("b", Limit::AtMost(5))];
    let jobs = store.claim(ask(2, &tasks, 1)).await.expect("claims").jobs;
    assert_eq!(jobs.len(), 2);
    assert_eq!(store.submit(small("a", 2)).await, Ok(Submitted::Busy(Full::Node)));
    store.finish(ok(jobs[0].lease, 2)).await.expect("recorded");
    assert_eq!(store.submit(small("a", 3)).await, Ok(taken()));
    assert_eq!(store.submit(small("b", 3)).await, Ok(Submitted::Busy(Full::Node)));
}

pub(crate) async fn queues_that_could_not_run_take_no_slot_from_others(store: &Arc<dyn Store>) {
    let tasks = [("full", Limit::AtMost(1)), ("stopped", Limit::Unlimited), ("x", Limit::AtMost(9))];
    for _ in 0..20 {
        put(&**store, bounded("full", Limit::AtMost(1), 100, 0)).await;
        put(&**store, bounded("stopped", Limit::Unlimited, 100, 0)).await;
        put(&**store, bounded("gone", Limit::Unlimited, 100, 0)).await;
    }
    assert_eq!(store.pause(&task("stopped"), true).await, Ok(true));
    assert_eq!(store.claim(ask(3, &tasks, 1)).await.expect("claims").jobs.len(), 1);
    // `full` has its one slot, `stopped` is paused, nobody serves `gone`: three are free.
    let x = |n| on_node(4, bounded("x", Limit::AtMost(9), 0, n));
    for _ in 0..3 {
        assert_eq!(store.submit(x(2)).await, Ok(taken()));
    }
    assert_eq!(store.submit(x(2)).await, Ok(Submitted::Busy(Full::Node)));
}

pub(crate) async fn what_waits_for_its_time_counts_and_what_is_over_does_not(store: &Arc<dyn Store>) {
    let two = |n| bounded("a", Limit::AtMost(1), 1, n);
    let first = put(&**store, NewJob { run_at: Some(at(100)), ..two(0) }).await;
    let lease = {
        put(&**store, two(0)).await;
        take(&**store, 1, "a", 1).await[0].lease
    };
    assert_eq!(store.submit(two(1)).await, Ok(Submitted::Busy(Full::Task)));
    store.release(lease, Some(at(50))).await.expect("deferred");
    assert_eq!(store.submit(two(2)).await, Ok(Submitted::Busy(Full::Task)));
    store.cancel(first, CancelledBy::Client, at(3)).await.expect("cancelled");
    put(&**store, two(3)).await;
    assert_eq!(store.submit(two(3)).await, Ok(Submitted::Busy(Full::Task)));
    let lease = take(&**store, 1, "a", 4).await[0].lease;
    store.finish(ok(lease, 4)).await.expect("recorded");
    put(&**store, two(5)).await;
}

pub(crate) async fn a_task_nobody_named_is_made(store: &Arc<dyn Store>) {
    put(&**store, job("unnamed", 0)).await;
    assert_eq!(store.stats().await.expect("read")[&task("unnamed")].queued, 1);
    assert_eq!(store.pause(&task("unknown"), true).await, Ok(false));
}

//! Jobs that waited too long.

use std::sync::Arc;

use procession_core::id::JobId;
use procession_core::job::NewJob;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{Effects, Store};

use crate::fixture::*;

/// These ended, and nothing else happened.
fn over(moved: Vec<JobId>) -> Effects {
    Effects { moved, ..Effects::default() }
}

pub(crate) async fn what_waited_too_long_ends(store: &Arc<dyn Store>) {
    let until = |n, seconds| NewJob { expires_at: Some(at(seconds)), ..job("a", n) };
    let runs = put(&**store, until(0, 1)).await;
    let lease = take(&**store, 1, "a", 0).await[0].lease;
    let second = put(&**store, until(0, 4)).await;
    let first = put(&**store, NewJob { run_at: Some(at(100)), ..until(0, 3) }).await;
    let later = put(&**store, until(0, 5)).await;
    put(&**store, job("a", 0)).await;
    assert_eq!(store.expire(at(2)).await, Ok(over(vec![])));
    assert_eq!(store.expire(at(4)).await, Ok(over(vec![first, second])));
    for id in [first, second] {
        let job = store.get(id).await.expect("read").expect("there");
        let outcome = Outcome::cancelled(CancelledBy::Expired);
        assert_eq!((job.state, job.outcome), (JobState::Cancelled, Some(outcome)));
        assert_eq!((job.cancel_requested_at, job.finished_at, job.attempt), (None, Some(at(4)), 0));
    }
    assert_eq!(state(&**store, runs).await, JobState::Running);
    assert_eq!(state(&**store, later).await, JobState::Queued);
    // Back in the queue it is overdue.
    store.release(lease, None).await.expect("released");
    assert_eq!(store.expire(at(4)).await, Ok(over(vec![runs])));
}

pub(crate) async fn at_most_a_thousand_at_once(store: &Arc<dyn Store>) {
    let mut all = Vec::new();
    for n in 0..1_100 {
        let job = NewJob { expires_at: Some(at(5_000 - n)), ..job("a", 0) };
        all.push(job.id);
        store.submit(job).await.expect("taken");
    }
    all.reverse();
    assert_eq!(store.expire(at(9_000)).await.expect("expired"), over(all[..1_000].to_vec()));
    assert_eq!(store.expire(at(9_000)).await.expect("expired"), over(all[1_000..].to_vec()));
    assert_eq!(store.expire(at(9_000)).await, Ok(over(vec![])));
}

pub(crate) async fn next_due_is_the_earliest_of_starts_and_expiries(store: &Arc<dyn Store>) {
    assert_eq!(store.next_due().await, Ok(None));
    put(&**store, job("a", 0)).await;
    assert_eq!(store.next_due().await, Ok(None));
    put(&**store, NewJob { run_at: Some(at(30)), ..job("a", 0) }).await;
    assert_eq!(store.next_due().await, Ok(Some(at(30))));
    let expires = put(&**store, NewJob { expires_at: Some(at(20)), ..job("b", 0) }).await;
    assert_eq!(store.next_due().await, Ok(Some(at(20))));
    assert_eq!(take(&**store, 1, "b", 1).await[0].lease.job, expires);
    assert_eq!(store.next_due().await, Ok(Some(at(30))), "what runs does not expire");
}

//! Ending jobs on request.

use std::sync::Arc;

use procession_core::job::Lease;
use procession_core::job::NewJob;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{Applied, Cancelled, Effects, Store};

use crate::fixture::*;

/// It runs, and is to be stopped for a client.
fn asked(lease: Lease) -> Cancelled {
    Cancelled::Asked(Effects { stops: vec![(lease, CancelledBy::Client)], ..Effects::default() })
}

pub(crate) async fn what_waits_is_over_at_once(store: &Arc<dyn Store>) {
    let queued = put(&**store, job("a", 0)).await;
    let scheduled = put(&**store, NewJob { run_at: Some(at(50)), ..job("a", 0) }).await;
    for (id, by) in [(queued, CancelledBy::Client), (scheduled, CancelledBy::TaskRemoved)] {
        assert_eq!(store.cancel(id, by, at(3)).await, Ok(Cancelled::Ended(Effects::default())));
        assert_eq!(store.cancel(id, CancelledBy::Parent, at(4)).await, Ok(Cancelled::AlreadyOver));
        let job = store.get(id).await.expect("read").expect("there");
        assert_eq!((job.state, job.outcome), (JobState::Cancelled, Some(Outcome::cancelled(by))));
        assert_eq!((job.attempt, job.started_at, job.finished_at), (0, None, Some(at(3))));
        assert_eq!((job.cancel_requested_at, job.output), (Some(at(3)), None));
        assert_eq!(store.attempts(id).await, Ok(vec![]));
    }
    assert_eq!(take(&**store, 5, "a", 60).await, []);
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.queued, counts.finished, counts.failed), (0, 2, 2));
}

pub(crate) async fn what_runs_is_marked_once(store: &Arc<dyn Store>) {
    let lease = running(&**store, "a", 0).await;
    for (by, n) in [(CancelledBy::Client, 1), (CancelledBy::Shutdown, 2)] {
        assert_eq!(store.cancel(lease.job, by, at(n)).await, Ok(asked(lease)));
    }
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.cancel_requested_at), (JobState::Running, Some(at(1))));
    // It ended by itself before it was told.
    assert_eq!(store.finish(ok(lease, 2)).await, Ok(change(Applied::Applied)));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.cancel_requested_at), (JobState::Succeeded, Some(at(1))));
}

pub(crate) async fn a_cancelled_job_that_never_started_does_not_come_back(store: &Arc<dyn Store>) {
    for not_before in [None, Some(at(9))] {
        let lease = running(&**store, "a", 0).await;
        store.cancel(lease.job, CancelledBy::Replaced, at(1)).await.expect("marked");
        assert_eq!(store.release(lease, not_before).await, Ok(change(Applied::Applied)));
        let job = store.get(lease.job).await.expect("read").expect("there");
        let outcome = Outcome::cancelled(CancelledBy::Replaced);
        assert_eq!((job.state, job.outcome, job.attempt), (JobState::Cancelled, Some(outcome), 0));
        assert_eq!((job.cancel_requested_at, job.started_at), (Some(at(1)), None));
        assert_eq!(store.attempts(lease.job).await, Ok(vec![]));
        assert_eq!(take(&**store, 1, "a", 20).await, []);
    }
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.running, counts.queued, counts.finished), (0, 0, 2));
}

pub(crate) async fn f34_a_cancel_and_an_exit_at_once_leave_one_end(store: &Arc<dyn Store>) {
    for n in 0..30 {
        let lease = running(&**store, "a", n).await;
        let (one, two) = (Arc::clone(store), Arc::clone(store));
        let finish = spawn(async move { one.finish(ok(lease, n)).await });
        let cancel = spawn(async move { two.cancel(lease.job, CancelledBy::Client, at(n)).await });
        assert_eq!(finish.await.expect("no panic"), Ok(change(Applied::Applied)));
        let cancelled = cancel.await.expect("no panic").expect("no error");
        assert!(cancelled == asked(lease) || cancelled == Cancelled::AlreadyOver, "{cancelled:?}");
        assert_eq!(state(&**store, lease.job).await, JobState::Succeeded);
    }
    for n in 30..60 {
        let id = put(&**store, job("a", n)).await;
        let (one, two) = (Arc::clone(store), Arc::clone(store));
        let claim = spawn(async move { take(&*one, 1, "a", n).await });
        let cancel = spawn(async move { two.cancel(id, CancelledBy::Client, at(n)).await });
        let jobs = claim.await.expect("no panic");
        match cancel.await.expect("no panic").expect("no error") {
            Cancelled::Ended(_) => assert_eq!(jobs, []),
            asked_of @ Cancelled::Asked(_) => {
                let lease = jobs[0].lease;
                assert_eq!(asked_of, asked(lease));
                store
                    .finish(ended(lease, Outcome::cancelled(CancelledBy::Client), n))
                    .await
                    .expect("recorded");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(state(&**store, id).await, JobState::Cancelled);
    }
}

pub(crate) async fn what_is_unknown_or_over_is_said(store: &Arc<dyn Store>) {
    assert_eq!(store.cancel(id(0), CancelledBy::Client, at(0)).await, Ok(Cancelled::Unknown));
    let lease = running(&**store, "a", 0).await;
    store.finish(ok(lease, 1)).await.expect("recorded");
    assert_eq!(store.cancel(lease.job, CancelledBy::Client, at(5)).await, Ok(Cancelled::AlreadyOver));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!(job.cancel_requested_at, None);
}

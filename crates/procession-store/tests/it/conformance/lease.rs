//! What a lease allows, and what happens to those that are not the job's any more.

use std::sync::Arc;

use procession_core::id::{ClaimId, Fence};
use procession_core::job::Lease;
use procession_core::outcome::Outcome;
use procession_core::record::Containment;
use procession_core::state::JobState;
use procession_store::{Applied, Store};

use crate::fixture::*;

pub(crate) async fn a_stale_lease_changes_nothing(store: &Arc<dyn Store>) {
    let lease = running(&**store, "a", 0).await;
    let wrong = [
        Lease { fence: Fence(lease.fence.0 + 1), ..lease },
        Lease { claim_id: ClaimId([1; 16]), ..lease },
        Lease { job: id(0), ..lease },
    ];
    let before = store.get(lease.job).await;
    for lease in wrong {
        assert_eq!(store.started(lease, at(1), Containment::Cgroup).await, Ok(Applied::Stale));
        assert_eq!(store.finish(ok(lease, 1)).await, Ok(change(Applied::Stale)));
        assert_eq!(store.release(lease, None).await, Ok(change(Applied::Stale)));
    }
    assert_eq!(store.get(lease.job).await, before);

    store.release(lease, None).await.expect("released");
    let next = take(&**store, 1, "a", 2).await[0].lease;
    assert_eq!((next.job, next.attempt), (lease.job, lease.attempt));
    assert!(next.fence > lease.fence);
    assert_eq!(store.started(lease, at(3), Containment::Cgroup).await, Ok(Applied::Stale));
    assert_eq!(store.finish(ok(lease, 3)).await, Ok(change(Applied::Stale)));
    assert_eq!(store.release(lease, None).await, Ok(change(Applied::Stale)));
    assert_eq!(store.finish(ok(next, 3)).await, Ok(change(Applied::Applied)));
    assert_eq!(store.finish(ok(lease, 4)).await, Ok(change(Applied::Stale)));
}

pub(crate) async fn repeating_is_seen(store: &Arc<dyn Store>) {
    let lease = running(&**store, "a", 0).await;
    assert_eq!(store.started(lease, at(1), Containment::Cgroup).await, Ok(Applied::Applied));
    assert_eq!(store.started(lease, at(2), Containment::Cgroup).await, Ok(Applied::Already));
    assert_eq!(store.finish(ok(lease, 3)).await, Ok(change(Applied::Applied)));
    let over = store.get(lease.job).await;
    assert_eq!(store.finish(ok(lease, 4)).await, Ok(change(Applied::Already)));
    let other = ended(lease, Outcome::Exited { code: 9 }, 4);
    assert_eq!(store.finish(other).await, Ok(change(Applied::Already)));
    assert_eq!(store.started(lease, at(5), Containment::Cgroup).await, Ok(Applied::Stale));
    assert_eq!(store.release(lease, None).await, Ok(change(Applied::Stale)));
    assert_eq!(store.get(lease.job).await, over);
    assert_eq!(store.stats().await.expect("read")[&task("a")].finished, 1);

    let lease = running(&**store, "a", 6).await;
    assert_eq!(store.release(lease, Some(at(9))).await, Ok(change(Applied::Applied)));
    assert_eq!(store.release(lease, Some(at(19))).await, Ok(change(Applied::Already)));
    assert_eq!(store.finish(ok(lease, 7)).await, Ok(change(Applied::Stale)));
    let waits = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((waits.state, waits.run_at), (JobState::Scheduled, Some(at(9))));
}

pub(crate) async fn a_release_gives_the_attempt_back(store: &Arc<dyn Store>) {
    let first = running(&**store, "a", 0).await;
    let second = put(&**store, job("a", 1)).await;
    assert_eq!(store.release(first, None).await, Ok(change(Applied::Applied)));
    let job = store.get(first.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.attempt, job.node), (JobState::Queued, 0, None));
    assert_eq!(store.attempts(first.job).await, Ok(vec![]));
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.running, counts.queued, counts.finished), (0, 2, 0));
    // It kept its place in the queue.
    let jobs = take(&**store, 2, "a", 2).await;
    assert_eq!((jobs[0].lease.job, jobs[1].lease.job), (first.job, second));
    assert_eq!((jobs[0].lease.attempt.0, jobs[0].deferred), (1, 0));
}

pub(crate) async fn a_deferral_waits_and_is_counted(store: &Arc<dyn Store>) {
    let mut lease = running(&**store, "a", 0).await;
    for n in 1..4 {
        assert_eq!(store.release(lease, Some(at(n * 10))).await, Ok(change(Applied::Applied)));
        let job = store.get(lease.job).await.expect("read").expect("there");
        assert_eq!((job.state, job.attempt, job.run_at), (JobState::Scheduled, 0, Some(at(n * 10))));
        assert_eq!(store.next_due().await, Ok(Some(at(n * 10))));
        assert_eq!(take(&**store, 1, "a", n * 10 - 1).await, []);
        let jobs = take(&**store, 1, "a", n * 10).await;
        assert_eq!((jobs[0].lease.attempt.0, jobs[0].deferred), (1, n as u32));
        lease = jobs[0].lease;
    }
    assert_eq!(store.finish(ok(lease, 50)).await, Ok(change(Applied::Applied)));
    assert_eq!(store.attempts(lease.job).await.expect("read").len(), 1);
}

pub(crate) async fn a_start_ends_the_row_of_deferrals(store: &Arc<dyn Store>) {
    let lease = running(&**store, "a", 0).await;
    store.release(lease, Some(at(1))).await.expect("deferred");
    let lease = take(&**store, 1, "a", 2).await[0].lease;
    store.started(lease, at(2), Containment::Cgroup).await.expect("noted");
    assert_eq!(store.claimed_by("n1").await.expect("read")[0].0.deferred, 0);
}

pub(crate) async fn a_finish_and_a_release_at_once_leave_one_of_them(store: &Arc<dyn Store>) {
    for n in 0..30 {
        let lease = running(&**store, "a", n).await;
        let (one, two) = (Arc::clone(store), Arc::clone(store));
        let finish = spawn(async move { one.finish(ok(lease, n)).await });
        let release = spawn(async move { two.release(lease, None).await });
        let finish = finish.await.expect("no panic").expect("no error");
        let release = release.await.expect("no panic").expect("no error");
        match (finish.applied, release.applied) {
            (Applied::Applied, Applied::Stale) => {
                assert_eq!(state(&**store, lease.job).await, JobState::Succeeded);
            }
            (Applied::Stale, Applied::Applied) => {
                let again = take(&**store, 1, "a", n).await[0].lease;
                assert_eq!(store.finish(ok(again, n)).await, Ok(change(Applied::Applied)));
            }
            other => panic!("{other:?}"),
        }
    }
}

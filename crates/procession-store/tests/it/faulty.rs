//! The n-th call of the contract fails, for n = 1, 2, 3 … until none does: before it is done,
//! or after, with its answer lost. Whoever begins again from what the store says completes
//! every life once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use procession_core::condition::Condition;
use procession_core::delivery::Next;
use procession_core::job::{Claimed, FollowUp, NewJob, What};
use procession_core::limits::Limit;
use procession_core::outbox::{DeliveryState, Tried};
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::record::Containment;
use procession_core::state::JobState;
use procession_store::testing::{FaultyStore, Verb, When};
use procession_store::{
    Applied, Cancelled, Deleted, DeliveryQuery, Due, Effects, Store, StoreError, Submitted,
};

use crate::fixture::*;

/// What a job goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Queued, started, over.
    Plain,
    /// Put off once for want of processes.
    Deferred,
    /// Ended by a client while it runs.
    Cancelled,
    /// Ended by a client before it runs.
    CancelledEarly,
    /// Over and removed.
    Removed,
    /// Over, and followed by another job and a callback.
    Followed,
}

const LIVES: [Life; 6] =
    [Life::Plain, Life::Deferred, Life::Cancelled, Life::CancelledEarly, Life::Removed, Life::Followed];

/// The slot the job holds, given now or before.
async fn slot(store: &dyn Store, now: i64) -> Result<Option<Claimed>, StoreError> {
    if let Some((claimed, _)) = store.claimed_by("n1").await?.pop() {
        return Ok(Some(claimed));
    }
    let batch = store.claim(ask(1, &[("a", Limit::Unlimited)], now)).await?;
    Ok(batch.jobs.into_iter().next())
}

/// Takes a job from wherever it stands to the end of its life.
async fn live(store: &dyn Store, job: &NewJob, life: Life) -> Result<(), StoreError> {
    store.put_tasks(vec![task("a")]).await?;
    let id = job.id;
    if store.get(id).await?.is_none_or(|job| !job.state.is_final()) {
        let submitted = store.submit(job.clone()).await?;
        assert!(submitted == taken() || submitted == Submitted::Replay(id), "{submitted:?}");
    }
    if life == Life::CancelledEarly {
        let met = store.cancel(id, CancelledBy::Client, at(1)).await?;
        assert!(matches!(met, Cancelled::Ended(_) | Cancelled::AlreadyOver), "{met:?}");
        return Ok(());
    }
    while let Some(claimed) = slot(store, 10).await? {
        if life == Life::Deferred && claimed.deferred == 0 {
            let released = store.release(claimed.lease, Some(at(5))).await?;
            assert_ne!(released.applied, Applied::Stale);
            continue;
        }
        assert_ne!(store.started(claimed.lease, at(11), Containment::Cgroup).await?, Applied::Stale);
        let mut outcome = Outcome::Exited { code: 0 };
        if life == Life::Cancelled {
            let met = store.cancel(id, CancelledBy::Client, at(12)).await?;
            let stops = vec![(claimed.lease, CancelledBy::Client)];
            assert_eq!(met, Cancelled::Asked(Effects { stops, ..Effects::default() }));
            outcome = Outcome::cancelled(CancelledBy::Client);
        }
        assert_ne!(store.finish(ended(claimed.lease, outcome, 11)).await?.applied, Applied::Stale);
    }
    if life == Life::Removed {
        let met = store.delete(id).await?;
        assert!(matches!(met, Deleted::Deleted(_) | Deleted::Unknown), "{met:?}");
    }
    if life == Life::Followed {
        deliver(store).await?;
    }
    Ok(())
}

/// Does all that is to follow, as a server would.
async fn deliver(store: &dyn Store) -> Result<(), StoreError> {
    let ask = Due { now: at(20), after: None, per_host: 4, hosts: 4 };
    for delivery in store.take_deliveries(ask).await? {
        match &delivery.what {
            What::Then(name) => {
                let next = NewJob { id: delivery.following_job(), ..job(name.as_str(), 20) };
                let followed = store.follow(&delivery, next, at(20)).await?;
                assert_eq!(followed, Some(taken()));
            }
            What::Callback { .. } => {
                let tried = Tried { next: Next::Delivered, at: at(20), status: Some(200), error: None };
                assert_eq!(store.ack_delivery(&delivery, tried).await?, Applied::Applied);
            }
        }
    }
    Ok(())
}

/// What is to follow a life.
fn follow_ups() -> Vec<FollowUp> {
    let called = What::Callback { url: "https://x.example/".into(), fixed: false };
    let all = [What::Then(task("b")), called];
    all.map(|what| FollowUp { on: vec![Condition::Finished], what }).to_vec()
}

async fn check(store: &dyn Store, job: &NewJob, life: Life) {
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.finished, counts.queued, counts.running), (1, 0, 0), "{life:?}");
    let Some(found) = store.get(job.id).await.expect("read") else {
        assert_eq!(life, Life::Removed);
        return;
    };
    let attempts = store.attempts(job.id).await.expect("read");
    let (state, ended) = match life {
        Life::Plain | Life::Deferred | Life::Followed => (JobState::Succeeded, 1),
        Life::Cancelled => (JobState::Cancelled, 1),
        Life::CancelledEarly => (JobState::Cancelled, 0),
        Life::Removed => panic!("it is still there"),
    };
    assert_eq!((found.state, attempts.len()), (state, ended), "{life:?}: {attempts:?}");
    if life == Life::Followed {
        let all =
            store.deliveries(DeliveryQuery { limit: 9, ..DeliveryQuery::default() }).await.expect("read");
        let states: Vec<_> = all.iter().map(|one| (one.state, one.tries)).collect();
        assert_eq!(states, [(DeliveryState::Delivered, 1); 2]);
        assert_eq!(store.stats().await.expect("read")[&task("b")].queued, 1, "one followed");
    }
}

async fn every_call(fresh: fn() -> Fixture) {
    for life in LIVES {
        for when in [When::Before, When::After] {
            for n in 1.. {
                let fixture = fresh();
                let store = FaultyStore::new(fixture.store.clone());
                store.fail(None, n, when, StoreError::Database("injected".into()));
                let follow_ups = if life == Life::Followed { follow_ups() } else { vec![] };
                let job = NewJob { follow_ups, ..job("a", 0) };
                let mut failures = 0;
                while let Err(error) = live(&store, &job, life).await {
                    assert_eq!(error, StoreError::Database("injected".into()));
                    failures += 1;
                }
                if life == Life::Removed && failures > 0 && when == When::After {
                    // Whoever lost the answer to the removal begins a new life of the same job.
                    assert!(store.calls() >= n);
                    continue;
                }
                check(&*fixture.store, &job, life).await;
                if failures == 0 {
                    assert!(n > 4, "{life:?} has some calls");
                    break;
                }
                assert_eq!(failures, 1);
            }
        }
    }
}

#[tokio::test]
async fn f01_f15_whichever_call_fails_every_life_is_completed_once_in_memory() {
    every_call(memory).await;
}

#[tokio::test]
async fn f01_f15_whichever_call_fails_every_life_is_completed_once_on_sqlite() {
    every_call(sqlite).await;
}

#[tokio::test]
async fn faults_meet_the_call_they_were_meant_for() {
    let fixture = memory();
    let store = FaultyStore::new(fixture.store.clone());
    store.fail(Verb::Probe, 2, When::Before, StoreError::Full);
    store.fail(Verb::Submit, 1, When::After, StoreError::Closed);
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    store.run(Verb::Submit, 1, When::Before, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(store.probe().await, Ok(()));
    assert_eq!(store.probe().await, Err(StoreError::Full));
    assert_eq!(store.probe().await, Ok(()));
    let job = job("a", 0);
    assert_eq!(store.submit(job.clone()).await, Err(StoreError::Closed));
    assert_eq!(store.submit(job.clone()).await, Ok(Submitted::Replay(job.id)), "it was done");
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!((store.calls(), store.calls_of(Verb::Probe), store.calls_of(Verb::Submit)), (5, 3, 2));
    assert!(Verb::ALL.iter().filter(|verb| verb.writes()).count() == 18);
}

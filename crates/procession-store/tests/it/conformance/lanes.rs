//! Lanes in turn, jobs that are unique, rates, and attempts that follow each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession_core::admission::Full;
use procession_core::job::{Admission, Finished, NewJob, OnDuplicate, Then, Unique};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{Applied, Cancelled, Claim, Store, Submitted};

use crate::fixture::*;

fn in_lane(lane: &str, n: i64) -> NewJob {
    NewJob { lane: Some(lane.into()), ..job("a", n) }
}

fn per_lane(free: usize, most: u64, n: i64) -> Claim {
    let mut claim = ask(free, &[("a", Limit::Unlimited)], n);
    claim.tasks.values_mut().for_each(|room| room.per_lane = Limit::AtMost(most));
    claim
}

pub(crate) async fn lanes_take_turns_however_long_they_are(store: &Arc<dyn Store>) {
    for n in 0..40 {
        put(&**store, in_lane("long", n)).await;
    }
    let short = put(&**store, in_lane("short", 50)).await;
    let none = put(&**store, job("a", 51)).await;
    let jobs = store.claim(per_lane(3, 9, 60)).await.expect("claims").jobs;
    let ids: Vec<_> = jobs.iter().map(|job| job.lease.job).collect();
    assert!(ids.contains(&short) && ids.contains(&none), "{ids:?}");
}

pub(crate) async fn a_lane_holds_as_many_slots_as_it_may_under_concurrent_claims(store: &Arc<dyn Store>) {
    for most in 1..=5 {
        let lanes = ["x", "y", "z"];
        for n in 0..60 {
            put(&**store, in_lane(lanes[n % 3], n as i64)).await;
        }
        let held: Arc<BTreeMap<&str, AtomicU64>> =
            Arc::new(lanes.iter().map(|lane| (*lane, AtomicU64::new(0))).collect());
        let done = Arc::new(AtomicU64::new(0));
        let claimers = (0..8).map(|_| {
            let (store, held, done) = (Arc::clone(store), Arc::clone(&held), Arc::clone(&done));
            spawn(async move {
                while done.load(Ordering::SeqCst) < 60 {
                    let jobs = store.claim(per_lane(4, most, 100)).await.expect("claims").jobs;
                    for job in jobs {
                        let record = store.get(job.lease.job).await.expect("read").expect("there");
                        let lane = &held[record.lane.as_deref().expect("a lane")];
                        // Counted after the claim and given back before the end: never more than are held.
                        assert!(lane.fetch_add(1, Ordering::SeqCst) < most, "more than {most}");
                        lane.fetch_sub(1, Ordering::SeqCst);
                        store.finish(ok(job.lease, 100)).await.expect("recorded");
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        for claimer in claimers.collect::<Vec<_>>() {
            claimer.await.expect("no panic");
        }
    }
}

pub(crate) async fn a_full_lane_is_looked_at_again_when_it_has_room(store: &Arc<dyn Store>) {
    let first = put(&**store, in_lane("x", 0)).await;
    let second = put(&**store, in_lane("x", 1)).await;
    let lease = store.claim(per_lane(9, 1, 2)).await.expect("claims").jobs[0].lease;
    assert_eq!(lease.job, first);
    assert_eq!(store.claim(per_lane(9, 1, 3)).await.expect("claims").jobs, []);
    let standing = store.standing(second).await.expect("read").expect("queued");
    assert_eq!((standing.ahead, standing.lane_running), (0, Some(1)));
    let wider = store.claim(per_lane(9, 2, 4)).await.expect("claims").jobs;
    assert_eq!(wider[0].lease.job, second, "a limit that was raised counts at once");
    store.release(wider[0].lease, None).await.expect("given back");
    assert_eq!(store.claim(per_lane(9, 1, 5)).await.expect("claims").jobs, []);
    store.finish(ok(lease, 6)).await.expect("recorded");
    assert_eq!(store.claim(per_lane(9, 1, 7)).await.expect("claims").jobs.len(), 1);
}

fn unique(value: &str, on_duplicate: OnDuplicate, n: i64) -> NewJob {
    NewJob { unique: Some(Unique { value: value.into(), on_duplicate }), ..job("a", n) }
}

pub(crate) async fn one_unique_value_fifty_times_at_once_is_one_job(store: &Arc<dyn Store>) {
    let asked = (0..50).map(|n| {
        let store = Arc::clone(store);
        spawn(async move { store.submit(unique("u", OnDuplicate::Return, n)).await.expect("no error") })
    });
    let mut new = 0;
    for answer in asked.collect::<Vec<_>>() {
        match answer.await.expect("no panic") {
            Submitted::New(_) => new += 1,
            Submitted::Duplicate(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(new, 1);
    let lease = take(&**store, 9, "a", 60).await[0].lease;
    let again = store.submit(unique("u", OnDuplicate::Return, 61)).await;
    assert_eq!(again, Ok(Submitted::Duplicate(lease.job)), "it runs");
    store.finish(ok(lease, 62)).await.expect("recorded");
    put(&**store, unique("u", OnDuplicate::Return, 63)).await;
}

pub(crate) async fn the_newest_takes_the_place_of_what_waits_or_runs(store: &Arc<dyn Store>) {
    let runs = put(&**store, unique("u", OnDuplicate::ReplaceQueued, 0)).await;
    let lease = take(&**store, 1, "a", 1).await[0].lease;
    let waits = put(&**store, unique("u", OnDuplicate::ReplaceQueued, 2)).await;
    let full = Admission { node_slots: 1, ..admission(Limit::AtMost(1), 1) };
    let newest = NewJob { admission: Some(full), ..unique("u", OnDuplicate::ReplaceQueued, 3) };
    let Ok(Submitted::New(effects)) = store.submit(newest.clone()).await else { panic!("its place is free") };
    assert_eq!((effects.moved, effects.stops), (vec![waits], vec![]));
    assert_eq!(state(&**store, runs).await, JobState::Running);
    assert_eq!(store.submit(newest).await.map(|met| matches!(met, Submitted::Replay(_))), Ok(true));
    let Ok(Submitted::New(effects)) = store.submit(unique("u", OnDuplicate::CancelRunning, 4)).await else {
        panic!("it is taken");
    };
    assert_eq!(effects.stops, [(lease, CancelledBy::Replaced)]);
    let job = store.get(waits).await.expect("read").expect("there");
    assert_eq!(job.outcome, Some(Outcome::cancelled(CancelledBy::Replaced)));
}

pub(crate) async fn a_rate_refuses_until_exactly_when_it_says(store: &Arc<dyn Store>) {
    let rate = Some("2/m".parse().expect("a rate"));
    let rated = |n: i64| NewJob {
        admission: Some(Admission { rate, ..admission(Limit::Unlimited, 1_000) }),
        ..job("a", n)
    };
    let first = rated(0);
    put(&**store, first.clone()).await;
    put(&**store, rated(0)).await;
    let wait = Full::Rate(Duration::from_secs(20));
    assert_eq!(store.submit(rated(10)).await, Ok(Submitted::Busy(wait)));
    assert_eq!(store.submit(first.clone()).await, Ok(Submitted::Replay(first.id)), "it was taken");
    put(&**store, rated(30)).await;
    assert_eq!(store.submit(rated(30)).await, Ok(Submitted::Busy(Full::Rate(Duration::from_secs(30)))));
}

pub(crate) async fn attempts_follow_each_other_and_stay(store: &Arc<dyn Store>) {
    let id = put(&**store, NewJob { max_attempts: 3, ..job("a", 0) }).await;
    let lease = take(&**store, 1, "a", 1).await[0].lease;
    let then = Then::Retry { at: at(9), expires_at: Some(at(20)) };
    let failed = Finished { then, ..ended(lease, Outcome::Exited { code: 75 }, 2) };
    assert_eq!(store.finish(failed.clone()).await, Ok(change(Applied::Applied)));
    assert_eq!(store.finish(failed).await, Ok(change(Applied::Already)));
    let seen = store.get(id).await.expect("read").expect("there");
    assert_eq!((seen.state, seen.attempt, seen.run_at), (JobState::Scheduled, 1, Some(at(9))));
    assert_eq!((seen.outcome, seen.expires_at, seen.max_attempts), (None, Some(at(20)), 3));
    let small = || NewJob { admission: Some(admission(Limit::AtMost(1), 0)), ..job("a", 3) };
    let beside = put(&**store, small()).await;
    assert_eq!(take(&**store, 9, "a", 8).await[0].lease.job, beside, "it asks for no place until its time");
    let claimed = take(&**store, 9, "a", 9).await;
    assert_eq!((claimed[0].lease.job, claimed[0].lease.attempt.0), (id, 2));
    assert_eq!((claimed[0].history.counted, claimed[0].history.lost), (1, 0));
    store.finish(ok(claimed[0].lease, 10)).await.expect("recorded");
    let attempts = store.attempts(id).await.expect("read");
    let outcomes: Vec<_> = attempts.iter().filter_map(|attempt| attempt.outcome.clone()).collect();
    assert_eq!(outcomes, [Outcome::Exited { code: 75 }, Outcome::Exited { code: 0 }]);
}

pub(crate) async fn f34_a_cancel_leaves_no_further_attempt(store: &Arc<dyn Store>) {
    let retry = |lease, n| Finished {
        then: Then::Retry { at: at(n), expires_at: None },
        ..ended(lease, Outcome::Exited { code: 75 }, 2)
    };
    let lease = running(&**store, "a", 0).await;
    store.cancel(lease.job, CancelledBy::Client, at(1)).await.expect("marked");
    store.finish(retry(lease, 9)).await.expect("recorded");
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.outcome), (JobState::Failed, Some(Outcome::Exited { code: 75 })));
    let lease = running(&**store, "a", 3).await;
    store.finish(retry(lease, 9)).await.expect("recorded");
    let met = store.cancel(lease.job, CancelledBy::Client, at(4)).await.expect("cancelled");
    assert!(matches!(met, Cancelled::Ended(_)), "{met:?}");
    assert_eq!(take(&**store, 9, "a", 99).await, []);
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.queued, counts.finished), (0, 2));
}

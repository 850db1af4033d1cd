//! Who gets a slot, and when.

use std::collections::BTreeSet;
use std::sync::Arc;

use procession_core::id::{ClaimId, JobId};
use procession_core::job::{Claimed, NewJob};
use procession_core::limits::Limit;
use procession_core::outcome::CancelledBy;
use procession_core::state::JobState;
use procession_store::{Claim, Store};

use crate::fixture::*;

const FREE: Limit = Limit::Unlimited;

fn ids(jobs: &[Claimed]) -> Vec<JobId> {
    jobs.iter().map(|job| job.lease.job).collect()
}

fn names(jobs: &[Claimed]) -> String {
    jobs.iter().map(|job| job.task.as_str()).collect()
}

pub(crate) async fn priority_then_time_then_id(store: &Arc<dyn Store>) {
    let low = put(&**store, NewJob { priority: -5, ..job("a", 0) }).await;
    let later = put(&**store, job("a", 2)).await;
    let first = put(&**store, job("a", 1)).await;
    let second = put(&**store, job("a", 1)).await;
    let high = put(&**store, NewJob { priority: 100, ..job("a", 3) }).await;
    let timed = put(&**store, NewJob { run_at: Some(at(4)), ..job("a", 0) }).await;
    let mut order = Vec::new();
    for free in [1, 2, 9] {
        order.extend(ids(&take(&**store, free, "a", 9).await));
    }
    assert_eq!(order, [high, first, second, later, timed, low]);
    assert_eq!(take(&**store, 9, "a", 9).await, []);
}

pub(crate) async fn limits_hold_under_concurrent_claims(store: &Arc<dyn Store>) {
    for n in 0..60 {
        put(&**store, job("a", n)).await;
        put(&**store, job("b", n)).await;
    }
    let tasks = [("a", Limit::AtMost(3)), ("b", Limit::AtMost(5))];
    let claimers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(store);
            spawn(async move {
                let mut seen = Vec::new();
                loop {
                    let jobs = store.claim(ask(4, &tasks, 100)).await.expect("claims").jobs;
                    let counts = store.stats().await.expect("read");
                    let [a, b] = ["a", "b"].map(|name| counts[&task(name)]);
                    assert!(a.running <= 3 && b.running <= 5);
                    if a.finished + b.finished == 120 {
                        return seen;
                    }
                    for job in jobs {
                        seen.push(job.lease.job);
                        store.finish(ok(job.lease, 100)).await.expect("recorded");
                    }
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.expect("no panic"));
    }
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "no job was given out twice");
    assert_eq!(all.len(), 120);
}

pub(crate) async fn tasks_take_turns_within_a_claim_and_between_claims(store: &Arc<dyn Store>) {
    for n in 0..30 {
        put(&**store, job("a", n)).await;
    }
    for n in 30..36 {
        put(&**store, job("b", n)).await;
        put(&**store, job("c", n)).await;
    }
    let tasks = [("a", FREE), ("b", FREE), ("c", FREE)];
    let mut order = Vec::new();
    for free in [1, 1, 1, 2, 2, 5, 6] {
        order.push(names(&store.claim(ask(free, &tasks, 99)).await.expect("claims").jobs));
    }
    assert_eq!(order, ["a", "b", "c", "ab", "ca", "bcabc", "abcabc"]);
}

pub(crate) async fn what_one_task_lacks_the_others_get(store: &Arc<dyn Store>) {
    for n in 0..40 {
        put(&**store, job("a", n)).await;
    }
    for n in 0..3 {
        put(&**store, NewJob { expires_at: Some(at(50)), ..job("b", n) }).await;
    }
    put(&**store, job("b", 4)).await;
    let tasks = [("a", Limit::AtMost(18)), ("b", FREE), ("c", FREE)];
    // Three of `b` are expired and its fourth is all it has.
    let jobs = store.claim(ask(16, &tasks, 60)).await.expect("claims").jobs;
    assert_eq!(names(&jobs), "abaaaaaaaaaaaaaa");
    let jobs = store.claim(ask(16, &tasks, 60)).await.expect("claims").jobs;
    assert_eq!(names(&jobs), "aaa", "the limit holds across claims");
}

pub(crate) async fn paused_full_and_unnamed_tasks_delay_nobody(store: &Arc<dyn Store>) {
    for n in 0..10 {
        for name in ["full", "gone", "paused"] {
            put(&**store, NewJob { priority: 100, ..job(name, n) }).await;
        }
        put(&**store, job("z", n)).await;
    }
    store.pause(&task("paused"), true).await.expect("paused");
    let tasks = [("full", Limit::AtMost(0)), ("paused", FREE), ("z", FREE), ("never-seen", FREE)];
    let jobs = store.claim(ask(20, &tasks, 20)).await.expect("claims").jobs;
    assert_eq!(names(&jobs), "zzzzzzzzzz");
    store.pause(&task("paused"), false).await.expect("resumed");
    assert_eq!(store.claim(ask(20, &tasks, 20)).await.expect("claims").jobs.len(), 10);
    assert_eq!(take(&**store, 20, "full", 20).await.len(), 10);
}

pub(crate) async fn a_scheduled_job_runs_when_its_time_has_come(store: &Arc<dyn Store>) {
    let late = put(&**store, NewJob { run_at: Some(at(20)), ..job("a", 0) }).await;
    let soon = put(&**store, NewJob { run_at: Some(at(10)), ..job("a", 0) }).await;
    let past = put(&**store, NewJob { run_at: Some(at(-5)), ..job("a", 0) }).await;
    assert_eq!(state(&**store, past).await, JobState::Queued);
    assert_eq!(state(&**store, soon).await, JobState::Scheduled);
    let batch = store.claim(ask(9, &[("a", FREE)], 9)).await.expect("claims");
    assert_eq!((ids(&batch.jobs), batch.next_due), (vec![past], Some(at(10))));
    let batch = store.claim(ask(9, &[("a", FREE)], 10)).await.expect("claims");
    assert_eq!((ids(&batch.jobs), batch.next_due), (vec![soon], Some(at(20))));
    // Promoted though no slot is free for it.
    let batch = store.claim(ask(9, &[], 20)).await.expect("claims");
    assert_eq!((batch.jobs.len(), batch.next_due), (0, None));
    let job = store.get(late).await.expect("read").expect("there");
    assert_eq!((job.state, job.run_at), (JobState::Queued, Some(at(20))));
}

pub(crate) async fn an_expired_job_is_not_given_out(store: &Arc<dyn Store>) {
    let expired = put(&**store, NewJob { expires_at: Some(at(5)), ..job("a", 0) }).await;
    let fine = put(&**store, NewJob { expires_at: Some(at(6)), ..job("a", 1) }).await;
    assert_eq!(ids(&take(&**store, 9, "a", 5).await), [fine]);
    assert_eq!(state(&**store, expired).await, JobState::Queued);
}

pub(crate) async fn each_claim_has_a_new_fence_and_its_own_id(store: &Arc<dyn Store>) {
    for n in 0..6 {
        put(&**store, job("a", n)).await;
    }
    let mut claim_id = [9; 16];
    claim_id[12..].copy_from_slice(&[0xff, 0xff, 0xff, 0xfe]);
    let claim = Claim { claim_id: ClaimId(claim_id), ..ask(4, &[("a", FREE)], 9) };
    let first = store.claim(claim).await.expect("claims").jobs;
    let last: Vec<_> = first.iter().map(|job| job.lease.claim_id.0[12..].to_vec()).collect();
    assert_eq!(last, [[0xff, 0xff, 0xff, 0xfe], [0xff; 4], [0; 4], [0, 0, 0, 1]]);
    assert!(first.iter().all(|job| job.lease.claim_id.0[..12] == [9; 12]));
    let second = take(&**store, 4, "a", 9).await;
    let fences: Vec<_> = first.iter().chain(&second).map(|job| job.lease.fence).collect();
    assert_eq!(fences.len(), 6);
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    assert!(first.iter().all(|job| job.lease.attempt.0 == 1 && job.deferred == 0));
}

pub(crate) async fn nothing_is_given_without_a_free_slot(store: &Arc<dyn Store>) {
    let id = put(&**store, job("a", 0)).await;
    assert_eq!(take(&**store, 0, "a", 1).await, []);
    assert_eq!(store.claim(ask(5, &[("a", Limit::AtMost(0))], 1)).await.expect("claims").jobs, []);
    assert_eq!(store.claim(ask(5, &[], 1)).await.expect("claims").jobs, []);
    assert_eq!(state(&**store, id).await, JobState::Queued);
}

pub(crate) async fn what_a_node_holds_can_be_read_back(store: &Arc<dyn Store>) {
    for n in 0..4 {
        put(&**store, NewJob { labels: labels(&[("n", "1")]), ..job("a", n) }).await;
    }
    let mine = take(&**store, 3, "a", 9).await;
    let theirs = Claim { node: "n2".into(), boot_id: [8; 16], ..ask(3, &[("a", FREE)], 9) };
    let theirs = store.claim(theirs).await.expect("claims").jobs;
    store.finish(ok(mine[0].lease, 10)).await.expect("recorded");
    store.release(mine[1].lease, None).await.expect("released");
    store.cancel(mine[2].lease.job, CancelledBy::Client, at(10)).await.expect("marked");
    let held = store.claimed_by("n1").await.expect("read");
    let expected = Claimed { cancel_requested: Some(CancelledBy::Client), ..mine[2].clone() };
    assert_eq!(held, [(expected, BOOT)]);
    assert_eq!(store.claimed_by("n2").await, Ok(vec![(theirs[0].clone(), [8; 16])]));
    assert_eq!(store.claimed_by("n3").await, Ok(vec![]));
}

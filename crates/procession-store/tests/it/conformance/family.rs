//! Parents and their children.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procession_core::condition::Condition;
use procession_core::family::OnFailure;
use procession_core::id::JobId;
use procession_core::job::{Family, FamilyEnd, FollowUp, NewJob, OnDuplicate, ResultSummary, Unique, What};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{BEGUN_MOST, Cancelled, Change, Deleted, Store, Submitted};

use crate::fixture::*;

const FREE: [(&str, Limit); 2] = [("p", Limit::Unlimited), ("c", Limit::Unlimited)];

/// A parent of task `p` in second `n`, with these children.
pub(super) fn parent(n: i64, family: Family) -> NewJob {
    NewJob { family: Some(Box::new(family)), ..job("p", n) }
}

pub(super) fn of(children: Vec<NewJob>) -> Family {
    Family {
        max_running: Limit::Unlimited,
        on_failure: OnFailure::Finish,
        join: false,
        join_decides: false,
        timeout: None,
        children,
    }
}

fn brood(many: usize, n: i64) -> Vec<NewJob> {
    (0..many).map(|_| job("c", n)).collect()
}

async fn gather(store: &dyn Store, job: JobId, n: i64) -> Change {
    let result = ResultSummary::Inline { json: true, bytes: Bytes::from_static(b"[]") };
    store.gather(FamilyEnd { job, result, bad_result: None, at: at(n) }).await.expect("ended")
}

async fn children_of(store: &dyn Store, parent: JobId) -> Vec<(Option<u32>, JobState)> {
    let children = store.children(parent, None, usize::MAX).await.expect("read");
    children.into_iter().map(|child| (child.index, child.state)).collect()
}

pub(crate) async fn a_family_from_its_request_to_its_result(store: &Arc<dyn Store>) {
    let id = put(&**store, parent(0, of(brood(3, 0)))).await;
    assert_eq!(children_of(&**store, id).await, [0, 1, 2].map(|n| (Some(n), JobState::Queued)));
    let batch = store.claim(ask(9, &FREE, 1)).await.expect("claims");
    assert_eq!((batch.begun, batch.jobs.len()), (vec![id], 3));
    let job = store.get(id).await.expect("read").expect("there");
    assert_eq!((job.state, job.started_at), (JobState::Waiting, Some(at(1))));
    assert_eq!(job.children, Some([(JobState::Running, 3)].into()));
    assert_eq!(store.stats().await.expect("read")[&task("p")].families, 1);
    for (n, claimed) in batch.jobs.iter().enumerate() {
        assert_eq!((claimed.parent, claimed.index), (Some(id), Some(n as u32)));
        let change = store.finish(ok(claimed.lease, 2)).await.expect("recorded");
        assert_eq!(change.effects.gather, if n == 2 { vec![id] } else { vec![] });
    }
    assert_eq!(store.to_gather(9).await, Ok(vec![id]));
    let ends = store.child_ends(id, None, 9).await.expect("read");
    assert_eq!(ends.iter().map(|end| end.index).collect::<Vec<_>>(), [0, 1, 2]);
    gather(&**store, id, 7).await;
    let job = store.get(id).await.expect("read").expect("there");
    assert_eq!((job.state, job.outcome), (JobState::Succeeded, Some(Outcome::Exited { code: 0 })));
    assert_eq!((job.attempt, job.run_ms, job.finished_at), (1, Some(6_000), Some(at(7))));
    assert_eq!(store.to_gather(9).await, Ok(vec![]));
    assert_eq!(store.stats().await.expect("read")[&task("p")].families, 0);
    assert_eq!(gather(&**store, id, 8).await.effects, Default::default(), "once");
}

pub(crate) async fn a_join_has_its_place_under_every_limit_but_the_nodes(store: &Arc<dyn Store>) {
    let one = [("p", Limit::AtMost(1)), ("c", Limit::AtMost(1))];
    let joins = || Family { join: true, ..of(brood(1, 0)) };
    let first = put(&**store, parent(0, joins())).await;
    let second = put(&**store, parent(1, joins())).await;
    let batch = store.claim(ask(9, &one, 2)).await.expect("claims");
    assert_eq!((batch.begun, batch.jobs.len()), (vec![first], 1), "the second waits for the first");
    store.finish(ok(batch.jobs[0].lease, 3)).await.expect("recorded");
    assert_eq!(state(&**store, first).await, JobState::Queued);
    assert_eq!(store.claim(ask(0, &one, 4)).await.expect("claims").jobs, []);
    let batch = store.claim(ask(1, &one, 4)).await.expect("claims");
    assert_eq!((batch.jobs[0].lease.job, batch.jobs[0].begun_at), (first, Some(at(2))));
    assert_eq!(batch.begun, [], "the first is not over");
    store.finish(ok(batch.jobs[0].lease, 5)).await.expect("recorded");
    assert_eq!(state(&**store, first).await, JobState::Succeeded);
    assert_eq!(store.claim(ask(9, &one, 6)).await.expect("claims").begun, [second]);
}

pub(crate) async fn failed_children_make_it_fail_unless_the_join_decides(store: &Arc<dyn Store>) {
    for (join_decides, state_of) in [(false, JobState::Failed), (true, JobState::Succeeded)] {
        let family = Family { join: true, join_decides, ..of(brood(2, 0)) };
        let id = put(&**store, parent(0, family)).await;
        let jobs = store.claim(ask(9, &FREE, 1)).await.expect("claims").jobs;
        store.finish(ended(jobs[0].lease, Outcome::Exited { code: 3 }, 2)).await.expect("recorded");
        store.finish(ok(jobs[1].lease, 2)).await.expect("recorded");
        let join = store.claim(ask(9, &FREE, 3)).await.expect("claims").jobs;
        store.finish(ok(join[0].lease, 4)).await.expect("recorded");
        assert_eq!(state(&**store, id).await, state_of);
    }
}

pub(crate) async fn one_that_fails_stops_the_others(store: &Arc<dyn Store>) {
    let family =
        Family { max_running: Limit::AtMost(2), on_failure: OnFailure::Stop, join: true, ..of(brood(5, 0)) };
    let id = put(&**store, parent(0, family)).await;
    let jobs = store.claim(ask(9, &FREE, 1)).await.expect("claims").jobs;
    assert_eq!(jobs.len(), 2, "as many as the family may");
    let failed = ended(jobs[0].lease, Outcome::Exited { code: 3 }, 2);
    let effects = store.finish(failed).await.expect("recorded").effects;
    assert_eq!(effects.stops, [(jobs[1].lease, CancelledBy::Parent)]);
    assert_eq!(effects.moved.len(), 3, "those that waited");
    let ended_by_us = ended(jobs[1].lease, Outcome::cancelled(CancelledBy::Parent), 3);
    assert_eq!(store.finish(ended_by_us).await.expect("recorded").effects.moved, [id]);
    let job = store.get(id).await.expect("read").expect("there");
    assert_eq!(job.outcome, Some(Outcome::ChildrenFailed { failed: 1 }));
    assert_eq!(job.children, Some([(JobState::Cancelled, 4), (JobState::Failed, 1)].into()));
}

pub(crate) async fn one_that_is_over_when_it_begins_stops_those_beside_it(store: &Arc<dyn Store>) {
    let stops = |children| Family { on_failure: OnFailure::Stop, ..of(children) };
    let first = job("c", 0);
    let late = NewJob { family: Some(Box::new(stops(brood(1, 0)))), ..job("q", 0) };
    let late_id = late.id;
    put(&**store, parent(0, stops(vec![first, late]))).await;
    let runs = store.claim(ask(9, &FREE, 1)).await.expect("claims").jobs;
    assert_eq!(runs.len(), 1);
    let below = store.children(late_id, None, 9).await.expect("read")[0].id;
    store.cancel(below, CancelledBy::Client, at(2)).await.expect("cancelled");
    let all = [FREE[0], FREE[1], ("q", Limit::Unlimited)];
    let batch = store.claim(ask(9, &all, 3)).await.expect("claims");
    assert_eq!((batch.begun, batch.jobs), (vec![late_id], vec![]));
    assert_eq!(batch.effects.stops, [(runs[0].lease, CancelledBy::Parent)]);
    assert_eq!(batch.effects.moved, [late_id]);
}

pub(crate) async fn replacing_one_of_a_family_may_end_another(store: &Arc<dyn Store>) {
    let unique = || Unique { value: "u".into(), on_duplicate: OnDuplicate::ReplaceQueued };
    let one = || NewJob { unique: Some(unique()), ..job("c", 0) };
    let family = Family { on_failure: OnFailure::Stop, ..of(vec![one(), one(), job("c", 0)]) };
    let id = put(&**store, parent(0, family)).await;
    let Submitted::New(effects) = store.submit(one()).await.expect("taken") else { panic!() };
    assert_eq!(effects.moved.len(), 3);
    assert_eq!(children_of(&**store, id).await, [0, 1, 2].map(|n| (Some(n), JobState::Cancelled)));
    assert_eq!(store.stats().await.expect("read")[&task("c")].queued, 1);
}

pub(crate) async fn no_more_than_some_begin_at_once(store: &Arc<dyn Store>) {
    for n in 0..=BEGUN_MOST as i64 {
        put(&**store, parent(n, of(brood(1, n)))).await;
    }
    let busy = [("p", Limit::Unlimited), ("c", Limit::AtMost(1))];
    assert_eq!(store.claim(ask(9, &busy, 100)).await.expect("claims").jobs.len(), 1);
    let rest = store.claim(ask(9, &busy, 100)).await.expect("claims").begun;
    assert_eq!(store.claim(ask(9, &busy, 100)).await.expect("claims").begun, []);
    assert!(rest.len() <= BEGUN_MOST, "{}", rest.len());
    assert_eq!(store.stats().await.expect("read")[&task("p")].families, BEGUN_MOST as u64 + 1);
}

pub(crate) async fn f34_a_cancel_goes_down_and_up_again(store: &Arc<dyn Store>) {
    let below = NewJob { family: Some(Box::new(of(brood(2, 0)))), ..job("c", 0) };
    let id = put(&**store, parent(0, of(vec![below, job("c", 0)]))).await;
    let jobs = store.claim(ask(2, &FREE, 1)).await.expect("claims").jobs;
    assert_eq!(jobs.len(), 2);
    let met = store.cancel(id, CancelledBy::Client, at(2)).await.expect("cancelled");
    let Cancelled::Asked(effects) = met else { panic!("{met:?}") };
    let stops: BTreeSet<JobId> = effects.stops.iter().map(|(lease, _)| lease.job).collect();
    assert_eq!(stops, jobs.iter().map(|job| job.lease.job).collect());
    assert_eq!(store.claim(ask(9, &FREE, 3)).await.expect("claims").jobs, [], "nothing more begins");
    let met = store.cancel(id, CancelledBy::Client, at(3)).await.expect("cancelled");
    let Cancelled::Asked(again) = met else { panic!("{met:?}") };
    assert_eq!(again.stops, effects.stops, "who is in more of a hurry is heard");
    for job in jobs {
        store.finish(ended(job.lease, Outcome::cancelled(CancelledBy::Parent), 4)).await.expect("recorded");
    }
    let job = store.get(id).await.expect("read").expect("there");
    assert_eq!(job.outcome, Some(Outcome::cancelled(CancelledBy::Client)));
    assert_eq!(job.cancel_requested_at, Some(at(2)));
    let counts = store.stats().await.expect("read");
    assert_eq!((counts[&task("c")].queued, counts[&task("c")].finished), (0, 4));
    let Ok(Cancelled::AlreadyOver) = store.cancel(id, CancelledBy::Client, at(9)).await else { panic!() };
}

pub(crate) async fn f35_a_cancel_of_many_leaves_no_count_behind(store: &Arc<dyn Store>) {
    let id = put(&**store, parent(0, of(brood(500, 0)))).await;
    let met = store.cancel(id, CancelledBy::Client, at(1)).await.expect("cancelled");
    let Cancelled::Ended(effects) = met else { panic!("{met:?}") };
    assert_eq!(effects.moved.len(), 500);
    let counts = store.stats().await.expect("read");
    assert_eq!((counts[&task("c")].queued, counts[&task("c")].finished), (0, 500));
    assert_eq!(store.claim(ask(9, &FREE, 2)).await.expect("claims").jobs, []);
}

pub(crate) async fn a_family_whose_time_is_over_ends_with_all_below_it(store: &Arc<dyn Store>) {
    let family = Family { timeout: Some(Duration::from_secs(10)), ..of(brood(2, 0)) };
    let id = put(&**store, parent(0, family)).await;
    let jobs = store.claim(ask(1, &FREE, 5)).await.expect("claims").jobs;
    assert_eq!(store.next_due().await, Ok(Some(at(15))));
    assert_eq!(store.expire(at(14)).await.expect("looked"), Default::default());
    let effects = store.expire(at(15)).await.expect("ended");
    assert_eq!(effects.stops, [(jobs[0].lease, CancelledBy::Parent)]);
    store.finish(ended(jobs[0].lease, Outcome::cancelled(CancelledBy::Parent), 16)).await.expect("recorded");
    let job = store.get(id).await.expect("read").expect("there");
    assert_eq!(job.outcome, Some(Outcome::TimedOut { limit_ms: 10_000, code: None, signal: None }));
    assert_eq!(store.next_due().await, Ok(None));
}

pub(crate) async fn children_ask_for_no_place_in_their_tasks_queue(store: &Arc<dyn Store>) {
    put(&**store, parent(0, of(brood(50, 0)))).await;
    let bounded = || NewJob { admission: Some(admission(Limit::AtMost(2), 1)), ..job("c", 1) };
    for _ in 0..3 {
        put(&**store, bounded()).await;
    }
    assert_ne!(store.submit(bounded()).await, Ok(taken()), "three places are three");
}

pub(crate) async fn a_family_is_removed_as_a_whole(store: &Arc<dyn Store>) {
    let id = put(&**store, parent(0, of(brood(2, 0)))).await;
    let child = store.children(id, None, 1).await.expect("read")[0].id;
    assert_eq!(store.delete(id).await, Ok(Deleted::Unfinished));
    assert_eq!(store.delete(child).await, Ok(Deleted::OfFamily(id)));
    store.cancel(id, CancelledBy::Client, at(1)).await.expect("cancelled");
    assert_eq!(store.prune(at(1), 9).await, Ok(vec![]));
    assert_eq!(store.is_awaited(id).await, Ok(false));
    assert_eq!(store.prune(at(2), 1).await.expect("removed").len(), 3, "as one");
    assert_eq!(store.get(child).await, Ok(None));
}

pub(crate) async fn what_any_of_a_family_awaits_all_of_it_does(store: &Arc<dyn Store>) {
    let what = What::Callback { url: "http://127.0.0.1:9/".into(), fixed: true };
    let follow_ups = vec![FollowUp { on: vec![Condition::Finished], what }];
    let deep = NewJob { follow_ups, ..job("c", 0) };
    let below = NewJob { family: Some(Box::new(of(vec![deep]))), ..job("c", 0) };
    let id = put(&**store, parent(0, of(vec![below, job("c", 0)]))).await;
    assert_eq!(store.is_awaited(id).await, Ok(false));
    store.cancel(id, CancelledBy::Client, at(1)).await.expect("cancelled");
    let beside = store.children(id, None, 9).await.expect("read")[1].id;
    for job in [id, beside] {
        assert_eq!(store.is_awaited(job).await, Ok(true));
    }
    assert_eq!(store.is_awaited(put(&**store, job("c", 0)).await).await, Ok(false));
}

pub(crate) async fn an_end_is_told_however_it_came(store: &Arc<dyn Store>) {
    let follow_up = |on| FollowUp {
        on: vec![on],
        what: What::Callback { url: "http://127.0.0.1:9/".into(), fixed: true },
    };
    let told = |on| NewJob { follow_ups: vec![follow_up(on)], ..job("a", 0) };
    let succeeded = put(&**store, told(Condition::State(JobState::Succeeded))).await;
    let lease = take(&**store, 1, "a", 1).await[0].lease;
    assert_eq!(lease.job, succeeded);
    assert!(store.finish(ok(lease, 2)).await.expect("recorded").effects.tells);
    let waits = put(&**store, told(Condition::Unsuccessful)).await;
    let Cancelled::Ended(effects) = store.cancel(waits, CancelledBy::Client, at(3)).await.expect("cancelled")
    else {
        panic!("it did not run");
    };
    assert!(effects.tells);
    let expires = NewJob { expires_at: Some(at(5)), ..told(Condition::State(JobState::Cancelled)) };
    put(&**store, expires).await;
    assert!(store.expire(at(6)).await.expect("expired").tells);
    put(&**store, told(Condition::State(JobState::Failed))).await;
    let lease = take(&**store, 1, "a", 7).await[0].lease;
    assert!(!store.finish(ok(lease, 8)).await.expect("recorded").effects.tells, "not that end");
}

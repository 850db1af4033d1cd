//! What follows the ends of jobs.

use std::sync::Arc;
use std::time::Duration;

use procession_core::condition::Condition;
use procession_core::delivery::Next;
use procession_core::id::JobId;
use procession_core::job::{FollowUp, NewJob, Then, What};
use procession_core::outbox::{
    Delivery, DeliveryId, DeliveryState, FULL, MOST_PENDING, Tried, WANTS_NO_MORE,
};
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{Applied, Cancelled, Deleted, DeliveryQuery, Due, Store, Submitted};

use crate::fixture::*;

const FAILED: Outcome = Outcome::Exited { code: 3 };

fn call(url: &str, on: &[Condition]) -> FollowUp {
    FollowUp { on: on.to_vec(), what: What::Callback { url: url.into(), fixed: true } }
}

fn then(name: &str) -> FollowUp {
    FollowUp { on: vec![Condition::Finished], what: What::Then(task(name)) }
}

fn any(url: &str) -> FollowUp {
    call(url, &[Condition::Finished])
}

/// A job with this to follow that ended so in second `n`.
async fn over(store: &dyn Store, follow_ups: &[FollowUp], outcome: Outcome, n: i64) -> JobId {
    let id = put(store, NewJob { follow_ups: follow_ups.to_vec(), ..job("a", n) }).await;
    let lease = take(store, 1, "a", n).await[0].lease;
    let change = store.finish(ended(lease, outcome, n - 1)).await.expect("recorded");
    assert_eq!(change.applied, Applied::Applied);
    id
}

async fn called(store: &dyn Store, url: &str, n: i64) -> DeliveryId {
    DeliveryId { job: over(store, &[any(url)], FAILED, n).await, ordinal: 0 }
}

fn all_due(now: i64) -> Due {
    Due { now: at(now), after: None, per_host: 1000, hosts: 1000 }
}

async fn due(store: &dyn Store, now: i64) -> Vec<DeliveryId> {
    let due = store.take_deliveries(all_due(now)).await.expect("read");
    due.into_iter().map(|one| one.id).collect()
}

async fn one(store: &dyn Store, id: DeliveryId) -> Delivery {
    store.delivery(id).await.expect("read").expect("there")
}

fn tried(next: Next, status: Option<u16>, n: i64) -> Tried {
    let error = (next != Next::Delivered).then(|| "no".to_owned());
    Tried { next, at: at(n), status, error }
}

async fn ack(store: &dyn Store, id: DeliveryId, next: Next, n: i64) -> Applied {
    let delivery = one(store, id).await;
    let status = if next == Next::Gone { 410 } else { 500 };
    store.ack_delivery(&delivery, tried(next, Some(status), n)).await.expect("written")
}

async fn listed(store: &dyn Store, query: DeliveryQuery) -> Vec<DeliveryId> {
    let found = store.deliveries(DeliveryQuery { limit: query.limit.max(1), ..query }).await.expect("read");
    found.into_iter().map(|one| one.id).collect()
}

pub(crate) async fn an_end_writes_what_it_met(store: &Arc<dyn Store>) {
    let follow_ups = [
        call("https://x.example/", &[Condition::State(JobState::Succeeded), Condition::Exit(4)]),
        call("https://x.example/done?k=1", &[Condition::Exit(4), Condition::Unsuccessful]),
        then("b"),
    ];
    let job = over(&**store, &follow_ups, FAILED, 5).await;
    let expected = |ordinal: u32, number| Delivery {
        id: DeliveryId { job, ordinal },
        number,
        task: task("a"),
        what: follow_ups[ordinal as usize].what.clone(),
        state: DeliveryState::Pending,
        tries: 0,
        created_at: at(5),
        repeated_at: None,
        due_at: at(5),
        status: None,
        error: None,
        followed_by: None,
    };
    assert_eq!(one(&**store, DeliveryId { job, ordinal: 1 }).await, expected(1, 1));
    assert_eq!(one(&**store, DeliveryId { job, ordinal: 2 }).await, expected(2, 2));
    for ordinal in [0, 3] {
        assert_eq!(store.delivery(DeliveryId { job, ordinal }).await, Ok(None));
    }
}

pub(crate) async fn whatever_ends_a_job_something_follows_and_only_then(store: &Arc<dyn Store>) {
    let follows = || NewJob { follow_ups: vec![any("https://x.example/")], ..job("a", 0) };
    let id = |job: JobId| DeliveryId { job, ordinal: 0 };
    // Another attempt is no end.
    let retried = put(&**store, NewJob { max_attempts: 2, ..follows() }).await;
    let lease = take(&**store, 1, "a", 0).await[0].lease;
    let again = Then::Retry { at: at(90), expires_at: None };
    let mut finished = ended(lease, FAILED, 0);
    finished.then = again;
    assert!(!store.finish(finished).await.expect("recorded").effects.tells);
    assert_eq!(store.delivery(id(retried)).await, Ok(None));

    let met = store.cancel(retried, CancelledBy::Client, at(1)).await.expect("cancelled");
    assert!(matches!(met, Cancelled::Ended(effects) if effects.tells));
    let expired = put(&**store, NewJob { expires_at: Some(at(2)), ..follows() }).await;
    assert!(store.expire(at(3)).await.expect("expired").tells);
    let ended_early = put(&**store, follows()).await;
    let lease = take(&**store, 1, "a", 3).await[0].lease;
    store.cancel(ended_early, CancelledBy::Client, at(4)).await.expect("asked");
    assert!(store.release(lease, None).await.expect("released").effects.tells);
    assert_eq!(due(&**store, 9).await, [id(retried), id(expired), id(ended_early)]);
}

pub(crate) async fn what_is_due_is_taken_in_turn_by_host(store: &Arc<dyn Store>) {
    let mut of = std::collections::BTreeMap::new();
    for (host, n) in [("b", 1), ("a", 2), ("b", 3), ("b", 4), ("c:81", 5)] {
        of.insert(n, called(&**store, &format!("http://{host}/x"), n).await);
    }
    let ask = |now, after: Option<&str>, per_host, hosts| {
        store.take_deliveries(Due { now: at(now), after: after.map(str::to_owned), per_host, hosts })
    };
    let ids = |found: Vec<Delivery>| found.into_iter().map(|one| one.created_at).collect::<Vec<_>>();
    let times = |all: &[i64]| all.iter().map(|n| at(*n)).collect::<Vec<_>>();
    assert_eq!(ids(ask(9, None, 9, 9).await.expect("read")), times(&[2, 1, 3, 4, 5]));
    assert_eq!(ids(ask(9, None, 2, 9).await.expect("read")), times(&[2, 1, 3, 5]));
    assert_eq!(ids(ask(9, Some("a"), 1, 9).await.expect("read")), times(&[1, 5, 2]));
    assert_eq!(ids(ask(9, Some("b"), 9, 2).await.expect("read")), times(&[5, 2]));
    assert_eq!(ids(ask(9, Some("zzz"), 1, 1).await.expect("read")), times(&[2]));
    assert_eq!(ids(ask(3, Some("b"), 9, 9).await.expect("read")), times(&[2, 1, 3]), "what is due");
    assert_eq!(ids(ask(9, None, 9, 0).await.expect("read")), times(&[]));
    // Nothing was changed by it.
    assert_eq!(due(&**store, 9).await.len(), 5);
    assert_eq!(store.next_delivery_due(at(3)).await, Ok(Some(at(4))));
    assert_eq!(store.next_delivery_due(at(5)).await, Ok(None));
    // A task that follows goes to nobody else, and is not held up by those.
    over(&**store, &[then("b")], FAILED, 6).await;
    assert_eq!(ids(ask(9, None, 1, 1).await.expect("read")), times(&[6]));
}

pub(crate) async fn what_came_of_a_try_is_recorded_once(store: &Arc<dyn Store>) {
    let id = called(&**store, "https://x.example/", 0).await;
    let first = one(&**store, id).await;
    let again = tried(Next::Again(Duration::from_secs(7)), Some(503), 1);
    assert_eq!(store.ack_delivery(&first, again.clone()).await, Ok(Applied::Applied));
    assert_eq!(store.ack_delivery(&first, again).await, Ok(Applied::Stale), "said twice");
    let second = one(&**store, id).await;
    assert_eq!((second.state, second.tries, second.due_at), (DeliveryState::Pending, 1, at(8)));
    assert_eq!((second.status, second.error.as_deref()), (Some(503), Some("no")));
    assert_eq!((due(&**store, 7).await, due(&**store, 8).await), (vec![], vec![id]));

    let arrived = tried(Next::Delivered, Some(204), 9);
    assert_eq!(store.ack_delivery(&second, arrived.clone()).await, Ok(Applied::Applied));
    assert_eq!(store.ack_delivery(&second, arrived).await, Ok(Applied::Stale));
    let third = one(&**store, id).await;
    assert_eq!((third.state, third.tries, third.status), (DeliveryState::Delivered, 2, Some(204)));
    assert_eq!((third.error, due(&**store, 99).await), (None, vec![]));

    let other = called(&**store, "https://x.example/", 0).await;
    let taken = one(&**store, other).await;
    let given_up = Tried { next: Next::GivenUp, at: at(1), status: None, error: Some("late".into()) };
    assert_eq!(store.ack_delivery(&taken, given_up).await, Ok(Applied::Applied));
    let last = one(&**store, other).await;
    assert_eq!((last.state, last.error.as_deref()), (DeliveryState::GivenUp, Some("late")));
    let unknown = Delivery { id: DeliveryId { job: id.job, ordinal: 9 }, ..taken };
    assert_eq!(store.ack_delivery(&unknown, tried(Next::Delivered, None, 1)).await, Ok(Applied::Stale));
}

pub(crate) async fn f37_a_receiver_that_wants_no_more_is_asked_no_more_until_it_takes_one(
    store: &Arc<dyn Store>,
) {
    let (gone, other) = ("https://x.example/a", "https://x.example/b");
    let first = called(&**store, gone, 0).await;
    let second = called(&**store, gone, 0).await;
    let elsewhere = called(&**store, other, 0).await;
    assert_eq!(ack(&**store, first, Next::Gone, 1).await, Applied::Applied);
    let later = called(&**store, gone, 2).await;
    for id in [second, later] {
        let one = one(&**store, id).await;
        assert_eq!((one.state, one.tries), (DeliveryState::Gone, 0));
        assert_eq!(one.error.as_deref(), Some(WANTS_NO_MORE));
    }
    assert_eq!(one(&**store, first).await.status, Some(410));
    assert_eq!(due(&**store, 9).await, [elsewhere]);

    // Asked for by hand, it is asked once.
    assert_eq!(store.repeat_delivery(second, at(3)).await, Ok(true));
    assert_eq!(ack(&**store, second, Next::Again(Duration::from_secs(1)), 4).await, Applied::Applied);
    let still = called(&**store, gone, 4).await;
    assert_eq!(one(&**store, still).await.state, DeliveryState::Gone);
    assert_eq!(ack(&**store, second, Next::Delivered, 5).await, Applied::Applied);
    let open = called(&**store, gone, 6).await;
    assert_eq!(one(&**store, open).await.state, DeliveryState::Pending);
    assert_eq!(one(&**store, still).await.state, DeliveryState::Gone, "what was gone stays so");

    // Nobody is remembered for ever.
    assert_eq!(ack(&**store, open, Next::Gone, 7).await, Applied::Applied);
    const MONTH: i64 = 30 * 86_400;
    let others = [called(&**store, other, 8).await, called(&**store, "https://x.example/c", 8).await];
    assert_eq!(ack(&**store, others[0], Next::Gone, MONTH).await, Applied::Applied);
    let early = called(&**store, gone, 9).await;
    assert_eq!(one(&**store, early).await.state, DeliveryState::Gone);
    assert_eq!(ack(&**store, others[1], Next::Gone, MONTH + 8).await, Applied::Applied);
    let late = called(&**store, gone, 10).await;
    assert_eq!(one(&**store, late).await.state, DeliveryState::Pending);
}

pub(crate) async fn what_is_asked_for_once_more_begins_anew(store: &Arc<dyn Store>) {
    let id = called(&**store, "https://x.example/", 0).await;
    assert_eq!(store.repeat_delivery(DeliveryId { ordinal: 1, ..id }, at(1)).await, Ok(false));
    for end in [Next::Delivered, Next::GivenUp, Next::Gone] {
        let before = one(&**store, id).await;
        assert_eq!(ack(&**store, id, end, 1).await, Applied::Applied);
        assert_eq!(store.repeat_delivery(id, at(50)).await, Ok(true));
        let again = one(&**store, id).await;
        assert_eq!((again.state, again.tries, again.due_at), (DeliveryState::Pending, 0, at(50)));
        assert_eq!((again.created_at, again.repeated_at), (at(0), Some(at(50))));
        assert_eq!((due(&**store, 49).await, due(&**store, 50).await), (vec![], vec![id]));
        let late = store.ack_delivery(&before, tried(Next::GivenUp, None, 60)).await;
        // What was under way when it was asked for has no say in it.
        assert_eq!(late, Ok(Applied::Stale));
        assert_eq!(store.repeat_delivery(id, at(0)).await, Ok(true));
    }
}

pub(crate) async fn a_job_that_follows_and_its_delivery_are_one_write(store: &Arc<dyn Store>) {
    let id = DeliveryId { job: over(&**store, &[then("b")], FAILED, 0).await, ordinal: 0 };
    let delivery = one(&**store, id).await;
    let next = |delivery: &Delivery| NewJob {
        id: delivery.following_job(),
        idempotency: key("follows", 1),
        admission: None,
        ..job("b", 1)
    };
    let first = next(&delivery);
    assert_eq!(store.follow(&delivery, first.clone(), at(1)).await, Ok(Some(taken())));
    assert_eq!(store.follow(&delivery, first.clone(), at(1)).await, Ok(None), "said twice");
    assert_eq!(state(&**store, first.id).await, JobState::Queued);
    let done = one(&**store, id).await;
    assert_eq!((done.state, done.tries, done.error), (DeliveryState::Delivered, 1, None));
    assert_eq!(done.followed_by, Some(first.id));

    // Once more is another job, which the key makes the same.
    assert_eq!(store.repeat_delivery(id, at(2)).await, Ok(true));
    let again = one(&**store, id).await;
    assert_ne!(again.following_job(), first.id);
    let submitted = store.follow(&again, next(&again), at(2)).await;
    assert_eq!(submitted, Ok(Some(Submitted::Replay(first.id))));
    let replayed = one(&**store, id).await;
    assert_eq!((replayed.state, replayed.followed_by), (DeliveryState::Delivered, Some(first.id)));

    // With another body it is none.
    assert_eq!(store.repeat_delivery(id, at(3)).await, Ok(true));
    let again = one(&**store, id).await;
    let conflict = NewJob { idempotency: key("follows", 2), ..next(&again) };
    let submitted = store.follow(&again, conflict, at(3)).await;
    assert_eq!(submitted, Ok(Some(Submitted::Conflict(first.id))));
    let given_up = one(&**store, id).await;
    assert_eq!(given_up.state, DeliveryState::GivenUp);
    assert!(given_up.error.is_some_and(|error| error.contains("idempotency key")));
    assert_eq!(page(&**store, everything()).await.len(), 2, "one followed");
}

pub(crate) async fn pages_of_deliveries_are_newest_first(store: &Arc<dyn Store>) {
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(called(&**store, &format!("https://h{n}.example/"), n).await);
    }
    ids.reverse();
    ack(&**store, ids[1], Next::GivenUp, 9).await;
    ack(&**store, ids[3], Next::Delivered, 9).await;
    let query = |limit| DeliveryQuery { limit, ..DeliveryQuery::default() };
    assert_eq!(listed(&**store, query(9)).await, ids);
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = store.deliveries(DeliveryQuery { before, ..query(2) }).await.expect("read");
        let Some(last) = page.last() else { break };
        before = Some(last.number);
        seen.extend(page.iter().map(|one| one.id));
    }
    assert_eq!(seen, ids);
    let states = |states: &[DeliveryState]| DeliveryQuery { states: states.to_vec(), ..query(9) };
    use DeliveryState::{Delivered, GivenUp, Gone, Pending};
    assert_eq!(listed(&**store, states(&[Pending])).await, [ids[0], ids[2], ids[4]]);
    assert_eq!(listed(&**store, states(&[Delivered, GivenUp, Gone])).await, [ids[1], ids[3]]);
    assert_eq!(listed(&**store, states(&[Gone])).await, []);
    let of_job = DeliveryQuery { job: Some(ids[1].job), ..query(9) };
    assert_eq!(listed(&**store, of_job.clone()).await, [ids[1]]);
    assert_eq!(listed(&**store, DeliveryQuery { states: vec![Pending], ..of_job }).await, []);
}

pub(crate) async fn deliveries_live_as_long_as_their_job(store: &Arc<dyn Store>) {
    let (held, free) =
        (called(&**store, "https://x.example/", 0).await, over(&**store, &[], FAILED, 1).await);
    assert_eq!(store.prune(at(9), 9).await, Ok(vec![free]), "what is on its way keeps its job");
    ack(&**store, held, Next::GivenUp, 2).await;
    assert_eq!(store.prune(at(9), 9).await, Ok(vec![held.job]));
    assert_eq!(store.delivery(held).await, Ok(None));
    // Whoever removes a job by its name means it.
    let other = called(&**store, "https://x.example/", 0).await;
    assert_eq!(store.delete(other.job).await, Ok(Deleted::Deleted(vec![other.job])));
    assert_eq!(due(&**store, 9).await, []);
}

pub(crate) async fn f37_the_outbox_is_bounded(store: &Arc<dyn Store>) {
    const EACH: u64 = 2_500;
    let many: Vec<FollowUp> = (0..EACH).map(|n| any(&format!("https://h{n}.example/"))).collect();
    let mut jobs = Vec::new();
    for _ in 0..MOST_PENDING / EACH {
        jobs.push(over(&**store, &many, FAILED, 0).await);
    }
    let beyond = called(&**store, "https://x.example/", 1).await;
    let refused = one(&**store, beyond).await;
    assert_eq!((refused.state, refused.error.as_deref()), (DeliveryState::GivenUp, Some(FULL)));
    // One leaves, one has room; by hand there always is some.
    ack(&**store, DeliveryId { job: jobs[0], ordinal: 7 }, Next::Delivered, 1).await;
    let (fits, not) =
        (called(&**store, "https://x.example/", 1).await, called(&**store, "https://x.example/", 1).await);
    assert_eq!(one(&**store, fits).await.state, DeliveryState::Pending);
    assert_eq!(one(&**store, not).await.state, DeliveryState::GivenUp);
    assert_eq!(store.repeat_delivery(beyond, at(2)).await, Ok(true));
    assert_eq!(one(&**store, beyond).await.state, DeliveryState::Pending);
    // A job that goes takes its own along.
    store.delete(jobs[1]).await.expect("removed");
    let fits = called(&**store, "https://x.example/", 3).await;
    assert_eq!(one(&**store, fits).await.state, DeliveryState::Pending);
}

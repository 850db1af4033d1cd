//! What runs by the clock.

use std::sync::Arc;

use procession_core::id::JobId;
use procession_core::job::{NewJob, OnDuplicate, Unique};
use procession_core::limits::Limit;
use procession_core::schedule::{Overlap, ScheduleName};
use procession_store::{
    Fire, Fired, KnownSchedule, Occasion, ScheduleRow, ScheduleState, Store, StoreError, Submitted,
};

use crate::fixture::*;

fn name(text: &str) -> ScheduleName {
    text.parse().expect("a name")
}

/// One that is first due in second `first`.
fn known(text: &str, rhythm: &str, first: i64) -> KnownSchedule {
    KnownSchedule { name: name(text), rhythm: rhythm.into(), first: Some(at(first)) }
}

async fn put_one(store: &dyn Store, first: i64) {
    store.put_schedules(vec![known("nightly", "x", first)]).await.expect("known");
}

/// The moment in second `due` has come, and the next is in second `next`.
fn moment(due: i64, next: i64, overlap: Overlap) -> Fire {
    let job = NewJob { admission: None, ..job("a", due) };
    let occasion = Occasion::Moment { due: at(due), next: Some(at(next)) };
    Fire { name: name("nightly"), occasion, overlap, job: Some(job), at: at(due) }
}

fn by_hand(n: i64, overlap: Overlap) -> Fire {
    Fire { occasion: Occasion::ByHand, ..moment(n, n, overlap) }
}

fn id_of(fire: &Fire) -> JobId {
    fire.job.as_ref().expect("a job").id
}

fn fired() -> Result<Fired, StoreError> {
    Ok(Fired::Submitted(taken()))
}

async fn row(store: &dyn Store) -> ScheduleRow {
    let rows = store.schedules().await.expect("read");
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().expect("one")
}

async fn count(store: &dyn Store) -> usize {
    store.list(everything()).await.expect("listed").len()
}

pub(crate) async fn it_is_known_as_long_as_it_is_named(store: &Arc<dyn Store>) {
    let fresh = |text: &str, next: i64| ScheduleRow {
        name: name(text),
        paused: false,
        next_at: Some(at(next)),
        last_at: None,
        last_job: None,
    };
    store.put_schedules(vec![known("b", "x", 5), known("a", "y", 6)]).await.expect("known");
    assert_eq!(store.schedules().await, Ok(vec![fresh("a", 6), fresh("b", 5)]));
    // Named again, as at a restart: what was due stays due.
    store.put_schedules(vec![known("a", "y", 60), known("b", "x", 50)]).await.expect("known");
    assert_eq!(store.schedules().await, Ok(vec![fresh("a", 6), fresh("b", 5)]));
    // By another rhythm something else is due. A pause is a person's word and stays.
    assert_eq!(store.set_schedule(&name("a"), ScheduleState::Paused).await, Ok(true));
    store.put_schedules(vec![known("a", "z", 600)]).await.expect("known");
    assert_eq!(store.schedules().await, Ok(vec![ScheduleRow { paused: true, ..fresh("a", 600) }]));
    // One that comes back is new.
    store.put_schedules(vec![known("b", "x", 50)]).await.expect("known");
    assert_eq!(store.schedules().await, Ok(vec![fresh("b", 50)]));
    store.put_schedules(vec![]).await.expect("known");
    assert_eq!(store.schedules().await, Ok(vec![]));
}

pub(crate) async fn f18_a_moment_runs_once(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let first = moment(10, 20, Overlap::Queue);
    let id = id_of(&first);
    assert_eq!(store.fire(first).await, fired());
    let expected = ScheduleRow {
        name: name("nightly"),
        paused: false,
        next_at: Some(at(20)),
        last_at: Some(at(10)),
        last_job: Some(id),
    };
    assert_eq!(row(&**store).await, expected);
    // Whoever asks again, because it missed the answer or is another server, comes too late.
    for due in [10, 15, 30] {
        assert_eq!(store.fire(moment(due, 40, Overlap::Queue)).await, Ok(Fired::Stale), "{due}");
    }
    assert_eq!(row(&**store).await, expected);
    assert_eq!(count(&**store).await, 1);
    // The last there is.
    let occasion = Occasion::Moment { due: at(20), next: None };
    assert_eq!(store.fire(Fire { occasion, ..moment(20, 20, Overlap::Queue) }).await, fired());
    assert_eq!(row(&**store).await.next_at, None);
    assert_eq!(store.fire(moment(20, 30, Overlap::Queue)).await, Ok(Fired::Stale));
    let unknown = Fire { name: name("other"), ..moment(10, 20, Overlap::Queue) };
    assert_eq!(store.fire(unknown).await, Ok(Fired::Unknown));
    assert_eq!(count(&**store).await, 2);
}

pub(crate) async fn f18_a_moment_at_which_fifty_look_runs_once(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let looks: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(store);
            spawn(async move { store.fire(moment(10, 20, Overlap::Queue)).await.expect("fires") })
        })
        .collect();
    let mut runs = 0;
    for look in looks {
        match look.await.expect("no panic") {
            Fired::Submitted(submitted) => {
                assert_eq!(submitted, taken());
                runs += 1;
            }
            other => assert_eq!(other, Fired::Stale),
        }
    }
    assert_eq!((runs, count(&**store).await), (1, 1));
}

pub(crate) async fn what_overlaps_is_skipped_or_queued(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let first = moment(10, 20, Overlap::Skip);
    let id = id_of(&first);
    assert_eq!(store.fire(first).await, fired());
    // It waits, then runs; either way it is not over.
    assert_eq!(store.fire(moment(20, 30, Overlap::Skip)).await, Ok(Fired::Skipped(id)));
    let lease = take(&**store, 1, "a", 20).await[0].lease;
    assert_eq!(store.fire(moment(30, 40, Overlap::Skip)).await, Ok(Fired::Skipped(id)));
    let stands = row(&**store).await;
    assert_eq!((stands.next_at, stands.last_at, stands.last_job), (Some(at(40)), Some(at(10)), Some(id)));
    assert_eq!(count(&**store).await, 1);
    store.finish(ok(lease, 35)).await.expect("recorded");
    let second = moment(40, 50, Overlap::Skip);
    let id = id_of(&second);
    assert_eq!(store.fire(second).await, fired());
    assert_eq!(store.fire(moment(50, 60, Overlap::Queue)).await, fired());
    assert_ne!(row(&**store).await.last_job, Some(id));
    assert_eq!(count(&**store).await, 3);
}

pub(crate) async fn a_job_that_is_gone_holds_nothing_up(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let first = moment(10, 20, Overlap::Skip);
    let id = id_of(&first);
    assert_eq!(store.fire(first).await, fired());
    let lease = take(&**store, 1, "a", 10).await[0].lease;
    store.finish(ok(lease, 11)).await.expect("recorded");
    store.delete(id).await.expect("deleted");
    assert_eq!(row(&**store).await.last_job, Some(id));
    assert_eq!(store.fire(moment(20, 30, Overlap::Skip)).await, fired());
}

pub(crate) async fn a_moment_can_pass_without_a_job(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let passes = Fire { job: None, ..moment(10, 20, Overlap::Skip) };
    assert_eq!(store.fire(passes).await, Ok(Fired::Passed));
    let stands = row(&**store).await;
    assert_eq!((stands.next_at, stands.last_at, stands.last_job), (Some(at(20)), None, None));
    assert_eq!(count(&**store).await, 0);
}

pub(crate) async fn a_paused_one_waits_for_what_comes_after(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let nightly = name("nightly");
    // It was open: nothing changes.
    let open = |next: i64| ScheduleState::Open { next: Some(at(next)) };
    assert_eq!(store.set_schedule(&nightly, open(15)).await, Ok(true));
    assert_eq!(row(&**store).await.next_at, Some(at(10)));
    for _ in 0..2 {
        assert_eq!(store.set_schedule(&nightly, ScheduleState::Paused).await, Ok(true));
    }
    assert_eq!(store.fire(moment(10, 20, Overlap::Queue)).await, Ok(Fired::Stale));
    put_one(&**store, 10).await;
    assert!(row(&**store).await.paused, "a restart does not end a pause");
    assert_eq!(store.set_schedule(&nightly, open(30)).await, Ok(true));
    let stands = row(&**store).await;
    assert_eq!((stands.paused, stands.next_at), (false, Some(at(30))));
    assert_eq!(store.fire(moment(10, 20, Overlap::Queue)).await, Ok(Fired::Stale));
    assert_eq!(store.fire(moment(30, 40, Overlap::Queue)).await, fired());
    for state in [ScheduleState::Paused, open(5)] {
        assert_eq!(store.set_schedule(&name("other"), state).await, Ok(false));
    }
}

pub(crate) async fn by_hand_it_runs_at_any_time(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    store.set_schedule(&name("nightly"), ScheduleState::Paused).await.expect("paused");
    let first = by_hand(3, Overlap::Skip);
    let id = id_of(&first);
    assert_eq!(store.fire(first).await, fired());
    let expected = ScheduleRow {
        name: name("nightly"),
        paused: true,
        next_at: Some(at(10)),
        last_at: Some(at(3)),
        last_job: Some(id),
    };
    assert_eq!(row(&**store).await, expected);
    // Two at once only where the config allows it.
    assert_eq!(store.fire(by_hand(4, Overlap::Skip)).await, Ok(Fired::Skipped(id)));
    assert_eq!(row(&**store).await, expected);
    assert_eq!(store.fire(by_hand(5, Overlap::Queue)).await, fired());
    assert_eq!(count(&**store).await, 2);
    let unknown = Fire { name: name("other"), ..by_hand(5, Overlap::Queue) };
    assert_eq!(store.fire(unknown).await, Ok(Fired::Unknown));
}

pub(crate) async fn what_is_due_is_taken_though_the_task_is_full(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let full = || NewJob { admission: Some(admission(Limit::AtMost(1), 0)), ..job("a", 1) };
    put(&**store, full()).await;
    assert!(matches!(store.submit(full()).await, Ok(Submitted::Busy(_))));
    assert_eq!(store.fire(moment(10, 20, Overlap::Skip)).await, fired());
}

pub(crate) async fn one_that_is_there_already_stands_for_it(store: &Arc<dyn Store>) {
    put_one(&**store, 10).await;
    let unique = Some(Unique { value: "v".into(), on_duplicate: OnDuplicate::Return });
    let first = put(&**store, NewJob { unique: unique.clone(), ..job("a", 1) }).await;
    let job = NewJob { unique, admission: None, ..job("a", 10) };
    let fire = Fire { job: Some(job), ..moment(10, 20, Overlap::Skip) };
    assert_eq!(store.fire(fire).await, Ok(Fired::Submitted(Submitted::Duplicate(first))));
    let stands = row(&**store).await;
    assert_eq!((stands.last_job, stands.next_at), (Some(first), Some(at(20))));
    assert_eq!(store.fire(moment(20, 30, Overlap::Skip)).await, Ok(Fired::Skipped(first)));
}

//! What is known of tasks as such.

use std::collections::BTreeMap;
use std::sync::Arc;

use procession_core::job::NewJob;
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{Store, TaskCounts};

use crate::fixture::*;

pub(crate) async fn a_pause_stops_claims_and_nothing_else(store: &Arc<dyn Store>) {
    store.put_tasks(vec![task("a"), task("b")]).await.expect("known");
    assert_eq!(store.pause(&task("a"), true).await, Ok(true));
    assert_eq!(store.pause(&task("a"), true).await, Ok(true));
    // Naming it again, as a restart does, changes nothing.
    store.put_tasks(vec![task("a")]).await.expect("known");
    put(&**store, job("a", 0)).await;
    assert_eq!(take(&**store, 5, "a", 1).await, []);
    let counts = store.stats().await.expect("read");
    assert_eq!(counts[&task("a")], TaskCounts { queued: 1, paused: true, ..TaskCounts::default() });
    assert_eq!(counts[&task("b")], TaskCounts::default());
    assert_eq!(store.pause(&task("a"), false).await, Ok(true));
    assert_eq!(take(&**store, 5, "a", 1).await.len(), 1);
    assert_eq!(store.pause(&task("c"), true).await, Ok(false));
    assert_eq!(store.stats().await.expect("read").len(), 2);
}

pub(crate) async fn counts_are_those_of_the_jobs_after_a_storm(store: &Arc<dyn Store>) {
    let workers: Vec<_> = (0..8u64)
        .map(|worker| {
            let store = Arc::clone(store);
            spawn(async move { storm(&*store, worker).await })
        })
        .collect();
    for worker in workers {
        worker.await.expect("no panic");
    }
    let mut counted: BTreeMap<_, TaskCounts> = BTreeMap::new();
    for job in store.list(everything()).await.expect("listed") {
        let counts = counted.entry(job.task).or_default();
        match job.state {
            JobState::Running => counts.running += 1,
            JobState::Queued | JobState::Scheduled => counts.queued += 1,
            end => {
                counts.finished += 1;
                counts.failed += u64::from(end != JobState::Succeeded);
            }
        }
    }
    assert_eq!(store.stats().await.expect("read"), counted);
    assert_eq!(
        counted.values().map(|counts| counts.queued + counts.running + counts.finished).sum::<u64>(),
        480
    );
}

async fn storm(store: &dyn Store, worker: u64) {
    // A small linear congruential generator: the same storm every time.
    let mut dice = worker.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = move |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let tasks = [("a", Limit::AtMost(4)), ("b", Limit::Unlimited)];
    for n in 0..60 {
        let mut job = job(if roll(2) == 0 { "a" } else { "b" }, n);
        if roll(4) == 0 {
            job = NewJob { run_at: Some(at(n + 5)), expires_at: Some(at(n + 9)), ..job };
        }
        let id = put(store, job).await;
        if roll(5) == 0 {
            store.cancel(id, CancelledBy::Client, at(n)).await.expect("cancelled");
        }
        for claimed in store.claim(ask(roll(4) as usize, &tasks, n)).await.expect("claims").jobs {
            let outcome = Outcome::Exited { code: roll(2) as u8 };
            match roll(4) {
                0 => store.release(claimed.lease, None).await.map(drop),
                1 => store.release(claimed.lease, Some(at(n + 3))).await.map(drop),
                2 => Ok(()),
                _ => store.finish(ended(claimed.lease, outcome, n)).await.map(drop),
            }
            .expect("recorded");
        }
        if roll(6) == 0 {
            store.expire(at(n)).await.expect("expired");
        }
    }
}

pub(crate) async fn a_probe_changes_nothing(store: &Arc<dyn Store>) {
    put(&**store, job("a", 0)).await;
    let before = store.list(everything()).await;
    assert_eq!(store.probe().await, Ok(()));
    assert_eq!(store.list(everything()).await, before);
}

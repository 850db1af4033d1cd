//! How fast it is here. Prints figures, asserts only that all was done.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use procession_core::id::ClaimId;
use procession_core::job::NewJob;
use procession_core::limits::Limit;
use procession_store::{Applied, Claim, SqliteStore, Store};

use crate::fixture::*;

const JOBS: usize = 20_000;
const CALLERS: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submits_and_cycles_heavy() {
    let (_folder, path) = place();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("a new store"));
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let store = Arc::clone(&store);
            spawn(async move {
                for n in 0..JOBS / CALLERS {
                    assert_eq!(store.submit(job("a", n as i64)).await, Ok(taken()));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    let all = JOBS / CALLERS * CALLERS;
    report("durable submits by 256 callers", all, begun);

    let begun = Instant::now();
    let mut over = 0;
    while over < all {
        let jobs = take(&*store, 64, "a", 100).await;
        let ends: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let store = Arc::clone(&store);
                spawn(async move { store.finish(ok(job.lease, 100)).await })
            })
            .collect();
        for end in ends {
            assert_eq!(end.await.expect("no panic"), Ok(change(Applied::Applied)));
            over += 1;
        }
    }
    report("claims and finishes, 64 slots in step", all, begun);
    assert_eq!(store.stats().await.expect("read")[&task("a")].finished, all as u64);

    let begun = Instant::now();
    for n in 0..200 {
        put(&*store, job("b", n)).await;
    }
    report("durable submits one after the other", 200, begun);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(
            page(&*store, procession_store::Query { limit: 100, ..Default::default() }).await.len(),
            100
        );
    }
    report("pages of a hundred", 20, begun);
}

#[tokio::test]
async fn a_claim_passes_a_thousand_stopped_tasks_heavy() {
    let (_folder, path) = place();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("a new store"));
    let names: Vec<String> = (0..1_000).map(|n| format!("t{n}")).collect();
    for name in &names {
        let (one, two) = tokio::join!(store.submit(job(name, 0)), store.submit(job(name, 1)));
        assert_eq!((one, two), (Ok(taken()), Ok(taken())));
        if name.len() % 2 == 0 {
            store.pause(&task(name), true).await.expect("paused");
        }
    }
    for n in 0..400 {
        put(&*store, job("z", n)).await;
    }
    // Of the odd half the limit is reached by one job each.
    let mut limits: Vec<_> = names.iter().map(|name| (name.as_str(), Limit::AtMost(1))).collect();
    limits.push(("z", Limit::Unlimited));
    let full = store.claim(ask(2_000, &limits, 500)).await.expect("claims").jobs;
    assert!(full.iter().filter(|job| job.task.as_str() != "z").count() < 1_000);
    for n in 0..200 {
        put(&*store, job("z", n)).await;
    }
    let begun = Instant::now();
    for _ in 0..200 {
        assert_eq!(store.claim(ask(1, &limits, 500)).await.expect("claims").jobs.len(), 1);
    }
    report("claims of one past a thousand stopped tasks", 200, begun);
}

fn report(what: &str, how_many: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what}: {:.0}/s ({how_many} in {seconds:.2} s)", how_many as f64 / seconds);
}

/// A thousand lanes of which all but one are full, against one lane: a claim costs the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_lanes_cost_a_claim_nothing_heavy() {
    let mut cost = Vec::new();
    for lanes in [1, 1_000] {
        let (_folder, path) = place();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("a new store"));
        for batch in 0..100 {
            let submits = (0..1_000).map(|n| {
                let lane = Some(format!("lane-{}", n % lanes));
                store.submit(NewJob { lane, ..job("a", batch) })
            });
            for submitted in join_all(submits).await {
                assert_eq!(submitted, Ok(taken()));
            }
        }
        // One slot of each lane is held; of the last one it is given back.
        let mut claim = ask(lanes, &[("a", Limit::Unlimited)], 200);
        claim.tasks.values_mut().for_each(|room| room.per_lane = Limit::AtMost(1));
        let jobs = store.claim(claim.clone()).await.expect("claims").jobs;
        assert_eq!(jobs.len(), lanes);
        let mut lease = jobs[lanes - 1].lease;
        let one = Claim { free: 8, ..claim };
        store.claim(one.clone()).await.expect("the first look at all of them");
        let mut times = Vec::new();
        // As many as wait in that lane.
        for n in 0..90 {
            store.finish(ok(lease, 200)).await.expect("recorded");
            let begun = Instant::now();
            let claim_id = ClaimId([n as u8; 16]);
            let jobs = store.claim(Claim { claim_id, ..one.clone() }).await.expect("claims").jobs;
            times.push(begun.elapsed());
            assert_eq!(jobs.len(), 1, "all others are full");
            lease = jobs[0].lease;
        }
        times.sort();
        cost.push(times[times.len() / 10]);
        println!("{lanes} lanes, 100,000 queued: a claim takes {:?}", times[times.len() / 10]);
    }
    // Twice as much would be a walk over them; the disk's own pace varies by more than a tenth.
    assert!(cost[1] < cost[0] * 2, "{cost:?}");
}

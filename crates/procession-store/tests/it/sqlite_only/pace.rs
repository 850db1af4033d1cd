//! How fast it is here. Prints figures, asserts only that all was done.

use std::sync::Arc;
use std::time::Instant;

use procession_core::limits::Limit;
use procession_store::{Applied, SqliteStore, Store};

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

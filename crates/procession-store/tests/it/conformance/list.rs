//! Finding jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use procession_core::id::JobId;
use procession_core::job::{Finished, NewJob, ResultSummary};
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;
use procession_store::{Query, Standing, Store};

use crate::fixture::*;

pub(crate) async fn pages_are_newest_first_and_meet_without_gap(store: &Arc<dyn Store>) {
    let mut all = Vec::new();
    for n in 0..25 {
        all.push(put(&**store, job(["a", "b", "c"][n as usize % 3], n / 4)).await);
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    for limit in [1, 7, 25, 26] {
        let mut seen: Vec<JobId> = Vec::new();
        loop {
            let next =
                page(&**store, Query { before: seen.last().copied(), limit, ..Query::default() }).await;
            assert!(next.len() <= limit);
            if next.is_empty() {
                break;
            }
            seen.extend(next);
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    assert_eq!(page(&**store, Query { limit: 0, ..Query::default() }).await, []);
}

/// Jobs of every state but `waiting`, of two tasks, with labels.
async fn mixture(store: &dyn Store) -> Vec<JobId> {
    let mut all = Vec::new();
    for n in 0..36 {
        let name = if n % 2 == 0 { "a" } else { "b" };
        let mut job = job(name, n);
        job.labels = labels(&[("third", &(n % 3).to_string()), ("half", &(n / 18).to_string())]);
        if n % 7 == 0 {
            job.run_at = Some(at(1_000));
        }
        all.push(put(store, job).await);
    }
    let code = |code| Outcome::Exited { code };
    for n in 0..12 {
        let name = if n % 3 == 0 { "a" } else { "b" };
        let jobs = take(store, 1, name, 100).await;
        let outcome = match n % 4 {
            0 => code(0),
            1 => code(1),
            2 => Outcome::TimedOut { limit_ms: 1, code: None, signal: Some(9) },
            _ => continue,
        };
        store.finish(ended(jobs[0].lease, outcome, 100)).await.expect("recorded");
    }
    store.cancel(all[34], CancelledBy::Client, at(101)).await.expect("cancelled");
    all
}

pub(crate) async fn every_filter_alone_and_together(store: &Arc<dyn Store>) {
    let all = mixture(&**store).await;
    let jobs = store.list(everything()).await.expect("listed");
    assert_eq!(jobs.len(), all.len());
    let states =
        [vec![], vec![JobState::Running], vec![JobState::Failed, JobState::Queued], JobState::ALL.into()];
    let wanted_labels = [
        labels(&[]),
        labels(&[("third", "1")]),
        labels(&[("half", "1"), ("third", "2")]),
        labels(&[("third", "")]),
    ];
    for task in [None, Some(task("a")), Some(task("unknown"))] {
        for states in &states {
            for labels in &wanted_labels {
                for since in [None, Some(at(20))] {
                    for before in [None, Some(all[30])] {
                        for limit in [3, 100] {
                            let (task, states, labels) = (task.clone(), states.clone(), labels.clone());
                            let query =
                                Query { task, states, labels, since, before, limit, ..Query::default() };
                            let expected: Vec<JobId> = jobs
                                .iter()
                                .filter(|job| query.task.as_ref().is_none_or(|task| job.task == *task))
                                .filter(|job| query.states.is_empty() || query.states.contains(&job.state))
                                .filter(|job| query.labels.iter().all(|(k, v)| job.labels.get(k) == Some(v)))
                                .filter(|job| query.since.is_none_or(|since| job.submitted_at >= since))
                                .filter(|job| query.before.is_none_or(|before| job.id < before))
                                .take(limit)
                                .map(|job| job.id)
                                .collect();
                            assert_eq!(page(&**store, query.clone()).await, expected, "{query:?}");
                        }
                    }
                }
            }
        }
    }
    // No verb makes children or lanes yet.
    assert_eq!(page(&**store, Query { parent: Some(all[0]), ..everything() }).await, []);
    assert_eq!(page(&**store, Query { lane: Some("x".into()), ..everything() }).await, []);
}

pub(crate) async fn pages_hold_still_while_jobs_are_added(store: &Arc<dyn Store>) {
    let mut old = Vec::new();
    for n in 0..200 {
        old.push(put(&**store, job("a", n)).await);
    }
    old.reverse();
    let over = Arc::new(AtomicBool::new(false));
    let adder = {
        let (store, over) = (Arc::clone(store), Arc::clone(&over));
        spawn(async move {
            let mut n = 200;
            while !over.load(Ordering::Relaxed) {
                let id = put(&*store, job("a", n)).await;
                // The newest ones come and go while the pages are read.
                store.cancel(id, CancelledBy::Client, at(n)).await.expect("cancelled");
                n += 1;
            }
        })
    };
    for _ in 0..5 {
        let mut seen = vec![id(200)];
        while let Some(last) = seen.last().copied() {
            let query = Query { task: Some(task("a")), before: Some(last), limit: 17, ..Query::default() };
            let next = page(&**store, query).await;
            if next.is_empty() {
                break;
            }
            seen.extend(next);
        }
        let seen: Vec<_> = seen.into_iter().filter(|id| old.contains(id)).collect();
        assert_eq!(seen, old);
    }
    over.store(true, Ordering::Relaxed);
    adder.await.expect("no panic");
}

pub(crate) async fn lines_come_without_tails_and_results(store: &Arc<dyn Store>) {
    let lease = running(&**store, "a", 0).await;
    let result = ResultSummary::Inline { json: true, bytes: Bytes::from_static(b"1") };
    store.finish(Finished { result: result.clone(), ..ok(lease, 0) }).await.expect("recorded");
    let whole = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!(whole.result, result);
    let line = store.list(everything()).await.expect("listed").remove(0);
    assert_eq!(line.result, ResultSummary::None);
    let output = line.output.clone().expect("it ran");
    assert_eq!((output.stdout.total, output.stdout.tail.len()), (6, 0));
    let filled = procession_core::job::JobRecord { result, output: whole.output.clone(), ..line };
    assert_eq!(filled, whole, "all else is the same");
}

pub(crate) async fn ids_are_found_by_their_end(store: &Arc<dyn Store>) {
    let mut all = BTreeMap::new();
    for n in 0..40u8 {
        let id = JobId::new(1_800_000_000_000 + u64::from(n), [n.wrapping_mul(37); 10]);
        put(&**store, NewJob { id, ..job("a", 0) }).await;
        all.insert(id.to_string().replace('-', ""), id);
    }
    let digits: Vec<String> = all.keys().cloned().collect();
    for whole in &digits {
        for len in [0, 1, 2, 3, 7, 8, 31, 32] {
            let suffix = &whole[32 - len..];
            let newest_first: Vec<JobId> =
                all.iter().rev().filter(|(digits, _)| digits.ends_with(suffix)).map(|(_, id)| *id).collect();
            for most in [1, 2, 100] {
                let expected = &newest_first[..most.min(newest_first.len())];
                assert_eq!(store.ids_ending(suffix, most).await.expect("read"), expected, "{suffix}");
            }
        }
    }
    let upper = digits[3][24..].to_uppercase();
    assert_eq!(store.ids_ending(&upper, 5).await, Ok(vec![all[&digits[3]]]));
    for nothing in ["xyz", "-", "%", &"0".repeat(33)] {
        assert_eq!(store.ids_ending(nothing, 5).await, Ok(vec![]), "{nothing}");
    }
}

pub(crate) async fn a_position_counts_those_ahead(store: &Arc<dyn Store>) {
    put(&**store, NewJob { priority: 9, ..job("b", 0) }).await;
    let third = put(&**store, job("a", 1)).await;
    let last = put(&**store, NewJob { priority: -1, ..job("a", 0) }).await;
    let second = put(&**store, job("a", 0)).await;
    let first = put(&**store, NewJob { priority: 1, ..job("a", 5) }).await;
    let scheduled = put(&**store, NewJob { run_at: Some(at(50)), priority: 9, ..job("a", 0) }).await;
    for (ahead, id) in [first, second, third, last].into_iter().enumerate() {
        let standing = Standing { ahead: ahead as u64, ..Standing::default() };
        assert_eq!(store.standing(id).await, Ok(Some(standing)));
    }
    assert_eq!(store.standing(scheduled).await, Ok(None));
    assert_eq!(store.standing(id(0)).await, Ok(None));
    assert_eq!(take(&**store, 1, "a", 9).await[0].lease.job, first);
    assert_eq!(store.standing(first).await, Ok(None));
    assert_eq!(store.standing(second).await, Ok(Some(Standing::default())));
}

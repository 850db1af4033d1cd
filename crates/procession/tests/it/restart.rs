//! A restart with a long queue: it answers again within a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use procession_core::id::JobId;
use procession_core::job::{NewJob, StoredPayload};
use procession_store::{SqliteStore, Store, Submitted};

use crate::harness::{BOUND, Request, Server, Setup, kill, wait_for};

const TASKS: &str =
    "[limits]\nmax_running = 1\n[task.t]\ncommand = ['sleep', '600']\ngrace = '1s'\nmax_queued = 200000\n";
const JOBS: u64 = 100_000;

/// Queues jobs as the server would have, through the store itself.
fn fill(setup: &Setup) {
    let data = setup.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = Arc::new(SqliteStore::open(&data.join("procession.db")).expect("a new store"));
    runtime.block_on(async {
        for batch in 0..JOBS / 1_000 {
            let submits = (0..1_000).map(|n| store.submit(job(batch * 1_000 + n)));
            let all = join_all(submits).await;
            assert!(all.iter().all(|answer| matches!(answer, Ok(Submitted::New(_)))));
        }
    });
}

fn job(n: u64) -> NewJob {
    let now = jiff::Timestamp::now();
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    NewJob {
        payload: StoredPayload::Inline(Bytes::from(format!("{{\"image\":\"/data/{n}.jpg\",\"roof\":{n}}}"))),
        submitted_at: now,
        submitted_by: "token:default".into(),
        ..NewJob::for_testing(JobId::new(now.as_millisecond().unsigned_abs(), random), "t")
    }
}

fn queued(server: &Server) -> u64 {
    let task = server.get("/v1/tasks/t").expect(200).json();
    task["queued"].as_u64().expect("a count") + task["running"].as_u64().expect("a count")
}

#[test]
fn f01_a_restart_with_100_000_queued_jobs_takes_less_than_a_second_heavy() {
    let setup = Setup::new(TASKS);
    fill(&setup);
    // Once before, so that the program itself is not read from the disk in the measured time.
    let mut server = setup.start();
    assert_eq!(queued(&server), JOBS);
    wait_for("the first runs", BOUND, || server.get("/v1/tasks/t").expect(200).json()["running"] == 1);
    server.crash();
    let began = Instant::now();
    server.start_again();
    assert_eq!(server.get("/readyz").status, 200);
    let whole = began.elapsed();

    let before = server.server_pid();
    kill(before);
    let began = Instant::now();
    wait_for("an answer", BOUND, || {
        server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
    });
    let replaced = began.elapsed();
    // The job that ran under the keeper that was killed is lost.
    wait_for("that is recorded", BOUND, || queued(&server) == JOBS - 1);
    println!("100,000 queued jobs: a start takes {whole:?}, a new server {replaced:?}");
    assert!(whole < Duration::from_secs(1) && replaced < Duration::from_secs(1), "{whole:?}, {replaced:?}");
}

//! Ending jobs: queued, running, over, and at the moment they change.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{BOUND, Server, at_once, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 4
[task.sleep]
command = ["sleep", "600"]
[task.one]
command = ["sleep", "600"]
max_running = 1
[task.blink]
command = ["sh", "-c", "sleep 0.0$1", "sh", "{{payload.n}}"]
[task.stubborn]
command = ["sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done']
grace = "60s"
"#;

#[test]
fn a_queued_job_ends_without_ever_running() {
    let server = Server::start(TASKS);
    let first = server.running("one", Value::Null);
    let queued = server.submit("one", Value::Null);
    let answer = server.cancel(&queued);
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    let job = server.over(&queued);
    assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "client"}));
    assert_eq!(
        (&job["state"], &job["attempt"], &job["started_at"]),
        (&json!("cancelled"), &json!(0), &Value::Null)
    );
    server.cancel(&first).expect(202);
}

#[test]
fn a_running_job_gets_term_and_cancel_is_idempotent() {
    let server = Server::start(TASKS);
    let id = server.running("sleep", Value::Null);
    server.cancel(&id).expect(202);
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "client", "signal": 15}));
    assert!(job["cancel_requested_at"].is_string());
    for _ in 0..2 {
        let again = server.cancel(&id).expect(200);
        assert_eq!(again.json()["outcome"], job["outcome"]);
    }
    assert_eq!(server.job(&id), job, "nothing changed");
}

#[test]
fn a_job_that_is_over_stays_as_it_ended() {
    let server = Server::start("[task.t]\ncommand = ['sh', '-c', 'exit 3']\n");
    let job = server.run("t", Value::Null);
    let answer = server.cancel(job["id"].as_str().expect("an id")).expect(200);
    assert_eq!(answer.json(), job);
    assert!(job["cancel_requested_at"].is_null());
}

#[test]
fn now_shortens_a_grace_that_has_begun() {
    let server = Server::start(TASKS);
    let id = server.running("stubborn", Value::Null);
    wait_for("it ignores TERM", BOUND, || server.stdout(&id) == b"ready\n");
    server.cancel(&id).expect(202);
    server.cancel(&id).expect(202);
    assert_eq!(server.job(&id)["state"], "running", "it has its grace");
    server.post(&format!("/v1/jobs/{id}/cancel?now=1")).expect(202);
    assert_eq!(server.over(&id)["signal"], 9);
}

#[test]
fn f34_200_jobs_cancelled_at_random_moments_end_once_each_heavy() {
    let server = Server::start(TASKS);
    let ended = at_once(8, |lane| {
        let one = |n: usize| {
            // A few milliseconds of life, cancelled somewhere in it.
            let id = server.submit("blink", json!({"n": n % 5}));
            for _ in 0..(n * 7 + lane) % 4 {
                server.job(&id);
            }
            assert!(matches!(server.cancel(&id).status, 200 | 202));
            let first = server.over(&id);
            assert_eq!(server.cancel(&id).expect(200).json(), first, "it is final");
            first
        };
        (0..25).map(one).collect::<Vec<Value>>()
    });
    let mut states = BTreeMap::<String, usize>::new();
    for job in ended.into_iter().flatten() {
        let (state, kind) =
            (job["state"].as_str().expect("text"), job["outcome"]["kind"].as_str().expect("text"));
        assert!(matches!((state, kind), ("succeeded", "exited") | ("cancelled", "cancelled")), "{job}");
        assert!(job["attempt"].as_u64().is_some_and(|attempt| attempt <= 1), "{job}");
        *states.entry(state.into()).or_default() += 1;
    }
    assert_eq!(states.values().sum::<usize>(), 200);
    assert!(states.contains_key("cancelled"), "{states:?}");
    let task = server.get("/v1/tasks/blink").json();
    assert_eq!((&task["finished"], &task["running"], &task["queued"]), (&json!(200), &json!(0), &json!(0)));
    assert_eq!(server.processes(), Vec::<u32>::new());
}

#[test]
fn f34_50_clients_cancel_one_job() {
    let server = Server::start(TASKS);
    let id = server.running("sleep", Value::Null);
    let statuses = at_once(50, |_| server.cancel(&id).status);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 202)), "{statuses:?}");
    assert_eq!(server.over(&id)["outcome"], json!({"kind": "cancelled", "by": "client", "signal": 15}));
}

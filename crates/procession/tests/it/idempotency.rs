//! The same key is the same job, however often and however quickly it is sent.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Request, Response, Server, at_once};

const TASKS: &str = r#"
[limits]
max_running = 16
[task.t]
command = ["sh", "-c", 'echo x >> ran; cat']
[task.other]
command = ["true"]
[task.keyed]
command = ["true"]
idempotency_key = "{{payload.requestId}}"
[task.small]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done']
max_running = 1
max_queued = 0
[task.bytes]
command = ["cat"]
body = "bytes"
max_body = "1MiB"
"#;

fn send(server: &Server, task: &str, key: &str, payload: &Value) -> Response {
    server.send(&Request::submit(task, payload).header("Idempotency-Key", key))
}

#[test]
fn a_replay_is_the_first_job_and_says_so() {
    let server = Server::start(TASKS);
    let first = send(&server, "t", "k1", &json!({"n": 1})).expect(202);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = send(&server, "t", "k1", &json!({"n": 1}));
    assert!(matches!(again.status, 200 | 202), "{again:?}");
    assert_eq!((again.job_id(), again.header("idempotency-replayed")), (first.job_id(), Some("true")));
    server.over(&first.job_id());
    let later = send(&server, "t", "k1", &json!({"n": 1}));
    assert_eq!((later.job_id(), &later.json()["state"]), (first.job_id(), &json!("succeeded")));
    let other = send(&server, "t", "k2", &json!({"n": 1})).expect(202);
    assert_ne!(other.job_id(), first.job_id());
    assert_eq!(server.all_jobs("").len(), 2);
}

#[test]
fn the_same_key_with_another_body_is_a_conflict() {
    let server = Server::start(TASKS);
    let first = send(&server, "t", "k", &json!({"n": 1})).expect(202);
    let conflict = send(&server, "t", "k", &json!({"n": 2}));
    assert_eq!(conflict.problem(), (422, "idempotency_conflict".into()));
    assert!(conflict.json()["detail"].as_str().expect("text").contains(&first.job_id()));
    assert_eq!(server.all_jobs("").len(), 1);
}

#[test]
fn keys_of_different_tasks_do_not_meet() {
    let server = Server::start(TASKS);
    let first = send(&server, "t", "k", &json!({})).expect(202);
    let other = send(&server, "other", "k", &json!({}));
    assert_ne!(first.job_id(), other.expect(202).job_id());
}

#[test]
fn a_retry_of_a_replay_still_finds_it_after_a_restart() {
    let mut server = Server::start(TASKS);
    let first = send(&server, "t", "k", &json!({})).expect(202).job_id();
    server.over(&first);
    server.stop();
    server.start_again();
    let again = send(&server, "t", "k", &json!({}));
    assert_eq!((again.job_id(), again.header("idempotency-replayed")), (first, Some("true")));
}

#[test]
fn f15_50_at_once_are_one_job_that_runs_once() {
    let server = Server::start(TASKS);
    let answers = at_once(50, |_| send(&server, "t", "storm", &json!({"n": 1})));
    let ids: BTreeSet<String> = answers.iter().map(Response::job_id).collect();
    assert_eq!(ids.len(), 1);
    let replays =
        answers.iter().filter(|answer| answer.header("idempotency-replayed") == Some("true")).count();
    assert_eq!(replays, 49);
    server.over(ids.first().expect("one"));
    assert_eq!(std::fs::read_to_string(server.path().join("ran")).expect("it ran"), "x\n");
    assert_eq!(server.all_jobs("").len(), 1);
}

#[test]
fn the_config_can_take_the_key_from_the_request() {
    let server = Server::start(TASKS);
    let submit =
        |id: &str, extra: u8| server.send(&Request::submit("keyed", &json!({"requestId": id, "x": extra})));
    let first = submit("a", 1).expect(202);
    let again = submit("a", 1);
    assert_eq!((again.job_id(), again.header("idempotency-replayed")), (first.job_id(), Some("true")));
    assert_eq!(submit("a", 2).problem().1, "idempotency_conflict");
    assert_ne!(submit("b", 1).expect(202).job_id(), first.job_id());
    let missing = server.send(&Request::submit("keyed", &json!({})));
    assert_eq!(missing.problem(), (422, "invalid_argument".into()));
}

#[test]
fn a_replay_is_answered_also_when_the_task_is_full() {
    let server = Server::start(TASKS);
    let first = send(&server, "small", "k", &json!({})).expect(202).job_id();
    server.reaches(&first, "running");
    assert_eq!(send(&server, "small", "k", &json!({})).job_id(), first);
    assert_eq!(send(&server, "small", "new", &json!({})).problem(), (429, "busy".into()));
    std::fs::write(server.path().join("go"), "").expect("written");
    server.over(&first);
    send(&server, "small", "new", &json!({})).expect(202);
}

#[test]
fn a_replayed_upload_leaves_no_second_file() {
    let server = Server::start(TASKS);
    let upload = || {
        let request = Request::post("/v1/tasks/bytes/jobs").header("Idempotency-Key", "k");
        server.send(&request.body("application/octet-stream", vec![3; 500_000]))
    };
    let first = upload().expect(202).job_id();
    assert_eq!(upload().job_id(), first);
    server.over(&first);
    let count = |folder: &str| std::fs::read_dir(server.data().join(folder)).expect("readable").count();
    assert_eq!((count("jobs"), count("incoming")), (1, 0));
    assert_eq!(server.stdout(&first).len(), 500_000);
}

#[test]
fn a_key_is_1_to_255_characters() {
    let server = Server::start(TASKS);
    assert_eq!(send(&server, "t", "", &json!({})).problem(), (400, "invalid_header".into()));
    assert_eq!(send(&server, "t", &"x".repeat(256), &json!({})).problem(), (400, "invalid_header".into()));
    assert_eq!(send(&server, "t", &"x".repeat(255), &json!({})).status, 202);
}

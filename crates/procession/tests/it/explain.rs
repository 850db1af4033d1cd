//! What is known of a job while it waits, runs, and when it is over: progress, and the answer
//! to "why?".

use std::fs;

use serde_json::{Value, json};

use crate::harness::{BOUND, Server, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 2
[task.steps]
command = ["sh", "-c", '''
printf '0.4 roof left\n' >> "$PROCESSION_PROGRESS"
while [ ! -e go ]; do sleep 0.02; done
printf '0.7 roof right\nnonsense\n0.9' >> "$PROCESSION_PROGRESS"
while [ ! -e on ]; do sleep 0.02; done
printf ' wheels\n' >> "$PROCESSION_PROGRESS"
''']
timeout = "5m"
[task.one]
command = ["sleep", "600"]
max_running = 1
[task.free]
command = ["sleep", "600"]
[task.fails]
command = ["sh", "-c", "exit 3"]
[task.slow]
command = ["sleep", "600"]
timeout = "200ms"
"#;

fn explain(server: &Server, id: &str) -> Value {
    let explanation = server.get(&format!("/v1/jobs/{id}/explain")).expect(200).json();
    assert!(explanation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{explanation}");
    assert_eq!((&explanation["id"], explanation["state"].is_string()), (&json!(id), true));
    explanation
}

#[test]
fn progress_is_visible_while_the_job_runs_and_afterwards() {
    let server = Server::start(TASKS);
    let id = server.submit("steps", Value::Null);
    let progress = || server.job(&id)["progress"].clone();
    wait_for("the first step", BOUND, || progress() == json!({"fraction": 0.4, "message": "roof left"}));
    fs::write(server.path().join("go"), "").expect("written");
    wait_for("the second step", BOUND, || progress() == json!({"fraction": 0.7, "message": "roof right"}));
    fs::write(server.path().join("on"), "").expect("written");
    let job = server.over(&id);
    assert_eq!(
        job["progress"],
        json!({"fraction": 0.9, "message": "wheels"}),
        "half a line is none until it ends"
    );
}

#[test]
fn a_running_job_is_explained_by_its_process_and_deadline() {
    let server = Server::start(TASKS);
    let id = server.running("steps", Value::Null);
    wait_for("it is started", BOUND, || explain(&server, &id)["pid"].is_u64());
    let explanation = explain(&server, &id);
    let pid = explanation["pid"].as_u64().expect("a pid") as u32;
    assert!(server.processes_of(&id).contains(&pid), "{explanation}");
    assert!(explanation["deadline"].is_string(), "{explanation}");
    server.cancel(&id).expect(202);
    server.over(&id);
}

#[test]
fn a_queued_job_is_explained_by_what_it_waits_for() {
    let server = Server::start(TASKS);
    let first = server.running("one", Value::Null);
    let (second, third) = (server.submit("one", Value::Null), server.submit("one", Value::Null));
    let explained = [&second, &third].map(|id| explain(&server, id));
    assert_eq!(explained[0]["waits_for"], "task_limit", "{}", explained[0]);
    let position = |n: usize| explained[n]["position"].as_u64().unwrap_or_else(|| panic!("{}", explained[n]));
    assert_eq!((position(0), position(1)), (0, 1), "jobs ahead of it");

    let free = server.running("free", Value::Null);
    let waits = server.submit("free", Value::Null);
    assert_eq!(explain(&server, &waits)["waits_for"], "node_slot");
    server.post("/v1/tasks/free/pause").expect(200);
    assert_eq!(explain(&server, &waits)["waits_for"], "task_paused");
    for id in [third, second, waits, free, first] {
        server.cancel(&id);
    }
}

#[test]
fn a_scheduled_job_is_explained_by_its_time() {
    let server = Server::start(TASKS);
    let id = server.post("/v1/tasks/fails/jobs?delay=1h").expect(202).job_id();
    let explanation = explain(&server, &id);
    assert_eq!((&explanation["state"], &explanation["waits_for"]), (&json!("scheduled"), &json!("run_at")));
    assert!(explanation["run_at"].is_string());
    server.cancel(&id);
}

#[test]
fn an_ended_job_is_explained_by_its_outcome() {
    let server = Server::start(TASKS);
    let failed = server.run("fails", Value::Null);
    let explanation = explain(&server, failed["id"].as_str().expect("an id"));
    assert_eq!(explanation["outcome"], failed["outcome"]);
    assert!(explanation["summary"].as_str().expect("text").contains('3'));

    let slow = server.run("slow", Value::Null);
    let explanation = explain(&server, slow["id"].as_str().expect("an id"));
    assert!(explanation["summary"].as_str().expect("text").contains("200"), "{explanation}");

    let cancelled = server.running("free", Value::Null);
    server.cancel(&cancelled).expect(202);
    server.over(&cancelled);
    let explanation = explain(&server, &cancelled);
    assert_eq!(explanation["outcome"]["by"], "client", "who ended it: {explanation}");
}

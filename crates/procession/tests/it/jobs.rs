//! Jobs as a list and one by one: filters, pages, waiting, deleting, doing again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{End, Request, Server, at_once};

const TASKS: &str = r#"
[limits]
max_running = 32
[task.a]
command = ["sh", "-c", 'echo "$1"', "sh", "{{payload.n:-0}}"]
labels = { n = "{{payload.n:-0}}", kind = "a" }
[task.fails]
command = ["sh", "-c", "echo no >&2; exit 4"]
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done']
max_running = 1
"#;

fn ids(jobs: &[Value]) -> Vec<String> {
    jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn the_list_is_newest_first_and_without_tails_and_results() {
    let server = Server::start(TASKS);
    let made: Vec<String> = (0..5).map(|n| server.submit("a", json!({"n": n}))).collect();
    made.iter().for_each(|id| drop(server.over(id)));
    let listed = server.all_jobs("");
    let mut newest_first = made;
    newest_first.reverse();
    assert_eq!(ids(&listed), newest_first);
    for job in &listed {
        assert!(job["result"].is_null(), "{job}");
        let tail = &job["output"]["stdout_tail"];
        assert!(tail.is_null() || tail == "", "{job}");
    }
}

#[test]
fn filters_by_task_state_and_label() {
    let server = Server::start(TASKS);
    for n in 0..3 {
        server.run("a", json!({"n": n}));
    }
    server.run("fails", Value::Null);
    let running = server.running("gate", Value::Null);
    let queued = server.submit("gate", Value::Null);
    let count = |query: &str| server.all_jobs(query).len();
    assert_eq!((count("task=a"), count("task=fails"), count("task=nobody")), (3, 1, 0));
    assert_eq!((count("state=succeeded"), count("state=failed"), count("state=failed,succeeded")), (3, 1, 4));
    assert_eq!(ids(&server.all_jobs("state=running")), [running.as_str()]);
    assert_eq!(ids(&server.all_jobs("state=queued")), [queued.as_str()]);
    assert_eq!((count("label.n=1"), count("label.kind=a"), count("label.kind=a&label.n=2")), (1, 3, 1));
    assert_eq!((count("label.n=7"), count("label.x=1"), count("label.n=1&label.kind=b")), (0, 0, 0));
    assert_eq!(
        (count("task=a&state=failed"), count("since=1h"), count("since=2099-01-01T00:00:00Z")),
        (0, 6, 0)
    );
    for id in [queued, running] {
        server.cancel(&id);
        server.over(&id);
    }
}

#[test]
fn pages_hold_every_job_once_while_others_are_submitted_heavy() {
    let server = Server::start(TASKS);
    let before: BTreeSet<String> = (0..120).map(|n| server.submit("a", json!({"n": n}))).collect();
    let done = AtomicBool::new(false);
    let pages = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                server.submit("a", json!({"n": 1}));
            }
        });
        let _ends = End(&done);
        (0..5).map(|_| ids(&server.all_jobs("limit=7"))).collect::<Vec<Vec<String>>>()
    });
    for seen in pages {
        let set: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(set.len(), seen.len(), "no job twice");
        assert!(before.is_subset(&set), "none missing");
        assert!(seen.is_sorted_by(|a, b| a > b), "newest first over all pages");
    }
}

#[test]
fn a_page_is_as_large_as_asked_and_the_last_has_no_cursor() {
    let server = Server::start(TASKS);
    for n in 0..6 {
        server.submit("a", json!({"n": n}));
    }
    let first = server.get("/v1/jobs?limit=6").expect(200).json();
    assert_eq!((first["items"].as_array().expect("items").len(), &first["next_cursor"]), (6, &Value::Null));
    let first = server.get("/v1/jobs?limit=5").expect(200).json();
    assert_eq!(first["items"].as_array().expect("items").len(), 5);
    let cursor = first["next_cursor"].as_str().expect("more");
    let second = server.get(&format!("/v1/jobs?limit=5&cursor={cursor}")).expect(200).json();
    assert_eq!((second["items"].as_array().expect("items").len(), &second["next_cursor"]), (1, &Value::Null));
}

#[test]
fn a_job_can_be_waited_for() {
    let server = Server::start(TASKS);
    let id = server.submit("gate", Value::Null);
    let began = Instant::now();
    let early = server.get(&format!("/v1/jobs/{id}?wait=1")).expect(200).json();
    assert!(began.elapsed() >= Duration::from_millis(900) && early["state"] != "succeeded", "{early}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.get(&format!("/v1/jobs/{id}?wait=30")).expect(200).json());
        std::fs::write(server.path().join("go"), "").expect("written");
        assert_eq!(waiting.join().expect("no panic")["state"], "succeeded");
    });
    let began = Instant::now();
    server.get(&format!("/v1/jobs/{id}?wait=30")).expect(200);
    assert!(began.elapsed() < Duration::from_secs(2), "what is over is not waited for");
}

#[test]
fn prefer_wait_answers_with_the_finished_job_or_202() {
    let server = Server::start(TASKS);
    let submit =
        |task: &str, prefer: &str| server.send(&Request::submit(task, &json!({})).header("Prefer", prefer));
    let finished = submit("fails", "wait=20").expect(200);
    assert_eq!((&finished.json()["state"], &finished.json()["exit_code"]), (&json!("failed"), &json!(4)));
    assert_eq!(finished.json()["output"]["stderr_tail"], "no\n");
    assert_eq!(finished.header("preference-applied"), Some("wait=20"));
    assert_eq!(finished.header("location"), Some(format!("/v1/jobs/{}", finished.job_id()).as_str()));
    let unfinished = submit("gate", "respond-async, wait=1").expect(202);
    assert_eq!(unfinished.header("preference-applied"), Some("wait=1"));
    assert_eq!(submit("a", "wait=9999").expect(200).header("preference-applied"), Some("wait=60"));
    assert_eq!(submit("a", "handling=strict").expect(202).header("preference-applied"), None);
    server.cancel(&unfinished.job_id());
}

#[test]
fn a_new_job_has_every_field_of_the_contract() {
    let server = Server::start(TASKS);
    let answer = server.send(&Request::submit("gate", &json!({}))).expect(202);
    let job = answer.json();
    let fields: Vec<&str> = job.as_object().expect("a job").keys().map(String::as_str).collect();
    for field in [
        "id",
        "task",
        "state",
        "attempt",
        "max_attempts",
        "outcome",
        "exit_code",
        "signal",
        "submitted_at",
        "run_at",
        "started_at",
        "finished_at",
        "queued_ms",
        "run_ms",
        "cancel_requested_at",
        "progress",
        "usage",
        "output",
        "result",
        "parent",
        "children",
        "retry_of",
        "lane",
        "labels",
        "priority",
        "submitted_by",
        "node",
        "config_revision",
        "containment",
        "leaked_processes",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert_eq!(job["submitted_by"], "token:default");
    assert!(job["submitted_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    let id = answer.job_id();
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUIDv7");
    server.cancel(&id);
}

#[test]
fn retry_is_a_new_job_with_the_same_body() {
    let server = Server::start(TASKS);
    let first = server.run("fails", json!({"x": " é "}));
    let id = first["id"].as_str().expect("an id");
    let answer = server.post(&format!("/v1/jobs/{id}/retry")).expect(202);
    let again = server.over(&answer.job_id());
    assert_ne!(again["id"], first["id"]);
    assert_eq!((&again["retry_of"], &again["exit_code"]), (&first["id"], &json!(4)));
    let payload = |id: &Value| {
        server.get(&format!("/v1/jobs/{}/payload", id.as_str().expect("an id"))).expect(200).body
    };
    assert_eq!(payload(&again["id"]), payload(&first["id"]));
    assert_eq!(server.job(id), first, "final stays final");
}

#[test]
fn retry_keeps_a_body_that_is_a_file() {
    let config = "[task.t]\ncommand = ['sha256sum']\nbody = 'bytes'\nmax_body = '2MiB'\n";
    let server = Server::start(config);
    let first = server.run_bytes("t", "application/octet-stream", vec![7; 1_500_000]);
    let first_id = first["id"].as_str().expect("an id").to_owned();
    let sum = server.stdout(&first_id);
    let again = server.post(&format!("/v1/jobs/{first_id}/retry")).expect(202).job_id();
    server.send(&Request::new("DELETE", format!("/v1/jobs/{first_id}"))).expect(204);
    server.over(&again);
    assert_eq!(server.stdout(&again), sum);
}

#[test]
fn an_unfinished_job_can_be_neither_retried_nor_deleted() {
    let server = Server::start(TASKS);
    let running = server.running("gate", Value::Null);
    let queued = server.submit("gate", Value::Null);
    for id in [&running, &queued] {
        assert_eq!(server.post(&format!("/v1/jobs/{id}/retry")).problem(), (409, "not_finished".into()));
        let delete = Request::new("DELETE", format!("/v1/jobs/{id}"));
        assert_eq!(server.send(&delete).problem(), (409, "not_finished".into()));
    }
    server.cancel(&queued);
    server.cancel(&running);
}

#[test]
fn a_deleted_job_is_gone_with_its_files() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'head -c 100000 /dev/zero; echo x > $PROCESSION_ARTIFACTS/x']\nbody = 'bytes'\n";
    let server = Server::start(config);
    let job = server.run_bytes("t", "application/octet-stream", vec![1; 200_000]);
    let id = job["id"].as_str().expect("an id");
    let files = || std::fs::read_dir(server.data().join("jobs")).expect("readable").count();
    assert_eq!(files(), 1);
    let delete = Request::new("DELETE", format!("/v1/jobs/{id}"));
    let answer = server.send(&delete).expect(204);
    assert!(answer.body.is_empty());
    assert_eq!(files(), 0);
    assert_eq!(server.send(&delete).problem(), (404, "unknown_job".into()));
    for path in ["", "/stdout", "/payload", "/artifacts", "/artifacts/x"] {
        assert_eq!(server.get(&format!("/v1/jobs/{id}{path}")).problem().0, 404, "{path}");
    }
    assert!(server.all_jobs("").is_empty());
}

#[test]
fn ids_are_unique_and_each_of_many_submits_is_one_job_heavy() {
    let server = Server::start(TASKS);
    let made = at_once(8, |_| (0..25).map(|n| server.submit("a", json!({"n": n}))).collect::<Vec<_>>());
    let made: BTreeSet<String> = made.into_iter().flatten().collect();
    assert_eq!(made.len(), 200);
    for id in &made {
        assert_eq!(server.over(id)["exit_code"], 0);
    }
    assert_eq!(server.get("/v1/tasks/a").json()["finished"], 200);
}

#[test]
fn payload_and_attempts_of_a_job() {
    let server = Server::start(TASKS);
    let job = server.run("fails", json!({"x": 1}));
    let id = job["id"].as_str().expect("an id");
    let payload = server.get(&format!("/v1/jobs/{id}/payload")).expect(200);
    assert_eq!(
        (payload.body.as_slice(), payload.header("content-type")),
        (b"{\"x\":1}".as_slice(), Some("application/json"))
    );
    let attempts = server.get(&format!("/v1/jobs/{id}/attempts")).expect(200).json();
    let attempts = attempts["items"].as_array().expect("items").clone();
    assert_eq!(attempts.len(), 1);
    assert_eq!((&attempts[0]["attempt"], &attempts[0]["exit_code"]), (&json!(1), &json!(4)));
    assert_eq!(attempts[0]["outcome"], job["outcome"]);
}

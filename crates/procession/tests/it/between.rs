//! What comes between accepted and done: attempts that follow each other, lanes, jobs that are
//! unique, and rates.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Request, Server, at_once, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 8
[task.flaky]
command = ["sh", "-c", 'echo "attempt $PROCESSION_ATTEMPT"; [ "$PROCESSION_ATTEMPT" -ge 3 ] || exit 75']
retry = { max_attempts = 5, on = ["exit:75"], backoff = "20ms" }
[task.hopeless]
command = ["sh", "-c", "exit 75"]
retry = { max_attempts = 3, on = "failed", backoff = "10ms" }
[task.patient]
command = ["sh", "-c", "exit 75"]
retry = { max_attempts = 2, on = "exit:75", backoff = "1h", max_backoff = "1h" }
[task.late]
command = ["sleep", "600"]
timeout = "50ms"
retry = { max_attempts = 2, on = "timed_out", backoff = "10ms" }
[task.gate]
command = ["sh", "-c", 'while [ ! -e "$1" ]; do sleep 0.01; done', "sh", "{{payload.gate:-go}}"]
lane = "{{payload.lane:-none}}"
max_running_per_lane = 1
[task.free]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.01; done']
max_running_per_lane = 1
[task.first]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.01; done']
unique = "{{payload.id}}"
max_running = 1
[task.newest]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.01; done']
unique = "{{payload.id}}"
on_duplicate = "replace_queued"
max_running = 1
[task.instead]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.01; done']
unique = "{{payload.id}}"
on_duplicate = "cancel_running"
[task.rated]
command = ["true"]
rate = "5/m"
"#;

fn go(server: &Server) {
    std::fs::write(server.path().join("go"), "").expect("written");
}

fn explain(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/jobs/{id}/explain")).expect(200).json()
}

#[test]
fn attempts_follow_each_other_until_one_is_good_and_each_keeps_its_own() {
    let server = Server::start(TASKS);
    let job = server.run("flaky", Value::Null);
    assert_eq!(
        (&job["state"], &job["attempt"], &job["max_attempts"]),
        (&json!("succeeded"), &json!(3), &json!(5))
    );
    let id = job["id"].as_str().expect("an id");
    let attempts = server.get(&format!("/v1/jobs/{id}/attempts")).expect(200).json();
    let codes: Vec<&Value> =
        attempts["items"].as_array().expect("a list").iter().map(|attempt| &attempt["exit_code"]).collect();
    assert_eq!(codes, [75, 75, 0]);
    for n in 1..=3 {
        let stdout = server.get(&format!("/v1/jobs/{id}/stdout?attempt={n}")).expect(200);
        assert_eq!(stdout.body, format!("attempt {n}\n").as_bytes());
    }
}

#[test]
fn the_last_attempts_end_is_the_jobs() {
    let server = Server::start(TASKS);
    let job = server.run("hopeless", Value::Null);
    assert_eq!(
        (&job["outcome"], &job["attempt"]),
        (&json!({"kind": "exited", "code": 75}), &json!(3)),
        "{job}"
    );
    let job = server.run("late", Value::Null);
    assert_eq!((&job["outcome"]["kind"], &job["attempt"]), (&json!("timed_out"), &json!(2)), "{job}");
}

#[test]
fn f34_a_cancel_between_two_attempts_is_the_end() {
    let server = Server::start(TASKS);
    let id = server.submit("patient", Value::Null);
    let job = server.reaches(&id, "scheduled");
    assert_eq!((&job["attempt"], &job["outcome"]), (&json!(1), &Value::Null), "{job}");
    let why = explain(&server, &id);
    assert_eq!(why["waits_for"], "retry", "{why}");
    let answers = at_once(8, |_| server.post(&format!("/v1/jobs/{id}/cancel")).status);
    assert!(answers.iter().all(|status| [200, 202].contains(status)), "{answers:?}");
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "client"}), "{job}");
    let task = server.get("/v1/tasks/patient").json();
    assert_eq!((&task["queued"], &task["finished"]), (&json!(0), &json!(1)), "{task}");
}

#[test]
fn what_was_lost_is_tried_again_where_the_config_says_so() {
    let config = "[task.t]\ncommand = [\"sh\", \"-c\", 'while [ ! -e go ]; do sleep 0.01; done']\nretry = { max_attempts = 1, on = \"lost\", backoff = \"10ms\" }\n";
    let mut server = Server::start(config);
    let id = server.running("t", Value::Null);
    server.crash();
    server.start_again();
    let job = server.reaches(&id, "running");
    assert_eq!(job["attempt"], 2, "{job}");
    go(&server);
    let job = server.over(&id);
    assert_eq!((&job["state"], &job["max_attempts"]), (&json!("succeeded"), &json!(1)), "{job}");
    let attempts = server.get(&format!("/v1/jobs/{id}/attempts")).expect(200).json();
    assert_eq!(attempts["items"][0]["outcome"], json!({"kind": "lost", "reason": "keeper_died"}));
}

#[test]
fn a_full_lane_holds_up_no_other() {
    let server = Server::start(TASKS);
    let held = server.running("gate", json!({"lane": "a"}));
    let behind: Vec<String> = (0..20).map(|_| server.submit("gate", json!({"lane": "a"}))).collect();
    let other = server.running("gate", json!({"lane": "b"}));
    let why = explain(&server, &behind[0]);
    assert_eq!((&why["waits_for"], &why["position"]), (&json!("lane_limit"), &json!(0)), "{why}");
    let listed = server.get("/v1/jobs?lane=a&state=queued").json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(20));
    go(&server);
    for id in behind.iter().chain([&held, &other]) {
        assert_eq!(server.over(id)["state"], "succeeded");
    }
}

#[test]
fn clients_name_lanes_where_the_config_does_not() {
    let server = Server::start(TASKS);
    let submit = |task: &str| server.send(&Request::post(format!("/v1/tasks/{task}/jobs?lane=mine")));
    let first = submit("free").expect(202).job_id();
    server.reaches(&first, "running");
    let second = submit("free").expect(202);
    assert_eq!(second.json()["lane"], "mine");
    assert_eq!(explain(&server, &second.job_id())["waits_for"], "lane_limit");
    assert_eq!(submit("gate").status, 400);
    go(&server);
    server.over(&second.job_id());
}

#[test]
fn the_first_of_two_equal_jobs_is_the_answer() {
    let server = Server::start(TASKS);
    let first = server.submit("first", json!({"id": 1}));
    let answer = server.send(&Request::submit("first", &json!({"id": 1, "more": true}))).expect(202);
    assert_eq!((answer.job_id(), answer.header("idempotency-replayed")), (first.clone(), None));
    let ids = at_once(8, |_| server.submit("first", json!({"id": 2})));
    assert!(ids.iter().all(|id| *id == ids[0] && *id != first), "{ids:?}");
    go(&server);
    server.over(&first);
    server.over(&ids[0]);
    assert_ne!(server.submit("first", json!({"id": 1})), first, "it is over");
}

#[test]
fn the_newest_takes_the_place_of_one_that_waits() {
    let server = Server::start(TASKS);
    let runs = server.running("newest", json!({"id": 1}));
    let waits = server.submit("newest", json!({"id": 1}));
    let newest = server.submit("newest", json!({"id": 1}));
    assert_eq!(server.over(&waits)["outcome"], json!({"kind": "cancelled", "by": "replaced"}));
    assert_eq!(server.job(&runs)["state"], "running");
    go(&server);
    assert_eq!(server.over(&runs)["state"], "succeeded");
    assert_eq!(server.over(&newest)["state"], "succeeded");
}

#[test]
fn the_newest_takes_the_place_of_one_that_runs() {
    let server = Server::start(TASKS);
    let runs = server.running("instead", json!({"id": 1}));
    let newest = server.submit("instead", json!({"id": 1}));
    assert_eq!(server.over(&runs)["outcome"], json!({"kind": "cancelled", "by": "replaced", "signal": 15}));
    go(&server);
    assert_eq!(server.over(&newest)["state"], "succeeded");
}

#[test]
fn more_than_the_rate_is_refused_until_exactly_when_it_says() {
    let server = Server::start(TASKS);
    let began = Instant::now();
    for _ in 0..5 {
        server.submit("rated", Value::Null);
    }
    let answer = server.send(&Request::submit("rated", &Value::Null));
    assert_eq!(answer.problem(), (429, "busy".to_owned()));
    let told: u64 = answer.header("retry-after").expect("when").parse().expect("seconds");
    assert!((10..=12).contains(&told), "one in 12 s: {told}, {:?}", began.elapsed());
    wait_for("a place is free for the next", Duration::from_secs(20), || {
        let answer = server.send(&Request::submit("rated", &Value::Null));
        assert!(answer.status == 202 || began.elapsed() < Duration::from_millis(12_500), "{answer:?}");
        answer.status == 202
    });
    assert!(began.elapsed() >= Duration::from_millis(11_500), "{:?}", began.elapsed());
}

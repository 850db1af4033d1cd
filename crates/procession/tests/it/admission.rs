//! How many may run, how many may wait, who goes first, and what a refused client is told.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Response, Server, at_once, wait_for};

const GATE: &str = r#"command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done']"#;

fn open(server: &Server) {
    fs::write(server.path().join("go"), "").expect("written");
}

fn submit(server: &Server, task: &str) -> Response {
    server.send(&Request::submit(task, &json!({})))
}

#[track_caller]
fn assert_busy(answer: &Response) {
    assert_eq!(answer.problem(), (429, "busy".into()));
    let wait: u64 = answer.header("retry-after").expect("when to come").parse().expect("whole seconds");
    assert!((1..=3_600).contains(&wait), "{wait}");
}

#[test]
fn f25_limits_are_exact_under_50_submits_at_once_heavy() {
    let server = Server::start(&format!(
        "[limits]\nmax_running = 32\n[task.t]\n{GATE}\nmax_running = 3\nmax_queued = 5\n"
    ));
    let answers = at_once(50, |_| submit(&server, "t"));
    let mut statuses = BTreeMap::<u16, usize>::new();
    for answer in &answers {
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(202, 8), (429, 42)]));
    answers.iter().filter(|answer| answer.status == 429).for_each(assert_busy);
    wait_for("three run", BOUND, || server.get("/v1/tasks/t").json()["running"] == 3);
    assert_eq!(server.get("/v1/tasks/t").json()["queued"], 5);
    assert_eq!(server.get("/v1/tasks/t").json()["limits"], json!({"max_running": 3, "max_queued": 5}));
    open(&server);
    for answer in answers.iter().filter(|answer| answer.status == 202) {
        assert_eq!(server.over(&answer.job_id())["exit_code"], 0);
    }
    assert_eq!(server.all_jobs("").len(), 8);
}

#[test]
fn without_a_waiting_room_a_free_slot_is_needed() {
    let server = Server::start(&format!("[task.t]\n{GATE}\nmax_running = 2\nmax_queued = 0\n"));
    let accepted = [submit(&server, "t").expect(202), submit(&server, "t").expect(202)];
    assert_busy(&submit(&server, "t"));
    open(&server);
    server.over(&accepted[0].job_id());
    server.over(&accepted[1].job_id());
    submit(&server, "t").expect(202);
}

#[test]
fn never_more_run_at_once_than_the_task_and_the_node_allow_heavy() {
    let config = r#"
[limits]
max_running = 5
[task.two]
command = ["sh", "-c", 'mkdir two.$$; ls -d two.* | wc -l; sleep 0.02; rmdir two.$$']
max_running = 2
[task.any]
command = ["sh", "-c", 'mkdir any.$$; ls -d any.* two.* 2>/dev/null | wc -l; sleep 0.02; rmdir any.$$']
"#;
    let server = Server::start(config);
    let ids: Vec<_> = (0..60).map(|n| submit(&server, ["two", "any"][n % 2]).expect(202).job_id()).collect();
    let most = |task: &str| {
        let jobs = server.all_jobs(&format!("task={task}"));
        let seen = jobs.iter().map(|job| {
            let text = String::from_utf8(server.stdout(job["id"].as_str().expect("an id"))).expect("text");
            text.trim().parse::<u64>().expect("a count")
        });
        seen.max().expect("jobs")
    };
    ids.iter().for_each(|id| assert_eq!(server.over(id)["exit_code"], 0));
    assert!(most("two") <= 2, "{}", most("two"));
    assert!((2..=5).contains(&most("any")), "{}", most("any"));
}

#[test]
fn higher_priority_starts_sooner_and_equals_in_their_order() {
    let config =
        "[task.t]\ncommand = ['sh', '-c', 'echo $1 >> order', 'sh', '{{payload.n}}']\nmax_running = 1\n";
    let server = Server::start(config);
    server.post("/v1/tasks/t/pause").expect(200);
    let submit = |n: i32, priority: &str| {
        let target = format!("/v1/tasks/t/jobs?priority={priority}");
        let answer = server.send(&Request::post(target).json(&json!({"n": n}))).expect(202);
        assert_eq!(answer.json()["priority"], json!(priority.parse::<i32>().expect("a number")));
        answer.job_id()
    };
    let order = [(1, "0"), (2, "-100"), (3, "100"), (4, "0"), (5, "7"), (6, "100")];
    let ids: Vec<String> = order.iter().map(|(n, priority)| submit(*n, priority)).collect();
    server.post("/v1/tasks/t/resume").expect(200);
    ids.iter().for_each(|id| drop(server.over(id)));
    assert_eq!(fs::read_to_string(server.path().join("order")).expect("they ran"), "3\n6\n5\n1\n4\n2\n");
}

#[test]
fn a_paused_task_takes_jobs_and_starts_none_and_what_runs_runs_on() {
    let server = Server::start(&format!("[task.t]\n{GATE}\nmax_running = 4\n"));
    let running = server.running("t", Value::Null);
    let paused = server.post("/v1/tasks/t/pause").expect(200).json();
    assert_eq!((&paused["paused"], &paused["running"]), (&json!(true), &json!(1)));
    let queued = submit(&server, "t").expect(202).job_id();
    open(&server);
    assert_eq!(server.over(&running)["exit_code"], 0, "what runs runs on");
    assert_eq!(server.job(&queued)["state"], "queued");
    server.post("/v1/tasks/t/pause").expect(200);
    assert_eq!(server.post("/v1/tasks/t/resume").expect(200).json()["paused"], false);
    assert_eq!(server.over(&queued)["exit_code"], 0);
}

#[test]
fn a_pause_outlives_a_restart() {
    let mut server = Server::start("[task.t]\ncommand = ['true']\n");
    server.post("/v1/tasks/t/pause").expect(200);
    let id = submit(&server, "t").expect(202).job_id();
    server.stop();
    server.start_again();
    assert_eq!(server.get("/v1/tasks/t").json()["paused"], true);
    assert_eq!(server.job(&id)["state"], "queued");
    server.post("/v1/tasks/t/resume").expect(200);
    assert_eq!(server.over(&id)["exit_code"], 0);
}

#[test]
fn a_paused_or_full_task_never_delays_another_heavy() {
    let server = Server::start(&format!(
        "[limits]\nmax_running = 4\n[task.paused]\ncommand = ['true']\n[task.full]\n{GATE}\nmax_running = 1\n[task.t]\ncommand = ['true']\n"
    ));
    server.post("/v1/tasks/paused/pause").expect(200);
    at_once(4, |_| {
        for _ in 0..100 {
            server.send(&Request::post("/v1/tasks/paused/jobs?priority=100")).expect(202);
            server.send(&Request::post("/v1/tasks/full/jobs?priority=100")).expect(202);
        }
    });
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(server.run("t", Value::Null)["exit_code"], 0);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    open(&server);
}

#[test]
fn a_job_that_waits_too_long_is_cancelled_as_expired() {
    let server = Server::start(&format!("[task.t]\n{GATE}\nmax_running = 1\nqueue_timeout = '300ms'\n"));
    let running = server.running("t", Value::Null);
    let waits = submit(&server, "t").expect(202).job_id();
    let job = server.over(&waits);
    assert_eq!(
        (&job["state"], &job["outcome"]),
        (&json!("cancelled"), &json!({"kind": "cancelled", "by": "expired"}))
    );
    assert_eq!((&job["attempt"], &job["started_at"]), (&json!(0), &Value::Null));
    assert_eq!(server.job(&running)["state"], "running", "it counts for waiting alone");
    open(&server);
    assert_eq!(server.over(&running)["exit_code"], 0);
}

#[test]
fn rooms_are_given_back_however_a_job_ends() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'eval \"$1\"', 'sh', '{{payload.do}}']\nmax_running = 1\nmax_queued = 0\ntimeout = '200ms'\n[task.gone]\ncommand = ['no-such-program']\nmax_running = 1\nmax_queued = 0\n";
    let server = Server::start(config);
    for act in ["exit 0", "exit 3", "kill -9 $$", "sleep 600"] {
        server.run("t", json!({"do": act}));
        server.run("gone", Value::Null);
    }
    let cancelled = server.running("t", json!({"do": "sleep 600"}));
    server.cancel(&cancelled);
    server.over(&cancelled);
    server.run("t", json!({"do": "exit 0"}));
    let task = server.get("/v1/tasks/t").json();
    assert_eq!(
        (&task["running"], &task["queued"], &task["finished"], &task["failed"]),
        (&json!(0), &json!(0), &json!(6), &json!(4))
    );
}

#[test]
fn a_delayed_job_waits_for_its_time() {
    let server = Server::start("[task.t]\ncommand = ['true']\n");
    let began = Instant::now();
    let answer = server.post("/v1/tasks/t/jobs?delay=700ms").expect(202);
    assert_eq!(answer.json()["state"], "scheduled");
    let job = server.over(&answer.job_id());
    let took = began.elapsed();
    assert!((Duration::from_millis(690)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(job["exit_code"], 0);
    assert!(job["run_at"].is_string() && job["queued_ms"].as_u64().is_some_and(|ms| ms < 3_000), "{job}");
}

#[test]
fn a_job_can_be_given_a_time_and_cancelled_before_it() {
    let server = Server::start("[task.t]\ncommand = ['true']\n");
    let later = server.post("/v1/tasks/t/jobs?run_at=2099-01-01T00:00:00Z").expect(202);
    assert_eq!(
        (&later.json()["state"], &later.json()["run_at"]),
        (&json!("scheduled"), &json!("2099-01-01T00:00:00Z"))
    );
    let past = server.post("/v1/tasks/t/jobs?run_at=2020-01-01T00:00:00Z").expect(202);
    assert_eq!(server.over(&past.job_id())["exit_code"], 0, "what is past is due");
    let id = later.job_id();
    assert!(matches!(server.cancel(&id).status, 200 | 202));
    assert_eq!(server.over(&id)["outcome"]["by"], "client");
}

#[test]
fn counts_of_a_task_and_its_rates() {
    let server = Server::start(
        "[task.t]\ncommand = ['sh', '-c', 'exit $1', 'sh', '{{payload.n}}']\ndescription = 'A task'\n",
    );
    for n in [0, 0, 1] {
        server.run("t", json!({"n": n}));
    }
    let task = server.get("/v1/tasks/t").expect(200).json();
    assert_eq!(
        (&task["name"], &task["finished"], &task["failed"], &task["paused"]),
        (&json!("t"), &json!(3), &json!(1), &json!(false))
    );
    assert_eq!(task["limits"], json!({"max_running": null, "max_queued": 1000}), "the defaults");
    assert_eq!(task["description"], "A task");
    assert!(task["rates"].is_object());
    let list = server.get("/v1/tasks").expect(200).json();
    assert_eq!(list["items"].as_array().expect("items").len(), 1);
}

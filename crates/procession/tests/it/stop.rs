//! The way out: what runs may finish, what waits is kept, and the next start finds it all.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, wait_for};

const TASKS: &str = r#"
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done; echo finished; exit 3']
max_running = 1
[task.quick]
command = ["sh", "-c", 'echo quick']
[task.stubborn]
command = ["sh", "-c", 'trap "" TERM; while :; do sleep 0.05; done']
grace = "200ms"
"#;

fn drains(server: &Server) {
    server.terminate();
    wait_for("it drains", BOUND, || server.get("/readyz").status == 503);
}

#[test]
fn f40_a_stop_waits_for_what_runs_and_takes_nothing_new() {
    let mut server = Server::start(TASKS);
    let id = server.running("gate", Value::Null);
    drains(&server);
    assert_eq!(server.get("/readyz").problem(), (503, "draining".into()));
    let refused = server.send(&Request::submit("quick", &json!({})));
    assert_eq!(refused.problem(), (503, "draining".into()));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.job(&id)["state"], "running");
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.ended().code(), Some(0));
    server.start_again();
    let job = server.job(&id);
    assert_eq!((&job["outcome"], &job["attempt"]), (&json!({"kind": "exited", "code": 3}), &json!(1)));
    assert_eq!(server.stdout(&id), b"finished\n");
}

#[test]
fn f40_a_second_term_ends_what_runs_as_shutdown() {
    let mut server = Server::start(TASKS);
    let gentle = server.running("gate", Value::Null);
    let stubborn = server.running("stubborn", Value::Null);
    drains(&server);
    server.terminate();
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(server.processes(), Vec::<u32>::new());
    server.start_again();
    let job = server.job(&gentle);
    assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "shutdown", "signal": 15}));
    assert_eq!(server.job(&stubborn)["outcome"], json!({"kind": "cancelled", "by": "shutdown", "signal": 9}));
}

#[test]
fn after_stop_timeout_what_still_runs_is_ended() {
    let config =
        format!("[server]\nlisten = ['127.0.0.1:0']\ndata_dir = 'data'\nstop_timeout = '500ms'\n{TASKS}");
    let mut server = Setup::new(&config).start();
    let id = server.running("gate", Value::Null);
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    let took = began.elapsed();
    assert!((Duration::from_millis(450)..Duration::from_secs(8)).contains(&took), "{took:?}");
    server.start_again();
    assert_eq!(server.job(&id)["outcome"]["by"], "shutdown");
}

#[test]
fn an_idle_server_stops_at_once_and_leaves_no_claim_to_be_there() {
    let mut server = Server::start(TASKS);
    server.run("quick", Value::Null);
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for file in ["listen", "pid", "server.pid"] {
        assert!(!server.data().join(file).exists(), "{file}");
    }
}

#[test]
fn after_a_restart_what_was_over_is_there_and_what_waited_runs() {
    let mut server = Server::start(TASKS);
    let over = server.run("quick", json!({"n": 1}));
    let running = server.running("gate", Value::Null);
    let queued: Vec<String> = (0..3).map(|_| server.submit("gate", Value::Null)).collect();
    let later = server.post("/v1/tasks/quick/jobs?delay=1s").expect(202).job_id();
    drains(&server);
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.ended().code(), Some(0));
    server.start_again();
    assert_eq!(server.job(over["id"].as_str().expect("an id")), over);
    assert_eq!(server.stdout(over["id"].as_str().expect("an id")), b"quick\n");
    assert_eq!(server.over(&running)["exit_code"], 3);
    for id in queued {
        let job = server.over(&id);
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(3), &json!(1)));
    }
    assert_eq!(server.over(&later)["exit_code"], 0);
    assert_eq!(server.get("/v1/tasks/gate").json()["finished"], 4, "counts go on");
}

#[test]
fn whoever_waits_is_told_when_the_server_goes() {
    let mut server = Server::start(TASKS);
    let id = server.running("gate", Value::Null);
    let mut waiting = server.open(&Request::get(format!("/v1/jobs/{id}?wait=60"))).expect("sent");
    drains(&server);
    fs::write(server.path().join("go"), "").expect("written");
    let answer = waiting.response().expect("an answer").expect(200);
    assert_eq!(answer.json()["exit_code"], 3);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_program_that_is_missing_does_not_keep_a_server_from_starting() {
    let server = Server::start("[task.t]\ncommand = ['no-such-program']\n[task.quick]\ncommand = ['true']\n");
    assert!(server.log().contains("no-such-program"), "it warns: {}", server.log());
    assert_eq!(server.run("quick", Value::Null)["exit_code"], 0);
}

#[test]
fn a_config_that_is_wrong_does_keep_it() {
    let setup = Setup::new("[task.t]\ncomand = ['true']\nmax_runing = 3\ntimeout = 'soon'\n");
    let refused = setup.refused();
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for word in ["comand", "max_runing", "max_running", "soon"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(!setup.path().join("data/listen").exists());
}

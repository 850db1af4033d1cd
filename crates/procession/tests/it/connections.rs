//! Clients that are slow, idle, too many, or gone.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::harness::{BOUND, Connection, Request, Server, Setup, memory_kib, wait_for};

const TASKS: &str = "[task.t]\ncommand = ['cat']\n[task.gate]\ncommand = ['sh', '-c', 'while [ ! -e go ]; do sleep 0.02; done; exit 3']\n";

/// Gives this test process room for so many descriptors; what it got.
fn descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let current = wanted.min(hard);
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })
        .expect("below the hard limit");
    current
}

#[test]
fn f22_a_head_that_does_not_come_is_cut_off_after_10_s_heavy() {
    let server = Server::start(TASKS);
    let began = Instant::now();
    let mut silent = Connection::open(&server.address);
    let mut slow = Connection::open(&server.address);
    slow.write(b"GET /healthz HTTP/1.1\r\n").expect("sent");
    let mut trickle = Connection::open(&server.address);
    let mut cut = false;
    wait_for("the server hangs up on a trickle", Duration::from_secs(20), || {
        // A byte now and then does not buy more time.
        cut = cut || trickle.write(b"X").is_err();
        cut || began.elapsed() > Duration::from_secs(13)
    });
    assert!(trickle.response().is_err() || cut);
    for connection in [&mut slow, &mut silent] {
        let answer = connection.response();
        assert!(answer.as_ref().map_or(true, |answer| answer.status == 408), "{answer:?}");
    }
    let took = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(16)).contains(&took), "{took:?}");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn f22_a_body_that_does_not_come_is_cut_off_heavy() {
    let server = Server::start(TASKS);
    let began = Instant::now();
    let request = Request::post("/v1/tasks/t/jobs")
        .header("Content-Type", "application/json")
        .header("Content-Length", "1000");
    let mut connection = server.open(&request).expect("sent");
    connection.write(b"{").expect("sent");
    assert_eq!(server.run("t", Value::Null)["state"], "succeeded", "others are served meanwhile");
    let answer = connection.response().expect("an answer");
    assert_eq!(answer.problem(), (408, "body_timeout".into()));
    let took = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(16)).contains(&took), "{took:?}");
    assert_eq!(server.all_jobs("").len(), 1, "what did not come whole became no job");
}

#[test]
fn f23_10_000_idle_connections_cost_little_and_others_are_served_heavy() {
    const IDLE: usize = 10_000;
    // The server gives connections half of its own descriptors.
    let available = descriptors(2 * IDLE as u64 + 1_000);
    if available < 2 * IDLE as u64 {
        println!("skipped: this process may have {available} descriptors only");
        return;
    }
    let server = Server::start(TASKS);
    let before = memory_kib(server.server_pid(), "VmRSS");
    let most = (available as usize - 300) / 2;
    let idle: Vec<Connection> = (0..IDLE.min(most)).map(|_| Connection::open(&server.address)).collect();
    assert!(idle.len() > 9_000);
    // The last of them is being served once the count says so.
    wait_for("all are accepted", BOUND, || {
        let answer = server.get("/v1/stats").expect(200).json();
        answer["connections"].as_u64().is_some_and(|count| count as usize > idle.len())
    });
    let grown = memory_kib(server.server_pid(), "VmRSS").saturating_sub(before);
    assert!(grown < 160 * 1024, "{grown} KiB for {} connections", idle.len());
    let began = Instant::now();
    assert_eq!(server.run("t", json!(1))["state"], "succeeded");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn f23_more_connections_than_there_is_room_for_are_told_so_at_once() {
    let mut server = Setup::new(TASKS).under(&["prlimit", "--nofile=512:512"]).start();
    let held: Vec<Connection> = (0..400).map(|_| Connection::open(&server.address)).collect();
    let began = Instant::now();
    let request = server.bytes(&Request::get("/healthz"));
    let mut turned_away = Connection::open(&server.address);
    // It may have said so and closed before this is sent.
    let _ = turned_away.write(&request);
    let answer = turned_away.response().expect("an answer");
    assert_eq!(answer.problem(), (503, "too_many_connections".into()));
    assert!(answer.header("retry-after").is_some());
    assert!(began.elapsed() < Duration::from_secs(2));
    drop(held);
    wait_for("there is room again", BOUND, || {
        server.try_send(&Request::get("/healthz")).is_ok_and(|answer| answer.status == 200)
    });
    assert_eq!(server.run("t", json!(1))["state"], "succeeded");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_client_that_hangs_up_while_it_waits_changes_nothing() {
    let server = Server::start(TASKS);
    let waiting =
        server.open(&Request::submit("gate", &json!({})).header("Prefer", "wait=30")).expect("sent");
    wait_for("the job runs", BOUND, || server.all_jobs("state=running").len() == 1);
    drop(waiting);
    fs::write(server.path().join("go"), "").expect("written");
    let job = server.over(server.all_jobs("")[0]["id"].as_str().expect("an id"));
    assert_eq!(job["outcome"], json!({"kind": "exited", "code": 3}));
}

#[test]
fn a_client_that_hangs_up_right_after_sending_leaves_no_half_submission() {
    let server = Server::start(TASKS);
    // What was never read is no job; what became one is started at once, and ends.
    for n in 0..60 {
        drop(server.open(&Request::submit("t", &json!(n))).expect("sent"));
    }
    server.run("t", json!("last"));
    wait_for("all are over", BOUND, || server.all_jobs("state=queued,running").is_empty());
    for job in server.all_jobs("") {
        assert_eq!(job["exit_code"], 0, "{job}");
        let queued = job["queued_ms"].as_u64().expect("a duration");
        assert!(queued < 4_000, "the dispatcher was not told: {job}");
    }
}

#[test]
fn a_client_that_hangs_up_within_its_body_leaves_nothing() {
    let server = Server::start("[task.t]\ncommand = ['cat']\nbody = 'bytes'\n");
    let request = Request::post("/v1/tasks/t/jobs").header("Content-Length", "100000");
    let mut connection = server.open(&request).expect("sent");
    connection.write(&[b'x'; 50_000]).expect("sent");
    let incoming = server.data().join("incoming");
    let bodies = || fs::read_dir(&incoming).expect("readable").count();
    wait_for("the body arrives in a file", BOUND, || bodies() == 1);
    drop(connection);
    wait_for("the file is gone", BOUND, || bodies() == 0);
    assert!(server.all_jobs("").is_empty());
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::start(TASKS);
    let mut connection = Connection::open(&server.address);
    let keep = |request: Request| server.bytes(&request.header("Connection", "keep-alive"));
    for n in 0..20 {
        connection.write(&keep(Request::submit("t", &json!(n)).header("Prefer", "wait=20"))).expect("sent");
        assert_eq!(connection.response().expect("an answer").expect(200).json()["state"], "succeeded");
    }
    let two = [keep(Request::get("/healthz")), keep(Request::get("/v1/stats"))].concat();
    connection.write(&two).expect("sent");
    assert_eq!(connection.response().expect("the first").status, 200);
    assert!(connection.response().expect("the second").json()["version"].is_string());
}

#[test]
fn a_slow_reader_of_a_large_output_holds_up_nobody() {
    let config =
        "[task.big]\ncommand = ['sh', '-c', 'head -c 30000000 /dev/zero']\n[task.t]\ncommand = ['true']\n";
    let server = Server::start(config);
    let job = server.run("big", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let before = memory_kib(server.server_pid(), "VmRSS");
    let request = Request::get(format!("/v1/jobs/{id}/stdout"));
    let readers: Vec<Connection> = (0..20).map(|_| server.open(&request).expect("sent")).collect();
    assert_eq!(server.run("t", Value::Null)["state"], "succeeded");
    let grown = memory_kib(server.server_pid(), "VmRSS").saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB for {} readers who do not read", readers.len());
}

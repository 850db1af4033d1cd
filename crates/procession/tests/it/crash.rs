//! `kill -9`: of the server, under which jobs run on; of both, after which the next start
//! knows what it cannot know.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, at_once, is_alive, kill, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 8
[task.gate]
command = ["sh", "-c", 'echo before; while [ ! -e go ]; do sleep 0.02; done; seq 30000; echo x >> ran; exit 7']
[task.timed]
command = ["sh", "-c", 'echo x >> ran; exec sleep 600']
timeout = "1s"
[task.exit]
command = ["sh", "-c", 'exit "$1"', "sh", "{{payload.n}}"]
"#;

/// Kills the process that speaks HTTP and waits until another does.
fn replace_server(server: &Server) {
    let before = server.server_pid();
    kill(before);
    wait_for("another server answers", BOUND, || {
        server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
            && server.server_pid() != before
    });
}

fn ran(server: &Server) -> String {
    fs::read_to_string(server.path().join("ran")).unwrap_or_default()
}

#[test]
fn f01_a_job_runs_on_under_a_server_that_is_killed() {
    for setup in [Setup::new(TASKS), Setup::new(TASKS).monitor()] {
        let server = setup.start();
        let id = server.running("gate", Value::Null);
        for _ in 0..3 {
            replace_server(&server);
            assert_eq!(server.job(&id)["state"], "running");
        }
        fs::write(server.path().join("go"), "").expect("written");
        let job = server.over(&id);
        assert_eq!(
            (&job["outcome"], &job["attempt"]),
            (&json!({"kind": "exited", "code": 7}), &json!(1)),
            "{job}"
        );
        let numbers: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&server.stdout(&id)), format!("before\n{numbers}"));
        assert_eq!(ran(&server), "x\n", "once");
    }
}

#[test]
fn f29_a_job_that_ends_while_there_is_no_server_keeps_its_code() {
    let server = Server::start(TASKS);
    let ids: Vec<String> = (0..4).map(|_| server.running("gate", Value::Null)).collect();
    kill(server.server_pid());
    fs::write(server.path().join("go"), "").expect("written");
    for id in ids {
        let job = server.over(&id);
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(7), &json!(1)), "{job}");
        assert_eq!(server.stdout(&id).len(), 168_901, "before and the numbers");
    }
}

#[test]
fn p33_a_time_out_holds_while_the_server_is_killed_again_and_again() {
    let server = Server::start(TASKS);
    let id = server.running("timed", Value::Null);
    replace_server(&server);
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 1000, "signal": 15}), "{job}");
    let took = job["run_ms"].as_u64().expect("a duration");
    assert!((1_000..2_500).contains(&took), "{took}");
    assert_eq!(ran(&server), "x\n");
}

#[test]
fn f01_no_connection_is_refused_and_service_is_back_within_a_second_heavy() {
    let server = Server::start(TASKS);
    server.run("exit", json!({"n": 0}));
    let before = server.server_pid();
    kill(before);
    let began = Instant::now();
    wait_for("an answer", BOUND, || {
        // A connection the dead server held is reset; a new one waits in the kernel.
        server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
    });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn f01_what_was_accepted_is_run_once_however_often_the_server_is_killed_heavy() {
    let server = Server::start(&TASKS.replace("exit \"$1\"", "echo $PROCESSION_JOB_ID >> ids; exit \"$1\""));
    // Once a job has run the keeper has heard that the server is ready, and starts another.
    server.run("exit", json!({"n": 0}));
    let accepted = std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            at_once(4, |lane| {
                let submit = |n: usize| {
                    let code = (lane * 40 + n) % 256;
                    // An answer that never came promises nothing.
                    let answer = server.try_send(&Request::submit("exit", &json!({"n": code}))).ok()?;
                    (answer.status == 202).then(|| (answer.job_id(), code))
                };
                (0..40).filter_map(submit).collect::<Vec<_>>()
            })
        });
        for _ in 0..4 {
            replace_server(&server);
        }
        clients.join().expect("no panic").into_iter().flatten().collect::<Vec<_>>()
    });
    assert!(!accepted.is_empty());
    for (id, code) in &accepted {
        let job = server.over(id);
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(code), &json!(1)), "{job}");
    }
    let ids = fs::read_to_string(server.path().join("ids")).expect("they ran");
    for (id, _) in &accepted {
        assert_eq!(ids.matches(id.as_str()).count(), 1, "{id} ran once");
    }
}

#[test]
fn f03_after_both_are_killed_what_ran_is_lost_and_what_waited_runs() {
    let config = TASKS.replace("[task.gate]", "[task.gate]\nmax_running = 1");
    let mut server = Server::start(&config);
    let over = server.run("exit", json!({"n": 5}));
    let running = server.running("gate", Value::Null);
    let queued = server.submit("gate", Value::Null);
    server.crash();
    server.start_again();
    let lost = server.over(&running);
    assert_eq!(
        (&lost["state"], &lost["outcome"]),
        (&json!("lost"), &json!({"kind": "lost", "reason": "keeper_died"}))
    );
    assert_eq!((&lost["exit_code"], &lost["signal"]), (&Value::Null, &Value::Null), "nothing is invented");
    wait_for("no process of it is left", BOUND, || server.processes_of(&running).is_empty());
    assert_eq!(server.job(over["id"].as_str().expect("an id")), over);
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&queued)["exit_code"], 7);
    assert_eq!(ran(&server), "x\n", "the lost one was not run again");
}

#[test]
fn f02_after_the_keeper_is_killed_no_end_is_invented_and_no_process_is_left() {
    let mut server = Setup::new(TASKS).env("PROCESSION_ON_KEEPER_DEATH", "exit").start();
    let id = server.running("gate", Value::Null);
    let ends_with_it = server.server_pid();
    kill(server.keeper_pid());
    server.ended();
    wait_for("its server ends", BOUND, || !is_alive(ends_with_it));
    server.start_again();
    let job = server.over(&id);
    assert_eq!(job["outcome"]["kind"], "lost", "{job}");
    wait_for("no process of it is left", BOUND, || server.processes_of(&id).is_empty());
}

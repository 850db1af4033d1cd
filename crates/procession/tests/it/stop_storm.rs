//! The way out and other signals at awkward moments: a stop in the middle of submissions, a
//! terminal that has gone, a hang-up, too few descriptors.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{BOUND, Client, Request, Response, Server, Setup, at_once, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 4
[task.quick]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran']
[task.exit]
command = ["sh", "-c", 'sleep 0.2; exit "$1"', "sh", "{{payload.n}}"]
[task.leaves]
command = ["sh", "-c", 'sleep 0.2; echo a > "$PROCESSION_ARTIFACTS/a"; echo 1 > "$PROCESSION_RESULT"']
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done; exit 3']
[task.missing]
command = ["no-such-program-anywhere"]
"#;

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).expect("a process id")).expect("not 0");
    kill_process(process, signal).expect("it runs");
}

/// Ids of jobs that were accepted while the server was told to stop `delay` after the first.
fn submit_and_stop(server: &Server, delay: Duration) -> Vec<String> {
    let client: &Client = server;
    let submit = |_| {
        // An answer that never came promises nothing, and neither does a 503.
        let answer = client.try_send(&Request::submit("quick", &Value::Null)).ok()?;
        (answer.status == 202).then(|| answer.job_id())
    };
    std::thread::scope(|scope| {
        let first = submit(0);
        let began = Instant::now();
        let more = scope.spawn(move || (0..4).filter_map(submit).collect::<Vec<_>>());
        while began.elapsed() < delay {
            std::hint::spin_loop();
        }
        server.terminate();
        more.join().expect("no panic").into_iter().chain(first).collect()
    })
}

#[test]
fn a_stop_among_submissions_loses_nothing_heavy() {
    let mut server = Server::start(TASKS);
    let mut accepted = Vec::new();
    for round in 0..60 {
        let delay = Duration::from_micros(round * 7 % 9 * 500);
        accepted.extend(submit_and_stop(&server, delay));
        assert_eq!(server.ended().code(), Some(0), "round {round}");
        server.start_again();
        let lost = server.all_jobs("state=lost");
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    assert!(accepted.len() >= 60, "{}", accepted.len());
    for id in &accepted {
        let job = server.over(id);
        assert_eq!(
            (&job["state"], &job["outcome"], &job["attempt"]),
            (&json!("succeeded"), &json!({"kind": "exited", "code": 0}), &json!(1)),
            "{job}"
        );
    }
    let ran = fs::read_to_string(server.path().join("ran")).expect("they ran");
    for id in &accepted {
        assert_eq!(ran.matches(id.as_str()).count(), 1, "{id} ran once");
    }
}

/// A server whose stderr is a pipe, and the end of it that is read.
fn with_piped_stderr() -> (Server, BufReader<File>) {
    let setup = Setup::new(TASKS);
    let pipe = setup.path().join("stderr.pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
    let (log, path) = (setup.path().join("serve.log"), pipe.display().to_string());
    let reader = std::thread::spawn(move || {
        let mut pipe = BufReader::new(File::open(pipe).expect("opened"));
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert!(pipe.read_line(&mut line).expect("text") > 0, "it ended");
            // The harness waits for this line there.
            let mut log = File::options().create(true).append(true).open(&log).expect("a log");
            log.write_all(line.as_bytes()).expect("written");
        }
        pipe
    });
    let script = "exec \"$@\" 2>\"$STDERR_PIPE\"";
    let server = setup.env("STDERR_PIPE", &path).under(&["sh", "-c", script, "sh"]).start();
    (server, reader.join().expect("no panic"))
}

#[test]
fn a_server_whose_stderr_nobody_reads_any_more_drains_and_exits_0() {
    let (mut server, reader) = with_piped_stderr();
    let (serving, keeping) = (server.server_pid(), server.keeper_pid());
    let id = server.running("gate", Value::Null);
    drop(reader);
    // The server warns of this, into the void.
    assert_eq!(server.run("missing", Value::Null)["outcome"]["kind"], "spawn_failed");
    assert_eq!((server.server_pid(), server.keeper_pid()), (serving, keeping));
    server.terminate();
    wait_for("it drains", BOUND, || server.get("/readyz").status == 503);
    assert_eq!(server.job(&id)["state"], "running", "one TERM waits for what runs");
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_hang_up_ends_neither_keeper_nor_server() {
    let mut server = Server::start(TASKS);
    let (serving, keeping) = (server.server_pid(), server.keeper_pid());
    let id = server.running("gate", Value::Null);
    for _ in 0..5 {
        signal(serving, Signal::HUP);
        assert_eq!(server.run("exit", json!({"n": 2}))["outcome"], json!({"kind": "exited", "code": 2}));
    }
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&id)["outcome"], json!({"kind": "exited", "code": 3}));
    assert_eq!(server.server_pid(), serving);
    // To the keeper it says that the config may be another: another server takes over.
    signal(keeping, Signal::HUP);
    wait_for("another server", BOUND, || server.server_pid() != serving);
    assert_eq!(server.run("exit", json!({"n": 2}))["outcome"], json!({"kind": "exited", "code": 2}));
    assert_eq!(server.keeper_pid(), keeping);
    assert_eq!(server.stop().code(), Some(0));
}

/// Asks until there is a descriptor for the connection.
fn ask(server: &Server, request: &Request) -> Response {
    let mut answer = None;
    wait_for("an answer", BOUND, || {
        answer = server.try_send(request).ok().filter(|answer| answer.status != 503);
        answer.is_some()
    });
    answer.expect("just seen")
}

/// 40 jobs that run at once, as far as 64 descriptors let them; each once it is over.
fn forty_of(server: &Server, task: &str) -> Vec<Value> {
    let submit = |n: usize| {
        // Of one whose answer is lost there is a job already.
        let request = Request::submit(task, &json!({"n": 2})).header("Idempotency-Key", format!("{task}{n}"));
        ask(server, &request).expect(202).job_id()
    };
    let ids = at_once(4, |lane| (0..10).map(|n| submit(lane * 10 + n)).collect::<Vec<_>>());
    let over = |id: String| {
        let mut job = Value::Null;
        wait_for("it is over", BOUND, || {
            job = ask(server, &Request::get(format!("/v1/jobs/{id}"))).expect(200).json();
            !matches!(job["state"].as_str(), Some("queued" | "running" | "scheduled"))
        });
        job
    };
    ids.into_iter().flatten().map(over).collect()
}

fn forty_at_64_descriptors(setup: Setup) {
    let mut server = setup.under(&["prlimit", "--nofile=64:64"]).start();
    for job in forty_of(&server, "exit") {
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": 2}), "{job}");
    }
    for job in forty_of(&server, "leaves") {
        assert_eq!(
            (&job["outcome"], &job["result"]),
            (&json!({"kind": "exited", "code": 0}), &json!(1)),
            "{job}"
        );
        let listed = server.get(&format!("/v1/jobs/{}/artifacts", job["id"].as_str().expect("an id")));
        assert_eq!(listed.expect(200).json()["items"], json!([{"name": "a", "size": 2}]), "{job}");
    }
    // Nothing is held that connections need.
    for _ in 0..20 {
        server.get("/v1/stats").expect(200);
    }
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn p03_40_jobs_at_once_with_64_descriptors_all_run_heavy() {
    forty_at_64_descriptors(Setup::new(&TASKS.replace("max_running = 4", "max_running = 40")));
}

#[test]
fn p03_40_jobs_at_once_with_64_descriptors_all_run_without_cgroups_heavy() {
    forty_at_64_descriptors(Setup::new(&TASKS.replace("max_running = 4", "max_running = 40")).monitor());
}

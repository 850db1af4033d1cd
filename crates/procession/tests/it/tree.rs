//! The process tree of a job: nothing of it is left, nothing beside it is touched, and its
//! end waits for nobody. At both levels of containment.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Server, Setup, wait_for};

/// A tree that does all it can to survive: ignores TERM, forks twice, leaves its session.
const HOSTILE: &str = r#"
[task.hostile]
command = ["python3", "hostile.py"]
timeout = "700ms"
grace = "200ms"
[task.hostile-cancel]
command = ["python3", "hostile.py"]
grace = "200ms"
[task.gentle]
command = ["sh", "-c", 'trap "exit 9" TERM; echo ready; while :; do sleep 0.02; done']
timeout = "400ms"
grace = "10s"
[task.stopped]
command = ["sh", "-c", 'kill -STOP $$; echo woken']
timeout = "400ms"
grace = "10s"
"#;

const HOSTILE_PY: &str = r#"
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
read, write = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.write(write, b"x")
            while True:
                time.sleep(60)
        os._exit(0)
for _ in range(3):
    os.read(read, 1)
print("ready", flush=True)
while True:
    time.sleep(60)
"#;

fn levels(config: &str) -> [Setup; 2] {
    [Setup::new(config), Setup::new(config).monitor()]
}

/// The grandchildren are there.
fn wait_until_ready(server: &Server, id: &str) {
    wait_for("the whole tree runs", BOUND, || server.processes_of(id).len() >= 4);
}

#[test]
fn p15_p17_after_a_timeout_nothing_is_left_of_a_hostile_tree() {
    for setup in levels(HOSTILE) {
        let server = setup.file("hostile.py", HOSTILE_PY).start();
        let job = server.run("hostile", Value::Null);
        assert_eq!(job["state"], "timed_out", "{job}");
        assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 700, "signal": 9}));
        assert_eq!((&job["exit_code"], &job["signal"]), (&Value::Null, &json!(9)));
        assert_eq!(server.processes_of(job["id"].as_str().expect("an id")), Vec::<u32>::new(), "{job}");
        assert!(job["leaked_processes"].as_u64().is_some_and(|leaked| leaked >= 3), "{job}");
        let ran = job["run_ms"].as_u64().expect("a duration");
        assert!((900..4_000).contains(&ran), "time-out and grace: {ran} ms");
    }
}

#[test]
fn p15_after_a_cancel_nothing_is_left_of_a_hostile_tree() {
    for setup in levels(HOSTILE) {
        let server = setup.file("hostile.py", HOSTILE_PY).start();
        let id = server.running("hostile-cancel", Value::Null);
        wait_until_ready(&server, &id);
        server.cancel(&id).expect(202);
        let job = server.over(&id);
        assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "client", "signal": 9}), "{job}");
        assert_eq!(server.processes_of(&id), Vec::<u32>::new());
    }
}

#[test]
fn cancel_now_does_not_wait_for_the_grace() {
    for setup in levels("[task.t]\ncommand = ['python3', 'hostile.py']\ngrace = '60s'\n") {
        let server = setup.file("hostile.py", HOSTILE_PY).start();
        let id = server.running("t", Value::Null);
        wait_until_ready(&server, &id);
        let asked = Instant::now();
        server.post(&format!("/v1/jobs/{id}/cancel?now=1")).expect(202);
        let job = server.over(&id);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!((&job["state"], &job["signal"]), (&json!("cancelled"), &json!(9)), "{job}");
        assert_eq!(server.processes_of(&id), Vec::<u32>::new());
    }
}

#[test]
fn a_program_that_hears_term_ends_in_its_own_way_and_is_still_timed_out() {
    for setup in levels(HOSTILE) {
        let job = setup.start().run("gentle", Value::Null);
        assert_eq!(job["state"], "timed_out");
        assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 400, "code": 9}), "{job}");
        let ran = job["run_ms"].as_u64().expect("a duration");
        assert!((400..3_000).contains(&ran), "it did not wait for the grace: {ran} ms");
    }
}

#[test]
fn p18_a_stopped_program_hears_term() {
    for setup in levels(HOSTILE) {
        let job = setup.start().run("stopped", Value::Null);
        assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 400, "signal": 15}), "{job}");
    }
}

#[test]
fn p14_the_result_does_not_wait_for_a_grandchild_with_the_pipe_heavy() {
    let config =
        "[task.t]\ncommand = ['sh', '-c', '(sleep 600 &) ; (setsid sleep 600 &) ; echo said; exit 3']\n";
    for setup in levels(config) {
        let server = setup.start();
        // The first run pays for what is made once.
        server.run("t", Value::Null);
        let began = Instant::now();
        let job = server.run("t", Value::Null);
        assert!(began.elapsed() < Duration::from_secs(1), "to a client: {:?}", began.elapsed());
        assert_eq!((&job["exit_code"], &job["state"]), (&json!(3), &json!("failed")));
        let id = job["id"].as_str().expect("an id");
        assert_eq!(server.stdout(id), b"said\n");
        assert_eq!(job["leaked_processes"], 2, "{job}");
        assert_eq!(server.processes_of(id), Vec::<u32>::new());
        let ran = job["run_ms"].as_u64().expect("a duration");
        assert!(ran <= 200, "the end was told {ran} ms after the start");
    }
}

#[test]
fn p13_a_program_that_closes_its_outputs_runs_on() {
    let config =
        "[task.t]\ncommand = ['sh', '-c', 'exec >&- 2>&-; while [ ! -e go ]; do sleep 0.02; done; exit 4']\n";
    let server = Server::start(config);
    let id = server.running("t", Value::Null);
    wait_for("it has closed its outputs", BOUND, || {
        let pids = server.processes_of(&id);
        pids.iter().any(|pid| !fs::exists(format!("/proc/{pid}/fd/1")).unwrap_or(true))
    });
    assert_eq!(server.job(&id)["state"], "running");
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&id)["exit_code"], 4);
}

#[test]
fn p16_a_fork_storm_is_ended_and_the_server_answers_meanwhile_heavy() {
    let config = r#"
[task.storm]
command = ["sh", "-c", 'i=0; while [ $i -lt 300 ]; do (setsid sleep 600 &); i=$((i+1)); done; echo forked; sleep 600']
grace = "1s"
[task.true]
command = ["true"]
"#;
    for setup in levels(config) {
        let server = setup.start();
        let id = server.running("storm", Value::Null);
        wait_for("300 processes", BOUND, || server.processes_of(&id).len() >= 300);
        assert_eq!(server.run("true", Value::Null)["state"], "succeeded");
        server.cancel(&id).expect(202);
        assert_eq!(server.over(&id)["state"], "cancelled");
        assert_eq!(server.processes_of(&id), Vec::<u32>::new());
    }
}

#[test]
fn leave_children_lets_them_live() {
    let config = r#"
[task.t]
command = ["sh", "-c", 'setsid sh -c "while [ ! -e go ]; do sleep 0.05; done; echo done > done" >/dev/null 2>&1 & exit 5']
leave_children = true
"#;
    let server = Server::start(config);
    let job = server.run("t", Value::Null);
    assert_eq!(job["exit_code"], 5, "{job}");
    let id = job["id"].as_str().expect("an id");
    assert!(!server.processes_of(id).is_empty(), "the child goes on");
    fs::write(server.path().join("go"), "").expect("written");
    wait_for("the child finishes its work", BOUND, || server.path().join("done").exists());
    wait_for("and ends", BOUND, || server.processes_of(id).is_empty());
}

/// Becomes the program with signals blocked and ignored, as a careless parent would.
const CARELESS: &str = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD])
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
";

const SIGNALS: &str = r#"
[limits]
max_running = 64
[task.signals]
command = ["grep", "Sig", "/proc/self/status"]
[task.exit]
command = ["sh", "-c", "exit \"$1\"", "sh", "{{payload.n}}"]
"#;

#[track_caller]
fn assert_clean_signals(server: &Server) {
    let printed = server.printed("signals", Value::Null);
    for field in ["SigBlk", "SigIgn", "SigPnd"] {
        let line = printed.lines().find(|line| line.starts_with(field)).expect("a line of /proc");
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{printed}");
    }
}

#[test]
fn p06_a_child_starts_with_clean_signals_whatever_started_the_server() {
    assert_clean_signals(&Setup::new(SIGNALS).under(&["nohup"]).start());
    for setup in levels(SIGNALS) {
        assert_clean_signals(&setup.under(&["/usr/bin/python3", "-c", CARELESS]).start());
    }
}

#[test]
fn p06_a_server_started_with_term_blocked_still_stops_and_its_jobs_hear_term() {
    let config = "[task.t]\ncommand = ['sleep', '600']\n";
    let mut server = Setup::new(config).under(&["/usr/bin/python3", "-c", CARELESS]).start();
    let id = server.running("t", Value::Null);
    server.cancel(&id).expect(202);
    assert_eq!(server.over(&id)["outcome"], json!({"kind": "cancelled", "by": "client", "signal": 15}));
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn p26_codes_are_kept_where_the_server_was_started_with_child_signals_ignored() {
    for setup in levels(SIGNALS) {
        let server = setup.under(&["/usr/bin/python3", "-c", CARELESS]).start();
        let ids: Vec<_> = (0..40).map(|n| (n, server.submit("exit", json!({"n": n})))).collect();
        for (n, id) in ids {
            assert_eq!(server.over(&id)["exit_code"], n);
        }
    }
}

#[test]
fn p07_a_child_has_only_its_three_descriptors() {
    let config = "[task.t]\ncommand = ['ls', '/proc/self/fd']\n";
    for setup in levels(config) {
        let printed = setup.start().printed("t", Value::Null);
        // The fourth is the folder `ls` itself reads.
        assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
}

#[test]
fn p31_a_child_has_a_session_of_its_own_and_plain_limits() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'umask; cut -d\" \" -f5,6,7,19 /proc/$$/stat; echo $$; ulimit -c']\n";
    let printed = Server::start(config).printed("t", Value::Null);
    let lines: Vec<&str> = printed.lines().collect();
    let [umask, stat, own, core] = lines[..] else { panic!("four lines: {printed}") };
    assert_eq!(umask, "0022");
    assert_eq!(stat, format!("{own} {own} 0 0"), "group, session, no terminal, nice 0");
    assert_eq!(core, "0", "core dumps are off");
}

//! `kill -9` of the keeper alone: its server sees the jobs to their ends, answers meanwhile,
//! and then ends or takes the keeper's place.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, is_alive, kill, pid, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 8
[task.gate]
command = ["sh", "-c", 'echo before; while [ ! -e go ]; do sleep 0.02; done; seq 30000; echo x >> ran; exit 7']
[task.sleep]
command = ["sh", "-c", 'echo here; exec sleep 600']
[task.leave]
command = ["sh", "-c", 'sleep 600 & while [ ! -e go ]; do sleep 0.02; done; exit 3']
[task.exit]
command = ["sh", "-c", 'exit "$1"', "sh", "{{payload.n}}"]
"#;

const CHOICE: &str = "PROCESSION_ON_KEEPER_DEATH";

/// A keeper that is no child of ours; ends with its test.
struct Successor(u32);

impl Successor {
    /// The process that took the keeper's place, once a server of it answers.
    fn of(server: &Server) -> Self {
        let text = fs::read_to_string(server.data().join("pid")).expect("the file `pid`");
        Self(text.trim().parse().expect("a process id"))
    }

    fn stop(&self) {
        let _ = kill_process(pid(self.0), Signal::TERM);
        wait_for("the new keeper ends", BOUND, || !is_alive(self.0));
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if is_alive(self.0) {
            let _ = kill_process(pid(self.0), Signal::KILL);
        }
    }
}

fn answers(server: &Server) -> bool {
    server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
}

/// It has said that it is here, and runs for so long that the server holds what it may need.
fn held(server: &Server, id: &str) {
    wait_for("it has said so", BOUND, || server.stdout(id) == b"here\n");
    let job = server.job(id);
    let started: jiff::Timestamp = job["started_at"].as_str().expect("a time").parse().expect("a time");
    wait_for("it is held", BOUND, || {
        jiff::Timestamp::now().duration_since(started) > jiff::SignedDuration::from_millis(500)
    });
}

/// Exact where the kernel tells how a process ended that is not one's child (6.15).
fn is_true(job: &Value, code: u64) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    let mut numbers = release.split(['.', '-']).filter_map(|part| part.parse::<u32>().ok());
    let tells = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15);
    if tells { job["exit_code"] == code } else { job["outcome"]["kind"] == "lost" }
}

fn numbers() -> String {
    let numbers: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
    format!("before\n{numbers}")
}

#[test]
fn f02_a_server_takes_its_keepers_place_and_every_end_is_true_heavy() {
    let mut server = Setup::new(TASKS).env(CHOICE, "serve").start();
    let gates: Vec<String> = (0..3).map(|_| server.running("gate", Value::Null)).collect();
    let leaves = server.running("leave", Value::Null);
    let sleeps = server.running("sleep", Value::Null);
    held(&server, &sleeps);
    let (before, orphaned) = (server.keeper_pid(), server.server_pid());
    kill(before);
    server.ended();
    fs::write(server.path().join("go"), "").expect("written");
    // Read and submitted meanwhile, to the same process.
    assert_eq!(server.job(&sleeps)["state"], "running");
    let queued = server.submit("exit", json!({"n": 5}));
    assert_eq!((server.server_pid(), server.job(&queued)["state"].as_str()), (orphaned, Some("queued")));
    for gate in &gates {
        let job = server.over(gate);
        assert!(is_true(&job, 7), "{job}");
        assert_eq!(String::from_utf8_lossy(&server.stdout(gate)), numbers());
    }
    wait_for("another server answers", BOUND, || server.server_pid() != orphaned && answers(&server));
    let keeper = Successor::of(&server);
    assert_eq!(keeper.0, orphaned, "the same process, on the same socket");
    let lost = server.over(&sleeps);
    assert_eq!(lost["outcome"], json!({"kind": "lost", "reason": "keeper_died"}), "{lost}");
    assert_eq!(server.stdout(&sleeps), b"here\n");
    let left = server.over(&leaves);
    assert!(is_true(&left, 3), "{left}");
    for job in gates.iter().chain([&sleeps, &leaves]) {
        assert!(server.processes_of(job).is_empty(), "{job}");
    }
    // It works as any other: what waited runs, and a second one on the data is refused.
    assert_eq!(server.over(&queued)["exit_code"], 5);
    assert_eq!(server.run("exit", json!({"n": 9}))["exit_code"], 9);
    let refused = server.again();
    assert_eq!(refused.status.code(), Some(75));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&keeper.0.to_string()), "{said}");
    keeper.stop();
    assert!(!server.data().join("pid").exists(), "an end in order leaves no name");
}

#[test]
fn f02_a_keeper_that_took_its_place_is_followed_by_another_heavy() {
    let mut server = Setup::new(TASKS).env(CHOICE, "serve").start();
    // An edit that nobody asked for takes effect by no death.
    let edited = fs::read_to_string(server.config()).expect("readable") + "[task.half\n";
    fs::write(server.config(), edited).expect("written");
    kill(server.keeper_pid());
    server.ended();
    for _ in 0..2 {
        let orphaned = server.server_pid();
        wait_for("another server answers", BOUND, || server.server_pid() != orphaned && answers(&server));
        assert_eq!(server.run("exit", json!({"n": 4}))["exit_code"], 4);
        let keeper = Successor::of(&server);
        assert_eq!(keeper.0, orphaned);
        kill(keeper.0);
    }
    let orphaned = server.server_pid();
    wait_for("another server answers", BOUND, || server.server_pid() != orphaned && answers(&server));
    Successor::of(&server).stop();
}

#[test]
fn f02_where_a_service_manager_starts_it_again_the_server_ends_heavy() {
    let mut server = Setup::new(TASKS).env(CHOICE, "exit").start();
    let gate = server.running("gate", Value::Null);
    let sleeps = server.running("sleep", Value::Null);
    held(&server, &sleeps);
    let orphaned = server.server_pid();
    kill(server.keeper_pid());
    server.ended();
    // The data directory is ours as long as its server lives; who starts another waits for that.
    let said = server.cli(&["status"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stdout.contains("orphaned"), "{said:?}");
    fs::write(server.path().join("go"), "").expect("written");
    let began = Instant::now();
    wait_for("the server ends", BOUND, || !is_alive(orphaned));
    assert!(began.elapsed() > Duration::from_secs(5), "one still ran: {:?}", began.elapsed());
    assert!(server.processes_of(&sleeps).is_empty() && server.processes_of(&gate).is_empty());
    server.start_again();
    let job = server.over(&gate);
    assert!(is_true(&job, 7), "{job}");
    assert_eq!(String::from_utf8_lossy(&server.stdout(&gate)), numbers());
    assert_eq!(server.over(&sleeps)["outcome"], json!({"kind": "lost", "reason": "keeper_died"}));
}

#[test]
fn f02_without_cgroups_monitors_end_their_trees_and_nothing_is_invented_heavy() {
    let mut server = Setup::new(TASKS).env(CHOICE, "serve").monitor().start();
    let jobs = [server.running("sleep", Value::Null), server.running("leave", Value::Null)];
    let orphaned = server.server_pid();
    kill(server.keeper_pid());
    server.ended();
    wait_for("another server answers", BOUND, || server.server_pid() != orphaned && answers(&server));
    let keeper = Successor::of(&server);
    for job in &jobs {
        let lost = server.over(job);
        assert_eq!(lost["outcome"], json!({"kind": "lost", "reason": "keeper_died"}), "{lost}");
        assert!(server.processes_of(job).is_empty());
    }
    assert_eq!(server.run("exit", json!({"n": 6}))["exit_code"], 6);
    keeper.stop();
}

/// Whatever the files of a dead keeper name by now is somebody else.
#[test]
fn p23_p24_f03_who_has_the_number_of_a_dead_keeper_is_left_alone() {
    for setup in [Setup::new(TASKS), Setup::new(TASKS).monitor()] {
        let mut server = setup.start();
        let running = server.running("sleep", Value::Null);
        server.crash();
        let mut stranger = crate::harness::command("sleep").arg("600").spawn().expect("it starts");
        let number = stranger.id();
        for name in ["LOCK", "pid", "server.pid"] {
            fs::write(server.data().join(name), format!("{number}\n")).expect("ours");
        }
        server.start_again();
        assert_eq!(server.over(&running)["outcome"]["kind"], "lost");
        wait_for("nothing of it is left", BOUND, || server.processes_of(&running).is_empty());
        server.stop();
        assert!(stranger.try_wait().expect("ours").is_none(), "the stranger was signalled");
        stranger.kill().expect("ours");
        stranger.wait().expect("ours");
    }
}

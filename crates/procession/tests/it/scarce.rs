//! Descriptors and processes run out while the service is at work: nothing is failed that was
//! not started, nothing that runs is lost, and when there are some again everything goes on.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::harness::{BOUND, Server, at_once, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 4
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done; seq 20000; exit 7']
[task.exit]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; exit 3']
"#;

/// Sets how many descriptors a process may have; returns how many it might before.
fn limit_descriptors(process: u32, most: Option<u64>) -> Option<u64> {
    let process = Pid::from_raw(process.cast_signed()).expect("not 0");
    let unchanged = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: most, maximum: unchanged };
    prlimit(Some(process), Resource::Nofile, limit).expect("it runs").current
}

/// Fewer than are open: not one more is to be had.
const NONE: Option<u64> = Some(4);

fn times_ran(server: &Server, id: &str) -> usize {
    fs::read_to_string(server.path().join("ran")).unwrap_or_default().matches(id).count()
}

fn start() -> (Server, String) {
    let server = Server::start(TASKS);
    server.run("exit", Value::Null);
    let running = server.running("gate", Value::Null);
    (server, running)
}

/// All that was submitted has run, once, and what ran before has its own end.
fn all_goes_on(server: &Server, running: &str, waiting: &[String]) {
    for id in waiting {
        let job = server.over(id);
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(3), &json!(1)), "{job}");
        assert_eq!(times_ran(server, id), 1);
    }
    fs::write(server.path().join("go"), "").expect("written");
    let ended = server.over(running);
    assert_eq!(ended["exit_code"], 7, "{ended}");
    assert_eq!(server.stdout(running).len(), 108_894, "all it printed");
}

#[test]
fn f19_a_keeper_without_descriptors_starts_nothing_fails_nothing_and_goes_on() {
    let (server, running) = start();
    let before = limit_descriptors(server.keeper_pid(), NONE);
    let waiting: Vec<String> = (0..12).map(|_| server.submit("exit", Value::Null)).collect();
    wait_for("the want is told", BOUND, || server.log().contains("nothing to start it with"));
    for id in &waiting {
        let job = server.job(id);
        assert_eq!((&job["outcome"], times_ran(&server, id)), (&Value::Null, 0), "{job}");
    }
    assert_eq!(server.job(&running)["state"], "running");
    limit_descriptors(server.keeper_pid(), before);
    all_goes_on(&server, &running, &waiting);
}

#[test]
fn f19_a_server_without_descriptors_keeps_its_clients_waiting_and_goes_on() {
    let (server, running) = start();
    let pid = server.server_pid();
    let before = limit_descriptors(pid, NONE);
    let waiting = std::thread::scope(|scope| {
        let clients = scope.spawn(|| at_once(12, |_| server.submit("exit", Value::Null)));
        wait_for("the want is told", BOUND, || server.log().contains("a connection cannot be accepted"));
        // One that ends now has to be recorded without.
        fs::write(server.path().join("go"), "").expect("written");
        limit_descriptors(pid, before);
        clients.join().expect("all were answered")
    });
    all_goes_on(&server, &running, &waiting);
    assert_eq!(server.server_pid(), pid, "no crash");
}

/// A group of processes with a bound on their number, until dropped.
struct PidsGroup(PathBuf);

impl PidsGroup {
    fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let is_ours = |line: &&str| line.contains(" - cgroup ") && line.split(',').any(|word| word == "pids");
        let mount = mounts.lines().find(is_ours).and_then(|line| line.split(' ').nth(4));
        let made =
            mount.map(|mount| PathBuf::from(mount).join(format!("procession-test-{}", std::process::id())));
        let group = made.filter(|path| fs::create_dir(path).is_ok()).map(Self);
        if group.is_none() {
            eprintln!("skipped: no group with a bound on processes can be made here");
        }
        group
    }

    fn take(&self, process: u32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).expect("taken");
    }

    fn members(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("pids.current")).expect("readable");
        text.trim().parse().expect("a number")
    }

    fn bound(&self, most: &str) {
        fs::write(self.0.join("pids.max"), most).expect("set");
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        let above = self.0.parent().expect("a mount").join("cgroup.procs");
        let inside = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        inside.lines().for_each(|process| _ = fs::write(&above, process));
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn f20_p03_without_a_process_to_be_had_jobs_wait_and_run_when_there_is_one() {
    let Some(group) = PidsGroup::make() else { return };
    let (server, running) = start();
    group.take(server.keeper_pid());
    group.take(server.server_pid());
    group.bound(&group.members().to_string());
    let waiting: Vec<String> = (0..12).map(|_| server.submit("exit", Value::Null)).collect();
    wait_for("the want is told", BOUND, || server.log().contains("nothing to start it with"));
    for id in &waiting {
        let job = server.job(id);
        assert_eq!((&job["outcome"], times_ran(&server, id)), (&Value::Null, 0), "{job}");
    }
    assert_eq!(server.job(&running)["state"], "running");
    group.bound("max");
    all_goes_on(&server, &running, &waiting);
}

//! Programs that write, survive and hide as no program should, as clients see them: the true
//! end in time, the exact bytes, nothing left, the service unimpressed. `tree` and `output`
//! have each of these alone; here they come together, at both levels of containment.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Server, Setup, compile, sha256, signal, wait_for};
use rustix::process::Signal;

fn levels(config: &str) -> [Setup; 2] {
    [Setup::new(config), Setup::new(config).monitor()]
}

/// Processor time of the keeper, in milliseconds.
fn keeper_time_ms(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.keeper_pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10
}

const WRITERS: &str = r#"
[task.bytewise]
command = ["dd", "if=/dev/zero", "bs=1", "count=300000", "status=none"]
[task.line]
command = ["sh", "-c", 'head -c 20000000 /dev/zero | tr "\0" x; exit 4']
output_limit = "1MiB"
[task.binary]
command = ["sh", "-c", 'head -c 3000000 /dev/urandom | tee copy']
"#;

#[test]
fn f26_p10_p11_p12_byte_by_byte_binary_or_in_one_line_output_is_exact_and_costs_the_keeper_little_heavy() {
    for setup in levels(WRITERS) {
        let server = setup.start();
        let before = keeper_time_ms(&server);
        let job = server.run("bytewise", Value::Null);
        let spent = keeper_time_ms(&server) - before;
        let stdout = server.stdout(job["id"].as_str().expect("an id"));
        assert_eq!(sha256(&stdout), sha256(&[0; 300_000]), "{job}");
        let usage = |field: &str| job["usage"][field].as_u64().expect("a number");
        let its_own = usage("user_ms") + usage("system_ms");
        // At worst one read a write; never a turn without anything to read.
        assert!(spent <= its_own * 2 + 300, "the keeper spent {spent} ms, the program {its_own} ms");

        let job = server.run("line", Value::Null);
        assert_eq!(job["exit_code"], 4);
        let (dropped, kept) = (20_000_000 - (1 << 20), 1 << 20);
        assert_eq!(
            (&job["output"]["stdout_bytes"], &job["output"]["stdout_dropped"]),
            (&json!(20_000_000), &json!(dropped))
        );
        let stdout = server.stdout(job["id"].as_str().expect("an id"));
        assert_eq!(
            stdout.iter().filter(|byte| **byte == b'x').count(),
            kept,
            "head and tail, and no x in the marker"
        );

        let job = server.run("binary", Value::Null);
        let copy = fs::read(server.path().join("copy")).expect("a copy");
        assert_eq!(sha256(&server.stdout(job["id"].as_str().expect("an id"))), sha256(&copy));
    }
}

/// Waits for its child in a way that no TERM interrupts, as one that waits for a dead disk.
const WAITS_UNINTERRUPTIBLY: &str = r#"
#include <signal.h>
#include <unistd.h>
static void hear(int signal) { (void)signal; }
int main(void) {
    /* A TERM that would end it would also wake it. */
    signal(SIGTERM, hear);
    if (vfork() == 0) {
        signal(SIGTERM, SIG_IGN);
        for (;;) pause();
    }
    return 0;
}
"#;

const STUBBORN: &str = r#"
[task.ignores]
command = ["sh", "-c", 'trap "" TERM; while :; do sleep 0.05; done']
timeout = "400ms"
grace = "300ms"
[task.stopped]
command = ["sh", "-c", 'kill -STOP $$; echo woken; exit 8']
timeout = "400ms"
grace = "20s"
[task.uninterruptible]
command = ["./uninterruptible"]
timeout = "400ms"
grace = "300ms"
[task.exit]
command = ["sh", "-c", "exit 3"]
"#;

/// Whether a process of the job sleeps where signals do not reach it.
fn is_uninterruptible(server: &Server, id: &str) -> bool {
    let state = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('D'))
    };
    server.processes_of(id).into_iter().any(state)
}

#[test]
fn f27_p17_p18_p19_who_ignores_term_is_stopped_or_cannot_hear_it_ends_by_its_limit_all_the_same() {
    for setup in levels(STUBBORN) {
        let uninterruptible = compile(setup.path(), "uninterruptible", WAITS_UNINTERRUPTIBLY, &[]);
        let server = setup.start();
        let timed_out = |signal: i32| json!({"kind": "timed_out", "limit_ms": 400, "signal": signal});
        let mut jobs = vec![
            (server.submit("ignores", Value::Null), timed_out(9)),
            (server.submit("stopped", Value::Null), timed_out(15)),
        ];
        if uninterruptible.is_some() {
            let id = server.submit("uninterruptible", Value::Null);
            wait_for("it hears no signal", BOUND, || is_uninterruptible(&server, &id));
            jobs.push((id, timed_out(9)));
        }
        assert_eq!(server.run("exit", Value::Null)["exit_code"], 3, "others are not held up");
        for (id, outcome) in jobs {
            let job = server.over(&id);
            assert_eq!(job["outcome"], outcome, "{job}");
            let ran = job["run_ms"].as_u64().expect("a duration");
            assert!((400..8_000).contains(&ran), "{ran} ms: {job}");
            assert_eq!(server.processes_of(&id), Vec::<u32>::new());
        }
    }
}

/// A freezer of the old kind: what is in it cannot even be killed before it is thawed.
struct Freezer(PathBuf);

impl Freezer {
    fn make() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let is_one =
            |line: &&str| line.contains(" - cgroup ") && line.split(',').any(|word| word == "freezer");
        let mount = mounts.lines().find(is_one).and_then(|line| line.split(' ').nth(4));
        let made =
            mount.map(|mount| PathBuf::from(mount).join(format!("procession-test-{}", std::process::id())));
        let freezer = made.filter(|path| fs::create_dir(path).is_ok()).map(Self);
        if freezer.is_none() {
            eprintln!("skipped: no freezer can be made here");
        }
        freezer
    }

    fn freeze(&self, process: u32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).expect("taken");
        fs::write(self.0.join("freezer.state"), "FROZEN").expect("frozen");
        let is_frozen =
            || fs::read_to_string(self.0.join("freezer.state")).is_ok_and(|state| state == "FROZEN\n");
        wait_for("it is frozen", BOUND, is_frozen);
    }

    fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").expect("thawed");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn f27_p19_a_program_that_cannot_die_holds_nobody_else_up_and_its_end_is_told_when_it_does() {
    let Some(freezer) = Freezer::make() else { return };
    let config = STUBBORN.replace(
        "timeout = \"400ms\"\ngrace = \"300ms\"\n[task.stopped]",
        "timeout = \"2s\"\ngrace = \"100ms\"\n[task.stopped]",
    );
    let server = Server::start(&config);
    let id = server.running("ignores", Value::Null);
    let leader = server.processes_of(&id)[0];
    freezer.freeze(leader);
    let began = Instant::now();
    wait_for("its limit and its grace are over", BOUND, || began.elapsed() > Duration::from_millis(2_500));
    let job = server.job(&id);
    assert_eq!((&job["state"], &job["outcome"]), (&json!("running"), &Value::Null), "still there: {job}");
    for _ in 0..5 {
        let other = server.run("exit", Value::Null);
        assert_eq!(other["exit_code"], 3);
    }
    // Not even the server's death changes that.
    signal(server.server_pid(), Signal::KILL);
    assert_eq!(server.job(&id)["state"], "running");
    freezer.thaw();
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 2000, "signal": 9}), "{job}");
    wait_for("nothing of it is left", BOUND, || server.processes_of(&id).is_empty());
}

const HIDING: &str = r#"
[task.hides]
command = ["sh", "-c", '''
exec <&- >&- 2>&-
(setsid sh -c "trap '' TERM HUP; (setsid sleep 600 &) ; : > \"$PROCESSION_DIR/hidden\"; while :; do sleep 600; done" &)
until [ -e "$PROCESSION_DIR/hidden" ]; do sleep 0.02; done
exit 4
''']
[task.bomb]
command = ["sh", "-c", 'n=0; while [ $n -lt 60 ]; do n=$((n+1)); (setsid sh -c "(sleep 600 &); sleep 600" &) ; done; exec sleep 600']
timeout = "1s"
grace = "100ms"
[task.exit]
command = ["sh", "-c", "exit 3"]
"#;

#[test]
fn f28_p13_p14_p15_p16_who_closes_forks_and_leaves_its_session_leaves_nothing_behind() {
    for setup in levels(HIDING) {
        let server = setup.start();
        let job = server.run("hides", Value::Null);
        let id = job["id"].as_str().expect("an id");
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": 4}), "{job}");
        assert!(job["leaked_processes"].as_u64().is_some_and(|leaked| leaked >= 2), "{job}");
        assert_eq!(server.processes_of(id), Vec::<u32>::new(), "{job}");

        let bomb = server.submit("bomb", Value::Null);
        assert_eq!(server.run("exit", Value::Null)["exit_code"], 3, "others are not held up");
        let job = server.over(&bomb);
        assert_eq!(job["outcome"]["kind"], "timed_out", "{job}");
        wait_for("nothing of it is left", BOUND, || server.processes_of(&bomb).is_empty());
    }
}

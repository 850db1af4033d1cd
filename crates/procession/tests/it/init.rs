//! As PID 1 of a container: the keeper is everybody's parent, hears TERM though the kernel
//! shields it, and says how it holds trees together.

use std::fs;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{BOUND, Setup, command, end, wait_for, wait_for_some};

const TASKS: &str = r#"
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done; exit 3']
[task.orphans]
command = ["python3", "orphans.py", "100"]
leave_children = true
[task.quick]
command = ["sh", "-c", 'id -u']
"#;

/// Each is forked by a process that ends before it does, in a session of its own: nobody's.
const ORPHANS: &str = "
import os, sys, time
for n in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp('sleep', ['sleep', '0.1'])
        os._exit(0)
    os.wait()
";

/// A pid namespace, and in it what the test started as its first process.
struct Container {
    unshare: Child,
    /// The first process, as it is called out here.
    first: u32,
}

impl Container {
    fn start(setup: &Setup) -> Self {
        let unshare = setup.spawn();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let first = wait_for_some("the first process", BOUND, || {
            let text = fs::read_to_string(&children).ok()?;
            text.split_whitespace().next()?.parse().ok()
        });
        Self { unshare, first }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.first).expect("a process id")).expect("not 0");
        kill_process(pid, signal).expect("it lives");
    }

    /// `unshare` ends as the first process does.
    fn ended(&mut self) -> Option<i32> {
        let unshare = &mut self.unshare;
        wait_for_some("it ends", BOUND, || unshare.try_wait().expect("a child of ours")).code()
    }

    /// Children of the first process that are dead and not reaped.
    fn zombies(&self) -> usize {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.first));
        let children = children.unwrap_or_default();
        let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        children.split_whitespace().filter(|pid| stat(pid).contains(") Z ")).count()
    }

    fn children(&self) -> usize {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.first));
        children.unwrap_or_default().split_whitespace().count()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.unshare.try_wait(), Ok(None)) {
            // The end of the first process is the end of all in its namespace.
            self.signal(Signal::KILL);
            end(&mut self.unshare, BOUND);
        }
    }
}

const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

fn lives_as_init(setup: Setup, containment: &str, user: &str) {
    let setup = setup.file("orphans.py", ORPHANS);
    let mut container = Container::start(&setup);
    let client = setup.client();
    let keeper = fs::read_to_string(setup.path().join("data/pid")).expect("readable");
    assert_eq!(keeper, "1\n");
    let quick = client.run("quick", Value::Null);
    assert_eq!(quick["containment"], containment, "{quick}");
    assert_eq!(client.stdout(quick["id"].as_str().expect("an id")), format!("{user}\n").as_bytes());
    // A thousand of nobody's processes, a hundred at a time.
    let before = container.children();
    for _ in 0..10 {
        assert_eq!(client.run("orphans", Value::Null)["exit_code"], 0);
    }
    wait_for("all are reaped", BOUND, || container.zombies() == 0 && container.children() <= before);
    let id = client.running("gate", Value::Null);
    container.signal(Signal::TERM);
    wait_for("it drains", BOUND, || client.get("/readyz").status == 503);
    assert_eq!(client.job(&id)["state"], "running");
    fs::write(setup.path().join("go"), "").expect("written");
    assert_eq!(container.ended(), Some(0));
}

/// May the test make what it needs?
fn can_unshare() -> bool {
    let tried = command("unshare").args(&UNSHARE[1..]).arg("true").output();
    let can = tried.is_ok_and(|output| output.status.success());
    assert!(can, "this test needs root and pid namespaces");
    can
}

#[test]
fn p25_f41_as_pid_1_it_reaps_foreign_orphans_drains_at_term_and_exits_0_heavy() {
    assert!(can_unshare());
    // What this machine offers, and no less.
    let usual = Setup::new(TASKS).start().run("quick", Value::Null)["containment"].clone();
    let containment = usual.as_str().expect("a word");
    lives_as_init(Setup::new(TASKS).under(&UNSHARE), containment, "0");
}

#[test]
fn p25_f41_as_pid_1_without_cgroups_it_says_so_and_all_else_holds_heavy() {
    assert!(can_unshare());
    lives_as_init(Setup::new(TASKS).under(&UNSHARE).monitor(), "monitor", "0");
}

#[test]
fn p25_f41_as_pid_1_and_nobody_all_else_holds_heavy() {
    assert!(can_unshare());
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let launcher = [UNSHARE.as_slice(), &nobody].concat();
    let setup = Setup::new(TASKS).under(&launcher);
    std::os::unix::fs::chown(setup.path(), Some(65534), Some(65534)).expect("as root");
    lives_as_init(setup, "monitor", "65534");
}

#[test]
fn f41_who_may_not_make_cgroups_records_what_was_used() {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let setup = Setup::new(TASKS).under(&nobody);
    std::os::unix::fs::chown(setup.path(), Some(65534), Some(65534)).expect("as root");
    let mut server = setup.start();
    let job = server.run("quick", Value::Null);
    assert_eq!((&job["containment"], &job["exit_code"]), (&json!("monitor"), &json!(0)));
    assert_eq!(server.stop().code(), Some(0));
}

//! Trees: what a program leaves behind is found, counted and ended.

use std::time::{Duration, Instant};

use procession_core::frame::ToKeeper;
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, Ending, StopCause};
use rustix::process::{Pid, Signal, kill_process};

use crate::keeper::{Keeper, LEVELS, Server, wait_for};
use crate::model::cases;

const NOBODY: [i32; 0] = [];

/// Pids of processes of this keeper's jobs: those whose environment was made by its launches.
pub(crate) fn job_processes(mark: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("readable").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_marked = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|byte| *byte == 0).any(|text| text == mark.as_bytes()))
    };
    pids.filter(is_marked).collect()
}

pub(crate) fn marked(keeper: &Keeper, args: &[&str]) -> (procession_core::launch::Launch, String) {
    let mut launch = keeper.launch(args);
    let mark = format!("MARK={}", launch.key.fence.0 + u64::from(std::process::id()) * 1_000_000);
    launch.env.push(mark.clone().into());
    (launch, mark)
}

#[test]
fn every_mode_yields_what_the_model_says() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for case in cases() {
            let (mut launch, mark) = marked(&keeper, case.args);
            launch.stdin = case.stdin.clone();
            let start = Instant::now();
            let record = server.run(&launch);
            assert_eq!(record.ending, case.status.ending(), "{level:?} {}", case.id);
            assert_eq!(record.leaked, case.leaked, "{level:?} {}", case.id);
            assert_eq!(record.containment, level);
            assert!(start.elapsed() < Duration::from_secs(1), "{level:?} {}", case.id);
            if let Some(stdout) = case.stdout {
                assert_eq!(record.stdout.tail, stdout, "{level:?} {}", case.id);
            }
            assert_eq!(job_processes(&mark), NOBODY, "{level:?} {}", case.id);
        }
    }
}

#[test]
fn p14_a_grandchild_holds_the_output_and_does_not_delay_the_result() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let (launch, mark) = marked(&keeper, &["leave-sleeper", "3"]);
        server.spawn(&launch);
        server.started(launch.key);
        let start = Instant::now();
        let record = server.exited(launch.key);
        assert!(start.elapsed() < Duration::from_millis(200), "{level:?} {:?}", start.elapsed());
        assert_eq!(record.ending, Ending::Ended { wait_status: 3 << 8, stopped: None });
        assert_eq!((record.leaked, job_processes(&mark)), (1, vec![]));
    }
}

#[test]
fn p15_double_fork_and_setsid_leave_no_survivor() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for _ in 0..20 {
            let (launch, mark) = marked(&keeper, &["double-fork-setsid", "0"]);
            assert_eq!(server.run(&launch).leaked, 1, "{level:?}");
            assert_eq!(job_processes(&mark), NOBODY, "{level:?}");
        }
    }
}

#[test]
fn p43_a_double_fork_as_its_first_act_finds_no_window() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for _ in 0..50 {
            let (launch, mark) = marked(&keeper, &["double-fork-at-once", "0"]);
            let record = server.run(&launch);
            assert_eq!(record.ending, Ending::Ended { wait_status: 0, stopped: None });
            assert_eq!(job_processes(&mark), NOBODY, "{level:?}");
        }
    }
}

#[test]
fn p16_a_fork_bomb_is_ended_and_others_run_on_heavy() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let (mut bomb, mark) = marked(&keeper, &["fork-bomb", "500"]);
        bomb.grace = Duration::from_millis(200);
        server.spawn(&bomb);
        server.started(bomb.key);
        wait_for("the bomb", || (job_processes(&mark).len() >= 200).then_some(()));
        let start = Instant::now();
        let other = keeper.launch(&["exit", "0"]);
        assert_eq!(server.run(&other).ending, Ending::Ended { wait_status: 0, stopped: None });
        assert!(start.elapsed() < Duration::from_secs(2), "{level:?} {:?}", start.elapsed());
        server.say(&ToKeeper::Stop { key: bomb.key, by: CancelledBy::Client, now: false });
        let record = server.exited(bomb.key);
        assert!(record.leaked >= 199, "{level:?} {}", record.leaked);
        assert_eq!(job_processes(&mark), NOBODY, "{level:?}");
    }
}

#[test]
fn p17_who_ignores_term_is_killed_after_its_grace() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let mut launch = keeper.launch(&["ignore-term"]);
        launch.timeout = Some(Duration::from_millis(150));
        launch.grace = Duration::from_millis(100);
        let record = server.run(&launch);
        let stopped = Some(StopCause::Deadline { limit_ms: 150 });
        assert_eq!(record.ending, Ending::Ended { wait_status: 9, stopped }, "{level:?}");
        assert!((250_000..350_000).contains(&record.run_us), "{level:?} {}", record.run_us);
    }
}

#[test]
fn p18_a_stopped_program_hears_term_and_kill() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for (now, signal) in [(false, 15), (true, 9)] {
            let launch = keeper.launch(&["stop-self"]);
            server.spawn(&launch);
            let pid = server.started(launch.key).pid;
            wait_for("the stop", || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                stat.contains(") T ").then_some(())
            });
            server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Client, now });
            let stopped = Some(StopCause::Cancelled { by: CancelledBy::Client });
            let ending = Ending::Ended { wait_status: signal, stopped };
            assert_eq!(server.exited(launch.key).ending, ending, "{level:?}");
        }
    }
}

#[test]
fn term_reaches_the_whole_tree_and_an_answer_to_it_is_kept() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let file = keeper.path("running");
        let (mut launch, mark) = marked(&keeper, &["term-ends-it-by", file.to_str().expect("plain")]);
        launch.grace = Duration::from_secs(10);
        server.spawn(&launch);
        wait_for("both", || (file.exists() && job_processes(&mark).len() == 2).then_some(()));
        wait_for("its handler", || caught(&mark).then_some(()));
        server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Parent, now: false });
        let record = server.exited(launch.key);
        let stopped = Some(StopCause::Cancelled { by: CancelledBy::Parent });
        assert_eq!(record.ending, Ending::Ended { wait_status: 0, stopped }, "{level:?}");
        assert_eq!((record.leaked, job_processes(&mark)), (1, vec![]), "{level:?}");
    }
}

/// One of them has a handler for TERM, the other ignores it.
fn caught(mark: &str) -> bool {
    let has = |pid: &i32, line: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|text| text.strip_prefix(line)).unwrap_or("0");
        u64::from_str_radix(mask.trim(), 16).unwrap_or_default() & 1 << 14 != 0
    };
    let pids = job_processes(mark);
    pids.iter().any(|pid| has(pid, "SigCgt:")) && pids.iter().any(|pid| has(pid, "SigIgn:"))
}

#[test]
fn what_is_to_be_left_is_left_by_those_who_end_by_themselves() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let (mut launch, mark) = marked(&keeper, &["leave-sleeper", "0"]);
        launch.leave_children = true;
        assert_eq!(server.run(&launch).leaked, 1, "{level:?}");
        let left = job_processes(&mark);
        assert_eq!(left.len(), 1, "{level:?}");
        // Another attempt's end is not theirs.
        server.run(&keeper.launch(&["leave-sleeper", "0"]));
        assert_eq!(job_processes(&mark), left, "{level:?}");
        for pid in left {
            kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("our launch's");
        }
        wait_for("its end", || job_processes(&mark).is_empty().then_some(()));
        still_works(&keeper, &mut server);
    }
}

/// A cgroup below the one this test lives in; gone with this value.
struct OuterCgroup(std::path::PathBuf);

impl OuterCgroup {
    fn make() -> Option<OuterCgroup> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let point = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let path = std::path::Path::new(&point).join(own).join(format!("killed-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        Some(OuterCgroup(path))
    }
}

impl Drop for OuterCgroup {
    fn drop(&mut self) {
        wait_for("an empty cgroup", || std::fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn a_keeper_in_a_cgroup_that_was_once_killed_can_still_run_jobs() {
    let Some(outer) = OuterCgroup::make() else {
        eprintln!("skipped: no usable cgroup");
        return;
    };
    std::fs::write(outer.0.join("cgroup.kill"), "1").expect("as root");
    let procs = std::fs::OpenOptions::new().write(true).open(outer.0.join("cgroup.procs")).expect("as root");
    let (mut keeper, mut server) = Keeper::start_by(Containment::Cgroup, |command| {
        let join = move || Ok(rustix::io::write(&procs, b"0").map(drop)?);
        // SAFETY: one system call, allowed between fork and exec.
        unsafe { std::os::unix::process::CommandExt::pre_exec(command, join) };
    });
    assert_eq!(server.hello.containment, Containment::Cgroup);
    for _ in 0..20 {
        let (launch, mark) = marked(&keeper, &["double-fork-at-once", "0"]);
        let record = server.run(&launch);
        assert_eq!(record.ending, Ending::Ended { wait_status: 0, stopped: None });
        assert_eq!(job_processes(&mark), NOBODY);
    }
    server.goodbye(0);
    keeper.wait();
}

#[test]
fn what_is_left_outlives_the_keeper_too() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let (mut launch, mark) = marked(&keeper, &["leave-sleeper", "0"]);
        launch.leave_children = true;
        server.run(&launch);
        let left = job_processes(&mark);
        assert_eq!(left.len(), 1, "{level:?}");
        server.goodbye(0);
        let (keeper, mut server) = keeper.successor();
        still_works(&keeper, &mut server);
        assert_eq!(job_processes(&mark), left, "{level:?}");
        for pid in left {
            kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("our launch's");
        }
        wait_for("its end", || job_processes(&mark).is_empty().then_some(()));
    }
}

fn still_works(keeper: &Keeper, server: &mut Server) {
    let record = server.run(&keeper.launch(&["exit", "5"]));
    assert_eq!(record.ending, Ending::Ended { wait_status: 5 << 8, stopped: None });
}

#[test]
fn a_monitor_that_dies_takes_its_tree_along() {
    let (keeper, mut server) = Keeper::start(Containment::Monitor);
    let (launch, mark) = marked(&keeper, &["fork-bomb", "5"]);
    server.spawn(&launch);
    let pid = server.started(launch.key).pid;
    wait_for("the tree", || (job_processes(&mark).len() == 6).then_some(()));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let monitor: i32 =
        stat.rsplit(") ").next().and_then(|f| f.split(' ').nth(1)?.parse().ok()).expect("a parent");
    assert_ne!(monitor.cast_unsigned(), keeper.pid());
    kill_process(Pid::from_raw(monitor).expect("a pid"), Signal::KILL).expect("our keeper's");
    assert_eq!(server.exited(launch.key).ending, Ending::Vanished);
    wait_for("their end", || job_processes(&mark).is_empty().then_some(()));
    still_works(&keeper, &mut server);
}

#[test]
fn a_killed_keeper_leaves_nothing_that_its_successor_does_not_end() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let (launch, mark) = marked(&keeper, &["fork-bomb", "3"]);
        server.spawn(&launch);
        wait_for("the tree", || (job_processes(&mark).len() == 4).then_some(()));
        keeper.signal(Signal::KILL);
        let (keeper, mut server) = keeper.successor();
        wait_for("their end", || job_processes(&mark).is_empty().then_some(()));
        assert_eq!(server.list(), (vec![], vec![]), "{level:?}");
        still_works(&keeper, &mut server);
    }
}

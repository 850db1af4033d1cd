//! Out of the attempt's hold: by another cgroup, by a stopped monitor. Ended all the same.

use std::time::{Duration, Instant};

use procession_core::frame::ToKeeper;
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, Ending, StopCause};

use crate::keeper::{Keeper, Server, wait_for};
use crate::tree::{job_processes, marked};

/// `None` where there are no cgroups to leave.
fn with_cgroups() -> Option<(Keeper, Server)> {
    let (keeper, server) = Keeper::start(Containment::Cgroup);
    if server.hello.containment != Containment::Cgroup || !rustix::process::getuid().is_root() {
        eprintln!("skipped: nobody here could leave a cgroup");
        return None;
    }
    Some((keeper, server))
}

#[test]
fn a_leader_that_left_its_cgroup_and_ignores_term_is_killed() {
    let Some((keeper, mut server)) = with_cgroups() else { return };
    let mut timed = keeper.launch(&["leave-cgroup-and-ignore-term"]);
    timed.timeout = Some(Duration::from_millis(300));
    timed.grace = Duration::from_millis(100);
    let stopped = Some(StopCause::Deadline { limit_ms: 300 });
    assert_eq!(server.run(&timed).ending, Ending::Ended { wait_status: 9, stopped });

    let cancelled = keeper.launch(&["leave-cgroup-and-ignore-term"]);
    server.spawn(&cancelled);
    let pid = server.started(cancelled.key).pid;
    wait_for("its move", || {
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let name = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        name.rsplit('/').next().is_some_and(|last| last.starts_with("procession-test-")).then_some(())
    });
    let by = CancelledBy::Client;
    server.say(&ToKeeper::Stop { key: cancelled.key, by, now: true });
    let stopped = Some(StopCause::Cancelled { by });
    assert_eq!(server.exited(cancelled.key).ending, Ending::Ended { wait_status: 9, stopped });
}

#[test]
fn a_child_that_left_the_cgroup_is_ended_with_its_attempt() {
    let Some((keeper, mut server)) = with_cgroups() else { return };
    // In the leader's session it is known whose it is; in another it is ended all the same.
    for (session, leaked) in [("kept", 1), ("setsid", 0)] {
        let (launch, mark) = marked(&keeper, &["leave-cgroup-child", session, "3"]);
        let record = server.run(&launch);
        assert_eq!(record.ending, Ending::Ended { wait_status: 3 << 8, stopped: None }, "{session}");
        assert_eq!(record.leaked, leaked, "{session}");
        wait_for("its end", || job_processes(&mark).is_empty().then_some(()));
    }
}

#[test]
fn a_child_that_left_the_cgroup_and_is_to_be_left_is_left() {
    let Some((keeper, mut server)) = with_cgroups() else { return };
    for session in ["kept", "setsid"] {
        let (mut launch, mark) = marked(&keeper, &["leave-cgroup-child", session, "0"]);
        launch.leave_children = true;
        server.run(&launch);
        let left = job_processes(&mark);
        assert_eq!(left.len(), 1, "{session}");
        // The ends of others do not end it, and what they leave in their cgroups is their own.
        for _ in 0..3 {
            server.run(&keeper.launch(&["leave-sleeper", "0"]));
        }
        assert_eq!(job_processes(&mark), left, "{session}");
        for pid in left {
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("our launch's");
        }
        wait_for("its end", || job_processes(&mark).is_empty().then_some(()));
    }
}

/// At the other level a job's parent is the keeper itself.
fn with_monitors() -> (Keeper, Server) {
    Keeper::start(Containment::Monitor)
}

#[test]
fn a_job_that_stops_its_monitor_is_still_ended() {
    let (keeper, mut server) = with_monitors();
    let mut timed = keeper.launch(&["stop-parent"]);
    timed.timeout = Some(Duration::from_millis(300));
    let stopped = Some(StopCause::Deadline { limit_ms: 300 });
    let record = server.run(&timed);
    assert_eq!(record.ending, Ending::Ended { wait_status: 15, stopped });
    assert!(record.run_us < 2_000_000, "{}", record.run_us);

    let cancelled = keeper.launch(&["stop-parent"]);
    server.spawn(&cancelled);
    let by = CancelledBy::Client;
    server.started(cancelled.key);
    server.say(&ToKeeper::Stop { key: cancelled.key, by, now: true });
    let stopped = Some(StopCause::Cancelled { by });
    assert_eq!(server.exited(cancelled.key).ending, Ending::Ended { wait_status: 9, stopped });
}

#[test]
fn a_job_that_stops_its_monitor_and_exits_is_seen_to() {
    let (keeper, mut server) = with_monitors();
    let start = Instant::now();
    let record = server.run(&keeper.launch(&["stop-parent-and-exit", "4"]));
    assert_eq!(record.ending, Ending::Ended { wait_status: 4 << 8, stopped: None });
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_job_that_keeps_its_monitor_stopped_is_ended_with_it() {
    let (keeper, mut server) = with_monitors();
    let (launch, mark) = marked(&keeper, &["keep-parent-stopped"]);
    server.spawn(&launch);
    let pid = server.started(launch.key).pid;
    let by = CancelledBy::Client;
    server.say(&ToKeeper::Stop { key: launch.key, by, now: true });
    let record = server.exited(launch.key);
    // Between two stops the monitor may get its order done; else nobody saw the end.
    let stopped = Some(StopCause::Cancelled { by });
    let endings = [Ending::Ended { wait_status: 9, stopped }, Ending::Vanished];
    assert!(endings.contains(&record.ending), "{:?}", record.ending);
    wait_for("their end", || {
        let gone = !std::fs::exists(format!("/proc/{pid}/environ")).ok()?;
        (gone && job_processes(&mark).is_empty()).then_some(())
    });
    let next = server.run(&keeper.launch(&["exit", "5"]));
    assert_eq!(next.ending, Ending::Ended { wait_status: 5 << 8, stopped: None });
}

//! The server dies, comes back, is told what it missed; the operator wants it to end.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use procession_core::frame::{ToKeeper, ToServer};
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, Ending, StopCause};
use rustix::process::Signal;

use crate::keeper::{BOUND, Keeper, LEVELS, wait_for};

#[test]
fn p33_deadlines_hold_and_records_wait_while_there_is_no_server() {
    for level in LEVELS {
        let (mut keeper, mut server) = Keeper::start(level);
        let mut timed = keeper.launch(&["ignore-term"]);
        timed.timeout = Some(Duration::from_millis(200));
        timed.grace = Duration::from_millis(50);
        let done = keeper.launch(&["exit", "5"]);
        let runs_on = keeper.launch(&["sleep"]);
        for launch in [&timed, &done, &runs_on] {
            server.spawn(launch);
            server.started(launch.key);
        }
        let before = server.exited(done.key);
        assert_eq!(server.hello.generation, 1);
        server.kill();

        let mut server = keeper.next_server();
        assert_eq!(server.hello.generation, 2);
        assert_eq!(server.listeners.len(), 1);
        let timed_out = wait_for("the deadline", || {
            let over = server.list().1;
            over.into_iter().find(|record| record.key == timed.key)
        });
        let stopped = Some(StopCause::Deadline { limit_ms: 200 });
        assert_eq!(timed_out.ending, Ending::Ended { wait_status: 9, stopped }, "{level:?}");
        let (running, over) = server.list();
        assert_eq!(running.iter().map(|started| started.key).collect::<Vec<_>>(), [runs_on.key]);
        assert!(running[0].pid > 1 && running[0].cookie == "cookie");
        assert!(over.contains(&before), "{level:?}: the record is the same");
        for record in over {
            server.say(&ToKeeper::Ack { key: record.key });
        }
        assert_eq!(server.list().1, []);
    }
}

#[test]
fn what_a_dead_server_still_asked_for_is_not_done_behind_the_next_ones_back() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    // Stopped, the keeper cannot read what the dying server says last.
    keeper.signal(Signal::STOP);
    let launch = keeper.launch(&["exit", "0"]);
    server.spawn(&launch);
    server.kill();
    keeper.signal(Signal::CONT);
    let mut server = keeper.next_server();
    // Either it was started before the death was seen, and is owned up to, or it never is.
    let (running, over) = server.list();
    let known: HashSet<_> = running.iter().map(|s| s.key).chain(over.iter().map(|r| r.key)).collect();
    if !known.contains(&launch.key) {
        server.run(&launch);
    }
    wait_for("its end", || server.list().0.is_empty().then_some(()));
}

#[test]
fn records_outlive_the_keeper() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let launches: Vec<_> = (0..10).map(|code| keeper.launch(&["exit", &code.to_string()])).collect();
        let mut records = vec![];
        for launch in &launches {
            server.spawn(launch);
            records.push(server.exited(launch.key));
        }
        server.say(&ToKeeper::Ack { key: launches[3].key });
        assert_eq!(server.list().1.len(), 9);
        keeper.signal(Signal::KILL);
        let (_keeper, mut server) = keeper.successor();
        records.remove(3);
        assert_eq!(server.list().1, records, "{level:?}");
    }
}

#[test]
fn an_answer_longer_than_a_frame_comes_in_several() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let launches: Vec<_> = (0..300).map(|_| keeper.launch(&["flood", "20000", "0"])).collect();
    let all: Vec<_> = launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
    server.say_all(&all);
    for launch in &launches {
        server.exited(launch.key);
    }
    assert_eq!(server.list().1.len(), 300);
}

#[test]
fn a_server_that_was_never_ready_ends_the_keeper_with_its_own_status() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let mut host = Command::new(env!("CARGO_BIN_EXE_keeper-host"));
    let label = format!("test-{}-die", std::process::id());
    host.arg(folder.path()).args([&label, "best", "die", "78"]);
    assert_eq!(host.status().expect("it starts").code(), Some(78));
}

#[test]
fn a_server_that_dies_before_ready_is_started_again_later_and_later() {
    let (mut keeper, server) = Keeper::start(Containment::Cgroup);
    server.kill();
    let start = Instant::now();
    for _ in 0..3 {
        keeper.next_link().kill();
    }
    // 100, 200, 400 ms: the first start was at once.
    let third = keeper.next_server();
    let elapsed = start.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_millis(1500)).contains(&elapsed), "{elapsed:?}");
    assert_eq!(third.hello.generation, 5);
    third.kill();
    let start = Instant::now();
    keeper.next_server();
    assert!(start.elapsed() < Duration::from_millis(500), "one that was ready: at once");
}

#[test]
fn the_first_request_drains_the_second_hurries_the_third_kills() {
    for level in LEVELS {
        let (mut keeper, mut server) = Keeper::start(level);
        let launch = keeper.launch(&["ignore-term"]);
        server.spawn(&launch);
        let pid = server.started(launch.key).pid;
        for expected in [false, true] {
            keeper.signal(if expected { Signal::INT } else { Signal::TERM });
            let now = server.hear("SHUTDOWN", |message| match message {
                ToServer::Shutdown(shutdown) => Some(shutdown.now),
                _ => None,
            });
            assert_eq!(now, expected, "{level:?}");
        }
        keeper.signal(Signal::TERM);
        assert_eq!(keeper.wait().code(), Some(128 + 15), "{level:?}");
        assert!(!std::fs::exists(format!("/proc/{pid}")).expect("readable"), "{level:?}");
    }
}

#[test]
fn a_server_started_during_a_shutdown_is_told_of_it() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    let launch = keeper.launch(&["sleep"]);
    server.spawn(&launch);
    server.started(launch.key);
    keeper.signal(Signal::TERM);
    let is_shutdown =
        |message: &ToServer| matches!(message, ToServer::Shutdown(shutdown) if !shutdown.now).then_some(());
    server.hear("SHUTDOWN", is_shutdown);
    server.kill();
    let mut server = keeper.next_server();
    server.hear("SHUTDOWN", is_shutdown);
    server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Shutdown, now: true });
    server.goodbye(0);
    assert_eq!(keeper.wait().code(), Some(0));
}

#[test]
fn asked_to_end_with_nothing_to_keep_it_waits_for_no_server() {
    // Between two, later and later; then with one that never says READY.
    for hangs in [false, true] {
        let (mut keeper, server) = Keeper::start(Containment::Cgroup);
        server.kill();
        for _ in 0..4 {
            keeper.next_link().kill();
        }
        let link = hangs.then(|| keeper.next_link());
        let start = Instant::now();
        keeper.signal(Signal::TERM);
        assert_eq!(keeper.wait().code(), Some(128 + 15), "{hangs}");
        assert!(start.elapsed() < Duration::from_millis(500), "{hangs} {:?}", start.elapsed());
        assert!(!keeper.has_cgroups());
        drop(link);
    }
}

#[test]
fn asked_twice_without_a_server_it_ends_what_runs_and_its_records_wait() {
    for level in LEVELS {
        let (mut keeper, mut server) = Keeper::start(level);
        let mut deaf = keeper.launch(&["ignore-term"]);
        deaf.grace = Duration::from_millis(200);
        let polite = keeper.launch(&["sleep"]);
        for launch in [&deaf, &polite] {
            server.spawn(launch);
            server.started(launch.key);
        }
        server.hear("that it is deaf", |message| match message {
            ToServer::Output(notice) if notice.key == deaf.key => Some(()),
            _ => None,
        });
        server.kill();
        // It hangs on its way to READY.
        let _link = keeper.next_link();
        let start = Instant::now();
        keeper.signal(Signal::TERM);
        keeper.signal(Signal::INT);
        assert!(matches!(keeper.wait().code(), Some(130 | 143)), "{level:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{level:?} {:?}", start.elapsed());
        let (_keeper, mut server) = keeper.successor();
        let (running, over) = server.list();
        assert_eq!((running.len(), over.len()), (0, 2), "{level:?}");
        let by = CancelledBy::Shutdown;
        for (launch, signal) in [(&deaf, 9), (&polite, 15)] {
            let ending = Ending::Ended { wait_status: signal, stopped: Some(StopCause::Cancelled { by }) };
            assert!(over.iter().any(|r| r.key == launch.key && r.ending == ending), "{level:?} {over:?}");
        }
    }
}

#[test]
fn asked_once_without_a_server_it_ends_what_runs_in_a_bounded_time() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    let launch = keeper.launch(&["sleep"]);
    server.spawn(&launch);
    let pid = server.started(launch.key).pid;
    server.kill();
    let _link = keeper.next_link();
    let start = Instant::now();
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.wait().code(), Some(128 + 15));
    // It had the time that a server might have taken.
    assert!((9..13).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(!std::fs::exists(format!("/proc/{pid}")).expect("readable"));
}

#[test]
fn goodbye_waits_for_what_runs_and_leaves_no_cgroup() {
    for level in LEVELS {
        let (mut keeper, mut server) = Keeper::start(level);
        let mut launch = keeper.launch(&["sleep"]);
        launch.timeout = Some(Duration::from_millis(300));
        server.spawn(&launch);
        server.started(launch.key);
        let start = Instant::now();
        server.goodbye(3);
        assert_eq!(keeper.wait().code(), Some(3), "{level:?}");
        assert!(start.elapsed() > Duration::from_millis(200), "{level:?}");
        assert!(!keeper.has_cgroups(), "{level:?}");
    }
}

#[test]
fn a_server_that_hangs_up_is_ended_and_replaced() {
    let (mut keeper, server) = Keeper::start(Containment::Cgroup);
    let _link = server.hang_up();
    let start = Instant::now();
    let next = keeper.next_server();
    assert_eq!(next.hello.generation, 2);
    assert!(start.elapsed() < BOUND);
}

#[test]
fn a_server_that_does_not_listen_holds_nobody_up() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    // Their records are far more than a socket holds.
    let launches: Vec<_> = (0..400).map(|_| keeper.launch(&["flood", "16000", "0"])).collect();
    let all: Vec<_> = launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
    server.say_all(&all);
    let mut timed = keeper.launch(&["touch-on-term", keeper.path("asked").to_str().expect("plain")]);
    timed.timeout = Some(Duration::from_millis(300));
    server.spawn(&timed);
    wait_for("the deadline of one", || keeper.path("asked").exists().then_some(()));
    for launch in &launches {
        server.exited(launch.key);
    }
    server.exited(timed.key);
}

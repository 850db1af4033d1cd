//! Another server takes over, and whatever can go wrong with that.

use std::path::Path;

use procession_core::frame::{ToKeeper, ToServer, VERSION};
use procession_core::record::{Containment, Ending};
use rustix::process::Signal;

use crate::keeper::{Keeper, LEVELS, Server, wait_for};
use crate::renew::execution;
use crate::tree::{job_processes, marked};

const READY: ToKeeper = ToKeeper::Ready { version: VERSION };

/// Whether this signal was sent to a process and not read.
fn pending(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let sets =
        status.lines().filter_map(|line| line.strip_prefix("ShdPnd:").or(line.strip_prefix("SigPnd:")));
    let number = |set: &str| u64::from_str_radix(set.trim(), 16).expect("a mask");
    sets.map(number).any(|set| set >> (signal - 1) & 1 == 1)
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn hear_exactly(server: &mut Server, what: &str, message: &ToServer) {
    server.hear(what, |heard| (heard == message).then_some(()));
}

/// Asks for another server and lets it come as far as PREPARED.
fn prepared(keeper: &mut Keeper, signal: Signal) -> Server {
    keeper.signal(signal);
    let mut standby = keeper.next_standby();
    assert!(standby.hello.standby);
    standby.say(&ToKeeper::Prepared);
    standby
}

/// One that has been told to proceed and serves.
fn taken_over(keeper: &mut Keeper, old: &mut Server, signal: Signal) -> Server {
    let mut next = prepared(keeper, signal);
    hear_exactly(old, "RETIRE", &ToServer::Retire);
    old.say(&ToKeeper::Retired);
    hear_exactly(&mut next, "PROCEED", &ToServer::Proceed);
    next.say(&READY);
    next
}

#[test]
fn f05_a_server_takes_over_and_no_attempt_notices() {
    for level in LEVELS {
        let (mut keeper, mut old) = Keeper::start(level);
        let (over, runs, acked) =
            (keeper.launch(&["exit", "7"]), keeper.launch(&["sleep"]), keeper.launch(&["exit", "9"]));
        for launch in [&over, &runs, &acked] {
            old.spawn(launch);
        }
        old.started(runs.key);
        let record = old.exited(over.key);
        old.exited(acked.key);
        let mut next = prepared(&mut keeper, Signal::HUP);
        assert_eq!((next.hello.generation, next.hello.renew), (2, false));
        assert_eq!(next.listeners.len(), 1);
        hear_exactly(&mut old, "RETIRE", &ToServer::Retire);
        // What it says before RETIRED still counts; of what comes later only acknowledgements.
        let late = keeper.launch(&["exit", "3"]);
        old.spawn(&late);
        old.exited(late.key);
        let never = keeper.launch(&["exit", "4"]);
        old.say_all(&[
            ToKeeper::Retired,
            ToKeeper::Spawn(Box::new(never.clone())),
            ToKeeper::Ack { key: acked.key },
        ]);
        hear_exactly(&mut next, "PROCEED", &ToServer::Proceed);
        let acknowledged =
            |over: &[procession_core::record::ExitRecord]| over.iter().all(|r| r.key != acked.key);
        let (running, over_now) =
            wait_for("the acknowledgement", || Some(next.list()).filter(|(_, over)| acknowledged(over)));
        assert_eq!(running.iter().map(|s| s.key).collect::<Vec<_>>(), [runs.key], "{level:?}");
        assert!(over_now.contains(&record) && over_now.len() == 2, "{level:?}: {over_now:?}");
        next.say(&READY);
        // News is the new one's.
        next.say(&ToKeeper::Stop {
            key: runs.key,
            by: procession_core::outcome::CancelledBy::Client,
            now: true,
        });
        assert!(matches!(next.exited(runs.key).ending, Ending::Ended { wait_status: 9, .. }));
        assert_eq!(next.run(&never).key, never.key, "{level:?}: what came too late was never run");
        // The old one ends when it likes; nobody minds.
        old.kill();
        next.run(&keeper.launch(&["exit", "0"]));
    }
}

#[test]
fn f05_twenty_servers_in_a_row_lose_nothing() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    let mut launches = vec![];
    let mut seen = std::collections::HashMap::new();
    for round in 0..20 {
        for code in 0..10 {
            let launch = keeper.launch(&["exit", &(round + code).to_string()]);
            server.spawn(&launch);
            launches.push((launch, round + code));
        }
        let signal = if round % 2 == 0 { Signal::HUP } else { Signal::USR2 };
        let next = taken_over(&mut keeper, &mut server, signal);
        assert_eq!(next.hello.renew, round % 2 == 1);
        std::mem::replace(&mut server, next).kill();
    }
    wait_for("every end", || {
        seen.extend(server.list().1.into_iter().map(|record| (record.key, record.ending)));
        (seen.len() == launches.len()).then_some(())
    });
    for (launch, code) in &launches {
        let ending = Ending::Ended { wait_status: code << 8, stopped: None };
        assert_eq!(seen[&launch.key], ending);
    }
}

#[test]
fn f06_a_standby_that_dies_or_refuses_changes_nothing() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    keeper.signal(Signal::USR2);
    keeper.next_link().kill();
    keeper.signal(Signal::HUP);
    let mut standby = keeper.next_standby();
    standby.say(&ToKeeper::Refused { message: "a broken config".into() });
    server.run(&keeper.launch(&["exit", "0"]));
    // The one that refused is gone before another is begun.
    let next = taken_over(&mut keeper, &mut server, Signal::HUP);
    assert_eq!(next.hello.generation, 4);
}

#[test]
fn f06_a_standby_that_dies_when_it_is_its_turn_is_followed_by_another() {
    let (mut keeper, mut old) = Keeper::start(Containment::Cgroup);
    let runs = keeper.launch(&["sleep"]);
    old.spawn(&runs);
    old.started(runs.key);
    // After PROCEED.
    let mut standby = prepared(&mut keeper, Signal::USR2);
    hear_exactly(&mut old, "RETIRE", &ToServer::Retire);
    old.say(&ToKeeper::Retired);
    hear_exactly(&mut standby, "PROCEED", &ToServer::Proceed);
    standby.kill();
    let mut third = keeper.next_server();
    assert_eq!((third.hello.generation, third.hello.standby), (3, false));
    assert_eq!(third.list().0.len(), 1);
    // Before it.
    let standby = prepared(&mut keeper, Signal::USR2);
    hear_exactly(&mut third, "RETIRE", &ToServer::Retire);
    standby.kill();
    third.say(&ToKeeper::Retired);
    let mut fifth = keeper.next_server();
    assert_eq!((fifth.hello.generation, fifth.hello.standby), (5, false));
    // The one that released the store is reaped when it ends.
    let pid = third.pid;
    third.kill();
    wait_for("the third is reaped", || (!is_there(pid)).then_some(()));
    assert_eq!(fifth.list().0.len(), 1);
    fifth.run(&keeper.launch(&["exit", "0"]));
}

#[test]
fn f06_an_old_server_that_dies_on_its_way_out_is_not_waited_for() {
    let (mut keeper, mut old) = Keeper::start(Containment::Cgroup);
    // While the standby prepares: an ordinary death, the standby is given up.
    keeper.signal(Signal::HUP);
    let standby = keeper.next_standby();
    old.kill();
    old = keeper.next_server();
    assert_eq!((old.hello.generation, old.hello.standby), (3, false));
    drop(standby);
    // As it releases the store: the standby goes on.
    let mut standby = prepared(&mut keeper, Signal::HUP);
    hear_exactly(&mut old, "RETIRE", &ToServer::Retire);
    old.kill();
    hear_exactly(&mut standby, "PROCEED", &ToServer::Proceed);
    standby.say(&READY);
    standby.run(&keeper.launch(&["exit", "0"]));
}

/// A renewal that cannot be had before a handover is over: it was asked for in its middle.
fn renewal_in_a_handover() -> (Keeper, Server, Server, Vec<u8>) {
    let (mut keeper, mut old) = Keeper::start(Containment::Monitor);
    let before = execution(&keeper);
    keeper.signal(Signal::HUP);
    let standby = keeper.next_standby();
    old.say(&ToKeeper::Renew);
    old.run(&keeper.launch(&["exit", "0"]));
    assert_eq!(old.list().0.len(), 0, "nothing is held back");
    assert_eq!(execution(&keeper), before);
    (keeper, old, standby, before)
}

fn renewed(keeper: &Keeper, before: &[u8], server: &mut Server) {
    wait_for("the new program", || (execution(keeper) != before).then_some(()));
    server.run(&keeper.launch(&["exit", "0"]));
}

#[test]
fn f05_a_renewal_waits_for_a_handover_and_a_handover_for_no_renewal() {
    let (mut keeper, mut old, mut standby, before) = renewal_in_a_handover();
    standby.say(&ToKeeper::Prepared);
    hear_exactly(&mut old, "RETIRE", &ToServer::Retire);
    let late = keeper.launch(&["exit", "6"]);
    old.say_all(&[ToKeeper::Spawn(Box::new(late.clone())), ToKeeper::Retired]);
    hear_exactly(&mut standby, "PROCEED", &ToServer::Proceed);
    // Asked for twice, and what follows is asked for by a signal before that is done.
    standby.say_all(&[ToKeeper::List, READY, ToKeeper::Renew]);
    keeper.signal(Signal::USR2);
    renewed(&keeper, &before, &mut standby);
    assert!(matches!(standby.exited(late.key).ending, Ending::Ended { wait_status: 0x600, .. }));
    let next = keeper.next_standby();
    assert!(next.hello.renew);
    drop(old);
}

#[test]
fn f06_a_refusal_with_a_renewal_in_wait_leaves_the_server_served() {
    let (keeper, mut old, mut standby, before) = renewal_in_a_handover();
    standby.say(&ToKeeper::Refused { message: "a broken config".into() });
    renewed(&keeper, &before, &mut old);
}

#[test]
fn f06_a_server_that_dies_with_a_renewal_in_wait_is_followed_by_another() {
    for retires in [false, true] {
        let (mut keeper, mut old, mut standby, before) = renewal_in_a_handover();
        let mut next = if retires {
            standby.say(&ToKeeper::Prepared);
            hear_exactly(&mut old, "RETIRE", &ToServer::Retire);
            old.kill();
            hear_exactly(&mut standby, "PROCEED", &ToServer::Proceed);
            standby.say(&READY);
            standby
        } else {
            old.kill();
            keeper.next_server()
        };
        renewed(&keeper, &before, &mut next);
    }
}

#[test]
fn f40_after_a_request_to_end_nothing_is_reloaded() {
    // Before a server has answered the request, and with one asked for again and again before it.
    for first in [&[][..], &[Signal::HUP, Signal::HUP]] {
        let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
        first.iter().for_each(|signal| keeper.signal(*signal));
        let standby = (!first.is_empty()).then(|| keeper.next_link());
        keeper.signal(Signal::TERM);
        keeper.signal(Signal::HUP);
        keeper.signal(Signal::USR2);
        server.hear("SHUTDOWN", |message| matches!(message, ToServer::Shutdown(_)).then_some(()));
        server.run(&keeper.launch(&["exit", "0"]));
        assert!(keeper.no_server_waits(), "another server was started");
        server.goodbye(0);
        assert_eq!(keeper.wait().code(), Some(0));
        drop(standby);
    }
}

#[test]
fn f40_a_third_request_in_a_handover_ends_all_of_it() {
    let (mut keeper, mut old) = Keeper::start(Containment::Cgroup);
    let (launch, mark) = marked(&keeper, &["ignore-term"]);
    old.spawn(&launch);
    old.started(launch.key);
    let standby = prepared(&mut keeper, Signal::USR2);
    hear_exactly(&mut old, "RETIRE", &ToServer::Retire);
    for _ in 0..3 {
        keeper.signal(Signal::TERM);
        // Blocked signals are sets: one that is read counts, not one that is sent.
        wait_for("it is read", || (!pending(keeper.pid(), libc::SIGTERM)).then_some(()));
    }
    keeper.wait();
    assert!(job_processes(&mark).is_empty());
    for server in [&old, &standby] {
        assert!(!is_there(server.pid));
    }
}

#[test]
fn f40_an_end_asked_for_meanwhile_ends_the_standby_and_drains_the_server() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    keeper.signal(Signal::HUP);
    let standby = keeper.next_standby();
    keeper.signal(Signal::TERM);
    server.hear("SHUTDOWN", |message| matches!(message, ToServer::Shutdown(_)).then_some(()));
    server.goodbye(0);
    assert_eq!(keeper.wait().code(), Some(0));
    drop(standby);
}

#[test]
fn f40_an_end_waits_for_the_answers_of_a_server_that_has_handed_over() {
    let (mut keeper, mut old) = Keeper::start(Containment::Cgroup);
    let mut next = taken_over(&mut keeper, &mut old, Signal::HUP);
    keeper.signal(Signal::TERM);
    let is_shutdown = |message: &ToServer| matches!(message, ToServer::Shutdown(_)).then_some(());
    next.hear("SHUTDOWN", is_shutdown);
    old.hear("SHUTDOWN", is_shutdown);
    next.goodbye(3);
    wait_for("the one that served is gone", || keeper.has_no_child_beside(old.pid).then_some(()));
    assert!(keeper.still_runs());
    old.goodbye(0);
    assert_eq!(keeper.wait().code(), Some(3));
}

#[test]
fn f38_a_reload_asked_for_during_another_has_its_turn_afterwards() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    keeper.signal(Signal::HUP);
    let mut standby = keeper.next_standby();
    keeper.signal(Signal::USR2);
    keeper.signal(Signal::HUP);
    server.run(&keeper.launch(&["exit", "0"]));
    standby.say(&ToKeeper::Prepared);
    hear_exactly(&mut server, "RETIRE", &ToServer::Retire);
    server.say(&ToKeeper::Retired);
    hear_exactly(&mut standby, "PROCEED", &ToServer::Proceed);
    standby.say(&READY);
    let third = keeper.next_standby();
    assert!(third.hello.standby && third.hello.renew, "what either asked for");
    standby.run(&keeper.launch(&["exit", "0"]));
}

#[test]
fn a_log_is_reopened_when_somebody_asks() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    keeper.signal(Signal::USR1);
    hear_exactly(&mut server, "REOPEN_LOG", &ToServer::ReopenLog);
}

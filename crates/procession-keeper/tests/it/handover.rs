//! Another server takes over, and whatever can go wrong with that.

use procession_core::frame::{ToKeeper, ToServer, VERSION};
use procession_core::record::{Containment, Ending};
use rustix::process::Signal;

use crate::keeper::{Keeper, LEVELS, Server, wait_for};

const READY: ToKeeper = ToKeeper::Ready { version: VERSION };

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

//! Endings: exactly what the kernel said, every one of them, once.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use procession_core::frame::{ToKeeper, ToServer};
use procession_core::outcome::WaitStatus;
use procession_core::record::{Containment, Ending, StopCause};

use crate::keeper::{Keeper, LEVELS, Server};

/// Runs many at once, a bounded number at a time, and gives each ending with its number.
pub(crate) fn run_many(
    server: &mut Server,
    at_once: usize,
    launches: Vec<procession_core::launch::Launch>,
    mut each: impl FnMut(usize, Ending),
) {
    let numbers: HashMap<_, _> =
        launches.iter().enumerate().map(|(number, launch)| (launch.key, number)).collect();
    let mut left = launches.len();
    let mut next = launches.into_iter();
    for launch in next.by_ref().take(at_once) {
        server.spawn(&launch);
    }
    while left > 0 {
        let record = server.hear("EXITED", |message| match message {
            ToServer::Exited(record) => Some(record.clone()),
            _ => None,
        });
        server.forget_starts();
        let mut replies = vec![ToKeeper::Ack { key: record.key }];
        replies.extend(next.next().map(|launch| ToKeeper::Spawn(Box::new(launch))));
        server.say_all(&replies);
        each(numbers[&record.key], record.ending);
        left -= 1;
    }
}

#[test]
fn p20_an_exit_at_the_deadline_is_one_ending_and_the_statuses_own_heavy() {
    const RUNS: usize = 10_000;
    // About what the program takes to come to its exit: the clock starts at exec.
    let timeouts = [600, 900, 1200, 1500, 1800];
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let launches = (0..RUNS)
        .map(|run| {
            let mut launch = keeper.launch(&["exit-after-us", "300", "7"]);
            launch.timeout = Some(Duration::from_micros(timeouts[run % timeouts.len()]));
            launch
        })
        .collect();
    let (mut exited, mut ended, mut both) = (0, 0, 0);
    run_many(&mut server, 8, launches, |_, ending| match ending {
        Ending::Ended { wait_status, stopped: None } => {
            assert_eq!(wait_status, 7 << 8, "nobody else ended it");
            exited += 1;
        }
        Ending::Ended { wait_status: 15 | 9, stopped: Some(StopCause::Deadline { .. }) } => ended += 1,
        // It exited between our look and our signal: microseconds.
        Ending::Ended { wait_status, stopped: Some(StopCause::Deadline { .. }) } => {
            assert_eq!(wait_status, 7 << 8);
            both += 1;
        }
        other => panic!("{other:?}"),
    });
    println!("exited {exited}, ended at the deadline {ended}, exited while being ended {both}");
    assert_eq!(exited + ended + both, RUNS);
    assert!(exited > RUNS / 100 && ended > RUNS / 100, "the race was not run: {exited} {ended}");
    assert!(both < RUNS / 100, "{both}");
    assert_eq!(server.list(), (vec![], vec![]));
}

#[test]
fn p22_every_code_and_every_signal() {
    // CHLD, CONT, URG, WINCH are ignored by default; STOP, TSTP, TTIN, TTOU stop.
    let ends_nobody = [17, 18, 19, 20, 21, 22, 23, 28];
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let codes: Vec<String> = (0..=255).map(|code: u32| code.to_string()).collect();
        let signals: Vec<u8> = (1..=31).filter(|signal| !ends_nobody.contains(signal)).collect();
        let texts: Vec<String> = signals.iter().map(u8::to_string).collect();
        let mut launches: Vec<_> = codes.iter().map(|code| keeper.launch(&["exit", code])).collect();
        launches.extend(texts.iter().map(|signal| keeper.launch(&["signal", signal])));
        run_many(&mut server, 16, launches, |number, ending| {
            let Ending::Ended { wait_status, stopped: None } = ending else { panic!("{ending:?}") };
            let status = WaitStatus(wait_status);
            let expected = match number.checked_sub(256) {
                None => (Some(number as u8), None),
                Some(at) => (None, Some(signals[at])),
            };
            assert_eq!((status.code(), status.signal()), expected, "{level:?}");
        });
    }
}

#[test]
fn p26_every_code_is_kept_when_sigchld_was_ignored_heavy() {
    const EXITS: usize = 5000;
    let ignore = |command: &mut std::process::Command| {
        // SAFETY: signal may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                Ok(())
            });
        }
    };
    let (keeper, mut server) = Keeper::start_by(Containment::Cgroup, ignore);
    let launches = (0..EXITS).map(|run| keeper.launch(&["exit", &(run % 256).to_string()])).collect();
    run_many(&mut server, 250, launches, |run, ending| {
        let wait_status = (run as i32 % 256) << 8;
        assert_eq!(ending, Ending::Ended { wait_status, stopped: None }, "{run}");
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", keeper.pid())).expect("readable");
    assert!(status.contains("SigIgn:\t0000000000000000"), "{status}");
}

#[test]
fn no_zombies_of_others_stay() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    for _ in 0..20 {
        server.run(&keeper.launch(&["double-fork-setsid", "0"]));
    }
    crate::keeper::wait_for("no zombies", || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", keeper.pid())).ok()?;
        // Only the server is left.
        (children.split_whitespace().count() == 1).then_some(())
    });
}

//! The narrowest path: greeted, started, over, committed, gone.

use std::time::Duration;

use procession_core::frame::ToKeeper;
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, Ending, OutputPlace, StopCause};

use crate::keeper::Keeper;

#[test]
fn a_program_runs_and_its_exit_is_told() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    assert_eq!(server.listeners.len(), server.hello.listeners.len());
    let launch = keeper.launch(&["exit", "3"]);
    server.spawn(&launch);
    let started = server.started(launch.key);
    assert!(started.pid > 1 && started.start_ticks > 0);
    let record = server.exited(launch.key);
    assert_eq!(record.ending, Ending::Ended { wait_status: 3 << 8, stopped: None });
    assert_eq!((record.cookie.as_ref(), record.leaked), (&b"cookie"[..], 0));
    assert_eq!(server.list().1, [record]);
    server.say(&ToKeeper::Ack { key: launch.key });
    assert_eq!(server.list(), (vec![], vec![]));
    server.goodbye(5);
    assert_eq!(keeper.wait().code(), Some(5));
}

#[test]
fn little_output_travels_in_the_record_and_much_in_a_file() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    for (bytes, place) in
        [(0, OutputPlace::Inline), (16 * 1024, OutputPlace::Inline), (20_000, OutputPlace::File)]
    {
        let launch = keeper.launch(&["flood", &bytes.to_string(), "0"]);
        let record = server.run(&launch);
        assert_eq!((record.stdout.total, record.stdout.place), (bytes, place));
        assert_eq!(record.stdout.tail.len() as u64, bytes.min(16 * 1024));
        assert_eq!(record.stderr.tail, format!("flooded {bytes}\n"));
    }
}

#[test]
fn a_deadline_and_a_cancel_end_it() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let mut launch = keeper.launch(&["sleep"]);
    launch.timeout = Some(Duration::from_millis(50));
    let stopped = Some(StopCause::Deadline { limit_ms: 50 });
    assert_eq!(server.run(&launch).ending, Ending::Ended { wait_status: 15, stopped });

    let mut launch = keeper.launch(&["ignore-term"]);
    launch.timeout = Some(Duration::from_millis(100));
    launch.grace = Duration::from_millis(50);
    let stopped = Some(StopCause::Deadline { limit_ms: 100 });
    assert_eq!(server.run(&launch).ending, Ending::Ended { wait_status: 9, stopped });

    let launch = keeper.launch(&["sleep"]);
    server.spawn(&launch);
    server.started(launch.key);
    let by = CancelledBy::Client;
    server.say(&ToKeeper::Stop { key: launch.key, by, now: true });
    let stopped = Some(StopCause::Cancelled { by });
    assert_eq!(server.exited(launch.key).ending, Ending::Ended { wait_status: 9, stopped });
}

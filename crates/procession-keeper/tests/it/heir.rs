//! The keeper is killed; whoever held what it gave away sees its jobs to their ends.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use procession_core::frame::{Held, ToServer};
use procession_core::id::AttemptKey;
use procession_core::launch::{Launch, OutputMode};
use procession_core::record::{Containment, Ending, ExitRecord, OutputPlace};
use procession_keeper::heir::{Orphan, end_all, inherit};
use rustix::process::Signal;

use crate::keeper::{Keeper, LEVELS, Server, wait_for};
use crate::streams::{flooded, kept, sha};
use crate::tree::{job_processes, marked};

/// Waits until the keeper has given away what it owns of each.
fn held(server: &mut Server, launches: &[Launch]) -> Vec<(Held, Vec<OwnedFd>)> {
    let mut found: HashMap<AttemptKey, (Held, Vec<OwnedFd>)> = HashMap::new();
    while found.len() < launches.len() {
        let held = server.hear("HELD", |message| match message {
            ToServer::Held(held) => Some(held.clone()),
            _ => None,
        });
        let fds = server.arrived.drain(..held.descriptors()).collect();
        found.insert(held.key, (held, fds));
    }
    launches.iter().map(|launch| found.remove(&launch.key).expect("each")).collect()
}

fn orphan(launch: &Launch, (held, descriptors): (Held, Vec<OwnedFd>)) -> Orphan {
    let path = |bytes: &[u8]| PathBuf::from(std::str::from_utf8(bytes).expect("plain"));
    Orphan {
        held,
        descriptors,
        files: [path(&launch.output.stdout), path(&launch.output.stderr)],
        limit: launch.output.limit,
        leave_children: launch.leave_children,
    }
}

/// Kills the keeper and sees the launches to their ends.
fn bereave(
    keeper: &Keeper,
    server: &mut Server,
    launches: &[Launch],
    bound: Duration,
) -> HashMap<AttemptKey, ExitRecord> {
    let held = held(server, launches);
    keeper.signal(Signal::KILL);
    let orphans = launches.iter().zip(held).map(|(launch, held)| orphan(launch, held)).collect();
    let mut records = HashMap::new();
    inherit(orphans, bound, |record| {
        assert!(records.insert(record.key, record).is_none(), "once each");
    });
    assert_eq!(records.len(), launches.len());
    records
}

/// Whether this kernel tells how a process ended that is not one's child.
fn tells() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    let mut numbers = release.split(['.', '-']).filter_map(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

fn is_true(record: &ExitRecord, wait_status: i32) -> bool {
    match record.ending {
        Ending::Ended { wait_status: told, stopped: None } => told == wait_status,
        // Nobody reaped it in time, or the kernel does not tell: then nothing is made up.
        Ending::Vanished => !tells(),
        _ => false,
    }
}

#[test]
fn f02_what_ends_after_its_keeper_has_its_true_code_and_all_its_output_heavy() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    if keeper.cgroups().is_none() {
        return eprintln!("skipped: no usable cgroup");
    }
    let blocks = 400u64;
    let mut launches: Vec<_> = [OutputMode::Separate, OutputMode::Merged, OutputMode::File]
        .into_iter()
        .map(|mode| {
            let mut drip = keeper.launch(&["drip", &blocks.to_string(), "9"]);
            (drip.output.mode, drip.output.limit) = (mode, u64::MAX);
            drip
        })
        .collect();
    launches.extend((0..20).map(|code| {
        keeper.launch(&["exit-after-us", &(400_000 + code * 20_000).to_string(), &code.to_string()])
    }));
    let (sleeps, mark) = marked(&keeper, &["say-and-sleep", "hello"]);
    let (leaves, left) = marked(&keeper, &["leave-sleeper-later", "3"]);
    launches.extend([sleeps.clone(), leaves.clone()]);
    launches.iter().for_each(|launch| server.spawn(launch));
    let began = Instant::now();
    let records = bereave(&keeper, &mut server, &launches, Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    for drip in &launches[..3] {
        let record = &records[&drip.key];
        assert!(is_true(record, 9 << 8), "{record:?}");
        let all = kept(&drip.output.stdout, drip.output.limit, &record.stdout);
        assert_eq!(all.len() as u64, blocks * 64 * 1024, "{:?}", drip.output.mode);
        assert_eq!(sha(&all), flooded(&[(0, blocks * 64 * 1024)]), "{:?}", drip.output.mode);
    }
    for (code, launch) in launches[3..23].iter().enumerate() {
        let record = &records[&launch.key];
        assert!(is_true(record, (code as i32) << 8), "{code} {record:?}");
        assert!(record.run_us > 350_000 && record.cookie == "cookie", "{record:?}");
    }
    let lost = &records[&sleeps.key];
    assert_eq!((&lost.ending, lost.leaked), (&Ending::Vanished, 0));
    assert_eq!(lost.stdout.tail, "hello\n");
    let leaver = &records[&leaves.key];
    assert!(is_true(leaver, 3 << 8), "{leaver:?}");
    assert_eq!(leaver.leaked, 1);
    wait_for("their ends", || {
        (job_processes(&mark).is_empty() && job_processes(&left).is_empty()).then_some(())
    });
    let (_keeper, _server) = keeper.successor();
}

#[test]
fn f02_little_output_is_whole_wherever_it_was_when_the_keeper_died() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    if keeper.cgroups().is_none() {
        return eprintln!("skipped: no usable cgroup");
    }
    // Said at once, said just before the end, and never.
    let at_once = keeper.launch(&["say-and-sleep", "early"]);
    let at_last = keeper.launch(&["say-after-us", "300000", "late"]);
    let silent = keeper.launch(&["exit-after-us", "300000", "1"]);
    let launches = [at_once.clone(), at_last.clone(), silent.clone()];
    launches.iter().for_each(|launch| server.spawn(launch));
    let records = bereave(&keeper, &mut server, &launches, Duration::from_secs(3));
    assert_eq!(records[&at_once.key].stdout.tail, "early\n");
    let late = &records[&at_last.key];
    assert_eq!((late.stdout.tail.as_ref(), late.stdout.place), (&b"late\n"[..], OutputPlace::Inline));
    assert!(is_true(late, 0) && is_true(&records[&silent.key], 1 << 8), "{records:?}");
    assert_eq!(records[&silent.key].stdout.total, 0);
    let (_keeper, _server) = keeper.successor();
}

#[test]
fn f02_of_a_stream_beyond_its_limit_the_head_is_kept_and_nothing_is_made_up() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    if keeper.cgroups().is_none() {
        return eprintln!("skipped: no usable cgroup");
    }
    let mut drip = keeper.launch(&["drip", "300", "0"]);
    drip.output.limit = 1_000_000;
    server.spawn(&drip);
    server.hear("a full ring", |message| match message {
        ToServer::Output(notice) if notice.stdout > 2_000_000 => Some(()),
        _ => None,
    });
    let records = bereave(&keeper, &mut server, std::slice::from_ref(&drip), Duration::from_secs(5));
    let record = &records[&drip.key];
    assert_eq!(record.stdout.written, 500_000);
    assert!(record.stdout.total > 1_000_000 && record.stdout.total <= 300 * 64 * 1024);
    let head = kept(&drip.output.stdout, drip.output.limit, &record.stdout);
    assert_eq!(sha(&head), flooded(&[(0, 500_000)]));
    let (_keeper, _server) = keeper.successor();
}

#[test]
fn f02_a_later_server_is_given_everything_again() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    if keeper.cgroups().is_none() {
        return eprintln!("skipped: no usable cgroup");
    }
    let launches = [keeper.launch(&["exit-after-us", "900000", "7"])];
    server.spawn(&launches[0]);
    drop(held(&mut server, &launches));
    server.kill();
    let mut server = keeper.next_server();
    server.list();
    let records = bereave(&keeper, &mut server, &launches, Duration::from_secs(5));
    assert!(is_true(&records[&launches[0].key], 7 << 8), "{records:?}");
    let (_keeper, _server) = keeper.successor();
}

#[test]
fn f02_what_was_not_held_is_ended_with_its_cgroup() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let Some(folder) = keeper.cgroups() else { return eprintln!("skipped: no usable cgroup") };
    assert_eq!(server.hello.cgroups, folder.to_str().expect("plain"));
    let (launch, mark) = marked(&keeper, &["sleep"]);
    server.spawn(&launch);
    server.started(launch.key);
    keeper.signal(Signal::KILL);
    end_all(&folder);
    wait_for("its end", || job_processes(&mark).is_empty().then_some(()));
    let (_keeper, _server) = keeper.successor();
}

#[test]
fn f02_tiny_jobs_pay_nothing() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for _ in 0..20 {
            server.run(&keeper.launch(&["exit", "0"]));
        }
        let (running, over) = server.list();
        assert_eq!((running, over, server.arrived.len()), (vec![], vec![], 0), "{level:?}");
    }
}

#[test]
fn f03_a_keeper_begins_when_the_monitors_of_the_one_before_are_done_heavy() {
    for _ in 0..10 {
        let (keeper, mut server) = Keeper::start(Containment::Monitor);
        let (launch, mark) = marked(&keeper, &["fork-bomb", "100"]);
        server.spawn(&launch);
        server.hear("that it forks", |message| match message {
            ToServer::Output(notice) if notice.key == launch.key => Some(()),
            _ => None,
        });
        keeper.signal(Signal::KILL);
        let (_keeper, _server) = keeper.successor();
        // The server is there only after that.
        assert_eq!(job_processes(&mark).len(), 0);
    }
}

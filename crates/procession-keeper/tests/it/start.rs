//! From SPAWN to the program's first instruction, and every way not to get there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use procession_core::attempt::EXEC_TIMEOUT;
use procession_core::frame::ToKeeper;
use procession_core::launch::{Credentials, ResourceLimit, Stdin};
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, Ending, ExitRecord, Phase};
use procession_core::retry;
use rustix::process::{Resource, Rlimit, Signal, getuid, prlimit};

use crate::keeper::{Keeper, LEVELS, bytes};

/// Phase and error number of an attempt that never ran.
fn failure(record: &ExitRecord) -> (Phase, i32) {
    match &record.ending {
        Ending::NotStarted { phase, errno, message } => {
            assert!(!message.is_empty());
            assert_eq!((record.run_us, record.started_us), (0, record.finished_us));
            (*phase, *errno)
        }
        other => panic!("it ran: {other:?}"),
    }
}

fn write_script(path: &std::path::Path, text: &str, mode: u32) {
    fs::write(path, text).expect("writable");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn p01_what_cannot_be_executed_is_told_and_no_shell_runs_it() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let trace = keeper.path("a-shell-ran");
        write_script(&keeper.path("no-hash-bang"), &format!("touch {}\n", trace.display()), 0o755);
        write_script(&keeper.path("bad-interpreter"), "#!/nowhere/at/all\n", 0o755);
        write_script(&keeper.path("not-executable"), "#!/bin/sh\n", 0o644);
        let me = Credentials { uid: getuid().as_raw(), gid: 0, groups: vec![] };
        for (program, errno) in [
            ("missing", libc::ENOENT),
            ("not-executable", libc::EACCES),
            ("bad-interpreter", libc::ENOENT),
            (".", libc::EACCES),
            ("no-hash-bang", libc::ENOEXEC),
        ] {
            // With and without a user to become: nowhere does another way to exec hide.
            for credentials in [None, Some(me.clone()).filter(|_| getuid().is_root())] {
                let mut launch = keeper.launch(&[]);
                launch.program = bytes(&keeper.path(program));
                launch.credentials = credentials;
                let record = server.run(&launch);
                assert_eq!(failure(&record), (Phase::Exec, errno), "{level:?} {program}");
            }
        }
        assert!(!trace.exists());
    }
}

#[test]
fn p02_the_step_that_failed_is_named_and_nothing_ran() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let mut launch = keeper.launch(&["exit", "0"]);
        launch.directory = "/nowhere/at/all".into();
        assert_eq!(failure(&server.run(&launch)), (Phase::Directory, libc::ENOENT), "{level:?}");

        let mut launch = keeper.launch(&["exit", "0"]);
        launch.rlimits = vec![ResourceLimit { resource: libc::RLIMIT_NOFILE, soft: 2, hard: 1 }];
        assert_eq!(failure(&server.run(&launch)), (Phase::Limits, libc::EINVAL), "{level:?}");

        let mut launch = keeper.launch(&["exit", "0"]);
        launch.stdin = Stdin::File("/nowhere/at/all".into());
        assert_eq!(failure(&server.run(&launch)), (Phase::Prepare, libc::ENOENT), "{level:?}");

        let mut launch = keeper.launch(&["exit", "0"]);
        launch.argv.push("a\0b".into());
        assert_eq!(failure(&server.run(&launch)), (Phase::Prepare, libc::EINVAL), "{level:?}");

        let mut launch = keeper.launch(&["exit", "0"]);
        // The user "unknown to the kernel": all ones.
        launch.credentials = Some(Credentials { uid: 1, gid: u32::MAX, groups: vec![] });
        assert_eq!(failure(&server.run(&launch)).0, Phase::Credentials, "{level:?}");
        assert_eq!(server.run(&keeper.launch(&["exit", "6"])).ending, exit(6));
    }
}

#[test]
fn p02_a_cgroup_that_is_refused_is_named_and_nothing_runs_without() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let Some(folder) = keeper.cgroups() else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let made = || fs::read_dir(&folder).expect("readable").flatten().filter(|e| e.path().is_dir()).count();
    fs::write(folder.join("cgroup.max.descendants"), made().to_string()).expect("no more of them");
    let launches: Vec<_> = (0..=made()).map(|_| keeper.launch(&["sleep"])).collect();
    launches.iter().for_each(|launch| server.spawn(launch));
    let last = &launches[launches.len() - 1];
    assert_eq!(failure(&server.exited(last.key)), (Phase::Cgroup, libc::EAGAIN));

    fs::write(folder.join("cgroup.max.descendants"), "max").expect("as many as wanted");
    assert_eq!(server.run(&keeper.launch(&["exit", "6"])).ending, exit(6), "others run on");
    for launch in &launches[..launches.len() - 1] {
        server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Client, now: true });
        server.exited(launch.key);
    }
}

fn exit(code: i32) -> Ending {
    Ending::Ended { wait_status: code << 8, stopped: None }
}

#[test]
fn p03_no_process_to_be_had_is_told_as_such() {
    if !getuid().is_root() {
        eprintln!("skipped: only root can run the keeper as a user of its own");
        return;
    }
    // A user that nobody else is, with room for the keeper, its server and nobody else: root
    // is not bound by the limit.
    let uid = 40_000 + std::process::id() % 10_000;
    let (keeper, mut server) = Keeper::start_as(Containment::Monitor, uid, Some(2));
    let record = server.run(&keeper.launch(&["exit", "0"]));
    assert_eq!(failure(&record), (Phase::Fork, libc::EAGAIN));
    // Nothing was lost by it: with room again, the next one runs.
    let raise = ["--pid", &keeper.pid().to_string(), "--nproc=100"].map(String::from);
    let raised = std::process::Command::new("prlimit").args(raise).uid(uid).gid(uid).status();
    assert!(raised.expect("util-linux").success());
    assert_eq!(server.run(&keeper.launch(&["exit", "8"])).ending, exit(8));
}

/// Sets the soft limit of open files, as an operator would.
fn limit_files(keeper: &Keeper, most: u64) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", keeper.pid())).expect("readable");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("there");
    let hard = line.split_whitespace().nth(4).and_then(|hard| hard.parse().ok());
    let pid = rustix::process::Pid::from_raw(keeper.pid().cast_signed());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum: hard }).expect("our own");
}

#[test]
fn p04_without_descriptors_it_ran_if_and_only_if_it_is_told() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let open = fs::read_dir(format!("/proc/{}/fd", keeper.pid())).expect("readable").count() as u64;
        let (mut ran, mut refused) = (0, 0);
        for most in open - 4..open + 24 {
            limit_files(&keeper, most);
            let trace = keeper.path("trace");
            let _ = fs::remove_file(&trace);
            let mut launch = keeper.launch(&["touch-and-exit", trace.to_str().expect("plain")]);
            launch.stdin = Stdin::Bytes("x".into());
            let record = server.run(&launch);
            match &record.ending {
                Ending::NotStarted { phase, errno, .. } => {
                    assert_eq!(*errno, libc::EMFILE, "{level:?} {most} {phase:?}");
                    assert!(!trace.exists(), "{level:?} {most}: it ran");
                    refused += 1;
                }
                Ending::Ended { wait_status: 0, .. } => {
                    assert!(trace.exists());
                    ran += 1;
                }
                other => panic!("{level:?} {most}: {other:?}"),
            }
        }
        assert!(ran > 3 && refused > 3, "{level:?} {ran} {refused}");
    }
}

#[test]
fn p04_many_at_once_without_descriptors_are_deferred_and_none_is_failed() {
    const JOBS: usize = 60;
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let open = fs::read_dir(format!("/proc/{}/fd", keeper.pid())).expect("readable").count() as u64;
        let (mut ran, mut phases) = (0, vec![]);
        // Each limit strikes at another step of the one launch that no longer fits.
        for most in open + 20..open + 40 {
            limit_files(&keeper, most);
            let launches: Vec<_> = (0..JOBS).map(|_| keeper.launch(&["exit", "0"])).collect();
            let all: Vec<_> =
                launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
            server.say_all(&all);
            for launch in &launches {
                let record = server.exited(launch.key);
                server.say(&ToKeeper::Ack { key: launch.key });
                match &record.ending {
                    Ending::NotStarted { phase, .. } => {
                        let wait = retry::deferral(&record, 0, 7);
                        assert!(wait.is_some(), "{level:?} {most}: {:?}", record.ending);
                        phases.push(*phase);
                    }
                    other => {
                        assert_eq!(*other, exit(0), "{level:?} {most}");
                        ran += 1;
                    }
                }
            }
            server.forget_starts();
        }
        assert!(ran >= 40 && phases.len() >= 100, "{level:?} {ran} {}", phases.len());
        assert_eq!(
            phases.contains(&Phase::Cgroup),
            server.hello.containment == Containment::Cgroup,
            "{level:?}"
        );
    }
}

/// As a machine that sleeps does it: the deadlines are over before anything is looked at.
#[test]
fn f18_p33_a_keeper_that_was_stopped_ends_nothing_that_started_meanwhile_heavy() {
    let mut keepers: Vec<_> = (0..16).map(|n| Keeper::start(LEVELS[n % 2])).collect();
    let all: Vec<Vec<_>> = keepers
        .iter_mut()
        .zip(0..)
        .map(|((keeper, server), n)| {
            let launches: Vec<_> = (0..8).map(|_| keeper.launch(&["say-and-sleep", "here"])).collect();
            let spawns: Vec<_> =
                launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
            server.say_all(&spawns);
            // Somewhere between the first word and the last program, each of them elsewhere.
            let (began, pause) = (Instant::now(), Duration::from_micros(250 * n));
            while began.elapsed() < pause {
                std::hint::spin_loop();
            }
            keeper.signal(Signal::STOP);
            launches
        })
        .collect();
    std::thread::sleep(EXEC_TIMEOUT + Duration::from_millis(500));
    for (keeper, _) in &keepers {
        keeper.signal(Signal::CONT);
    }
    for ((_, server), launches) in keepers.iter_mut().zip(&all) {
        for launch in launches {
            server.started(launch.key);
        }
        let (running, over) = server.list();
        assert_eq!((running.len(), over.len()), (launches.len(), 0), "{over:?}");
    }
}

/// Ends a thread also where its test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Descriptors come and go while programs start.
#[test]
fn p04_what_runs_and_cannot_be_looked_at_is_not_said_never_to_have_run() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let over = AtomicBool::new(false);
        let (mut ran, mut deferred) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    limit_files(&keeper, 4);
                    std::thread::yield_now();
                    limit_files(&keeper, 1024);
                    std::thread::yield_now();
                }
            });
            let _end = End(&over);
            for _ in 0..40 {
                let launches: Vec<_> = (0..20).map(|_| keeper.launch(&["exit", "7"])).collect();
                let all: Vec<_> =
                    launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
                server.say_all(&all);
                for launch in &launches {
                    let record = server.exited(launch.key);
                    server.say(&ToKeeper::Ack { key: launch.key });
                    match &record.ending {
                        Ending::NotStarted { .. } => {
                            let wait = retry::deferral(&record, 0, 7);
                            assert!(wait.is_some(), "{level:?}: {:?}", record.ending);
                            deferred += 1;
                        }
                        other => {
                            assert_eq!(*other, exit(7), "{level:?}");
                            ran += 1;
                        }
                    }
                }
                server.forget_starts();
            }
        });
        assert!(ran > 0 && deferred > 0, "{level:?}: {ran} ran, {deferred} did not");
    }
}

#[test]
fn p05_a_script_just_written_runs_while_others_fork_heavy() {
    const SPAWNS: usize = 20_000;
    const AT_ONCE: usize = 32;
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    fs::create_dir(keeper.path("scripts")).expect("new");
    let mut waiting = std::collections::VecDeque::new();
    let mut busy = 0;
    for number in 0..SPAWNS {
        // Every tenth is a script of its own, just written.
        let launch = if number % 10 == 0 {
            let path = keeper.path(&format!("scripts/{number}"));
            write_script(&path, "#!/bin/true\n", 0o755);
            let mut launch = keeper.launch(&[]);
            launch.program = bytes(&path);
            launch
        } else {
            keeper.launch(&["exit", "0"])
        };
        server.spawn(&launch);
        waiting.push_back(launch.key);
        if waiting.len() >= AT_ONCE {
            let record = server.exited(waiting.pop_front().expect("not empty"));
            server.say(&ToKeeper::Ack { key: record.key });
            busy += usize::from(record.ending != exit(0));
        }
    }
    for key in waiting {
        busy += usize::from(server.exited(key).ending != exit(0));
    }
    assert_eq!(busy, 0);
}

#[test]
fn p05_a_program_open_for_writing_is_tried_again() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let path = keeper.path("busy");
    fs::copy(env!("CARGO_BIN_EXE_hostile"), &path).expect("copied");
    let writer = fs::OpenOptions::new().append(true).open(&path).expect("ours");
    let mut launch = keeper.launch(&["exit", "0"]);
    launch.program = bytes(&path);
    assert_eq!(failure(&server.run(&launch)), (Phase::Exec, libc::ETXTBSY));

    let mut launch = keeper.launch(&["exit", "0"]);
    launch.program = bytes(&path);
    server.spawn(&launch);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Within the tenth of a second for which it is tried.
            std::thread::sleep(Duration::from_millis(30));
            drop(writer);
        });
    });
    assert_eq!(server.exited(launch.key).ending, exit(0));
}

#[test]
fn p21_an_exit_before_its_start_is_told_is_not_lost() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let launches: Vec<_> = (0..100).map(|code| keeper.launch(&["exit", &code.to_string()])).collect();
        let all: Vec<_> = launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
        server.say_all(&all);
        for (code, launch) in launches.iter().enumerate() {
            let started = server.started(launch.key);
            assert!(started.pid > 1);
            assert_eq!(server.exited(launch.key).ending, exit(code as i32), "{level:?}");
        }
    }
}

#[test]
fn p27_another_user_has_its_groups_and_no_others() {
    if !getuid().is_root() {
        eprintln!("skipped: only root may become somebody else");
        return;
    }
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        keeper.open_to_all();
        let mut launch = keeper.launch(&["print-state"]);
        launch.credentials = Some(Credentials { uid: 4321, gid: 4322, groups: vec![77, 7] });
        let state = server.run(&launch).stdout.tail;
        let state = std::str::from_utf8(&state).expect("text");
        for line in ["Uid 4321 4321 4321 4321", "Gid 4322 4322 4322 4322", "Groups 7 77"] {
            assert!(state.lines().any(|text| text == line), "{level:?} {line}: {state}");
        }
        // No groups at all is not "those of the keeper".
        let mut launch = keeper.launch(&["print-state"]);
        launch.credentials = Some(Credentials { uid: 4321, gid: 4322, groups: vec![] });
        let state = server.run(&launch).stdout.tail;
        let text = std::str::from_utf8(&state).expect("text");
        assert!(text.lines().any(|line| line.trim_end() == "Groups"), "{text}");
    }
}

#[test]
fn p27_a_keeper_that_may_not_change_users_does_not_pretend_to() {
    if !getuid().is_root() {
        eprintln!("skipped: only root can run the keeper as a user of its own");
        return;
    }
    let (keeper, mut server) = Keeper::start_as(Containment::Monitor, 4444, None);
    let mut launch = keeper.launch(&["exit", "0"]);
    launch.credentials = Some(Credentials { uid: 4321, gid: 4322, groups: vec![] });
    assert_eq!(failure(&server.run(&launch)), (Phase::Credentials, libc::EPERM));
}

#[test]
fn p29_too_much_for_the_kernel_never_looks_like_success() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let long = "x".repeat(200 * 1024);
        let launch = keeper.launch(&["exit", "0", &long]);
        assert_eq!(failure(&server.run(&launch)), (Phase::Exec, libc::E2BIG), "{level:?}");
        let part = "x".repeat(100 * 1024);
        let many: Vec<&str> = std::iter::repeat_n(part.as_str(), 30).collect();
        let launch = keeper.launch(&many);
        assert_eq!(failure(&server.run(&launch)), (Phase::Exec, libc::E2BIG), "{level:?}");
        let most: Vec<&str> =
            ["exit-zero"].into_iter().chain(std::iter::repeat_n(part.as_str(), 19)).collect();
        let launch = keeper.launch(&most);
        assert_eq!(server.run(&launch).ending, exit(99), "{level:?}: it saw all of it");
    }
}

#[test]
fn p30_the_jobs_own_path_does_not_choose_the_program() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    write_script(&keeper.path("hostile"), "#!/bin/sh\nexit 66\n", 0o755);
    let mut launch = keeper.launch(&["exit", "5"]);
    launch.env.push(format!("PATH={}", keeper.path("").display()).into());
    assert_eq!(server.run(&launch).ending, exit(5));
    // Nor is there a search at all.
    let mut launch = keeper.launch(&["exit", "5"]);
    launch.program = "hostile".into();
    launch.env.push(format!("PATH={}", keeper.path("").display()).into());
    assert_eq!(failure(&server.run(&launch)), (Phase::Exec, libc::ENOENT));
}

#[test]
fn a_key_that_is_known_is_not_run_twice() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let mut launch = keeper.launch(&["append-and-exit", keeper.path("runs").to_str().expect("plain")]);
    launch.cookie = "first".into();
    server.spawn(&launch);
    server.spawn(&launch);
    let record = server.exited(launch.key);
    server.spawn(&launch);
    assert_eq!(server.list().1, [record]);
    assert_eq!(fs::read(keeper.path("runs")).expect("written"), b"x");
}

#[test]
fn a_stop_for_one_being_started_is_not_forgotten() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        for now in [false, true] {
            let launch = keeper.launch(&["sleep"]);
            let stop = ToKeeper::Stop { key: launch.key, by: CancelledBy::Client, now };
            server.say_all(&[ToKeeper::Spawn(Box::new(launch.clone())), stop]);
            match server.exited(launch.key).ending {
                Ending::Ended { wait_status: 9 | 15, stopped: Some(_) } => {}
                other => panic!("{level:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_program_that_hangs_before_exec_holds_nobody_up() {
    // A real hang takes a broken mount; a busy program file at least takes its time.
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let path = keeper.path("busy");
    fs::copy(env!("CARGO_BIN_EXE_hostile"), &path).expect("copied");
    let writer = fs::OpenOptions::new().append(true).open(&path).expect("ours");
    let mut slow = keeper.launch(&["exit", "0"]);
    slow.program = bytes(&path);
    server.spawn(&slow);
    let quick = keeper.launch(&["exit", "0"]);
    assert_eq!(server.run(&quick).ending, exit(0));
    let running: Vec<_> = server.list().0;
    assert_eq!((running.len(), running[0].key, running[0].pid), (1, slow.key, 0));
    assert_eq!(failure(&server.exited(slow.key)), (Phase::Exec, libc::ETXTBSY));
    drop(writer);
}

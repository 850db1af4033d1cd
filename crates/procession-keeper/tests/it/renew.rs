//! The keeper executes its program anew: whoever it keeps notices nothing, whatever state he
//! is in.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use procession_core::frame::image::{self, Image};
use procession_core::frame::{Message, ToKeeper, ToServer};
use procession_core::launch::{Launch, OutputMode, Stdin};
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, Ending, ExitRecord, StopCause};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, Signal, kill_process};

use crate::clean::state;
use crate::keeper::{Keeper, LEVELS, Server, wait_for};
use crate::streams::{flooded, kept, sha};
use crate::tree::{job_processes, marked};

/// Differs from one execution to the next: where the kernel put the program.
fn execution(keeper: &Keeper) -> Vec<u8> {
    std::fs::read(format!("/proc/{}/auxv", keeper.pid())).expect("readable")
}

/// What the keeper's descriptors are, without their numbers.
fn descriptors(keeper: &Keeper) -> Vec<String> {
    let folder = format!("/proc/{}/fd", keeper.pid());
    let links = std::fs::read_dir(folder).expect("readable").flatten();
    let mut all: Vec<String> = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|to| to.to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

/// Has the program executed anew; returns once the new one has answered.
fn renew(keeper: &Keeper, server: &mut Server) {
    let before = execution(keeper);
    server.say(&ToKeeper::Renew);
    server.list();
    assert_ne!(execution(keeper), before, "it is the old program still");
}

fn ended(wait_status: i32) -> Ending {
    Ending::Ended { wait_status, stopped: None }
}

fn stopped_by(wait_status: i32, cause: StopCause) -> Ending {
    Ending::Ended { wait_status, stopped: Some(cause) }
}

/// One attempt in every state that there is for long enough to be met in.
struct Everything {
    runs: Launch,
    codes: Vec<Launch>,
    graced: Launch,
    timed: Launch,
    drips: [Launch; 3],
    remembers: Launch,
    over: Launch,
    over_record: ExitRecord,
    left: Launch,
    mark: String,
}

const BLOCKS: u64 = 150;

impl Everything {
    fn start(keeper: &Keeper, server: &mut Server) -> Self {
        let over = keeper.launch(&["flood", "100", "5"]);
        server.spawn(&over);
        let over_record = server.exited(over.key);
        let (mut left, mark) = marked(keeper, &["leave-sleeper", "3"]);
        left.leave_children = true;
        let mut graced = keeper.launch(&["ignore-term"]);
        graced.grace = Duration::from_millis(900);
        let mut timed = keeper.launch(&["sleep"]);
        timed.timeout = Some(Duration::from_millis(700));
        let mut remembers = keeper.launch(&["say-and-sleep", "hello"]);
        remembers.output.mode = OutputMode::Merged;
        let drips = [OutputMode::Separate, OutputMode::Merged, OutputMode::File].map(|mode| {
            let mut drip = keeper.launch(&["drip", &BLOCKS.to_string(), "9"]);
            (drip.output.mode, drip.output.limit) = (mode, u64::MAX);
            drip
        });
        let codes = (0..8).map(|code| {
            let mut launch =
                keeper.launch(&["exit-after-us", &(code * 50_000).to_string(), &code.to_string()]);
            launch.stdin = Stdin::Bytes(vec![b'x'; 60_000].into());
            launch
        });
        let codes: Vec<_> = codes.collect();
        let runs = keeper.launch(&["sleep"]);
        for launch in [&left, &runs, &graced, &timed, &remembers].into_iter().chain(&drips).chain(&codes) {
            server.spawn(launch);
        }
        server.hear("that it is deaf", |message| match message {
            ToServer::Output(notice) if notice.key == graced.key => Some(()),
            _ => None,
        });
        server.say(&ToKeeper::Stop { key: graced.key, by: CancelledBy::Client, now: false });
        Self { runs, codes, graced, timed, drips, remembers, over, over_record, left, mark }
    }

    fn check(self, keeper: &Keeper, server: &mut Server) {
        for (code, launch) in self.codes.iter().enumerate() {
            assert_eq!(server.exited(launch.key).ending, ended((code as i32) << 8));
        }
        let deadline = server.exited(self.timed.key);
        assert_eq!(deadline.ending, stopped_by(15, StopCause::Deadline { limit_ms: 700 }));
        assert!((700_000..1_000_000).contains(&deadline.run_us), "{}", deadline.run_us);
        let by = CancelledBy::Client;
        let graced = server.exited(self.graced.key);
        assert_eq!(graced.ending, stopped_by(9, StopCause::Cancelled { by }));
        for drip in &self.drips {
            let record = server.exited(drip.key);
            assert_eq!(record.ending, ended(9 << 8));
            let all = kept(&drip.output.stdout, drip.output.limit, &record.stdout);
            assert_eq!(sha(&all), flooded(&[(0, BLOCKS * 64 * 1024)]), "{:?}", drip.output.mode);
            assert!(record.usage.max_rss_bytes > 0 && record.usage.user_us + record.usage.system_us > 0);
        }
        let left = server.exited(self.left.key);
        assert_eq!((left.ending, left.leaked), (ended(3 << 8), 1));
        let leftover = job_processes(&self.mark);
        assert_eq!(leftover.len(), 1, "it was to be left alone");
        for pid in leftover {
            kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("our launch's");
        }
        let over = server.list().1;
        assert_eq!(over.iter().find(|record| record.key == self.over.key), Some(&self.over_record));
        for launch in [&self.runs, &self.remembers] {
            server.say(&ToKeeper::Stop { key: launch.key, by, now: true });
        }
        assert_eq!(server.exited(self.remembers.key).stdout.tail, "hello\n");
        let runs = server.exited(self.runs.key);
        assert_eq!(runs.ending, stopped_by(9, StopCause::Cancelled { by }));
        let after = state(&server.run(&keeper.launch(&["print-state"])));
        assert_eq!((after["fds"].as_str(), after["SigBlk"].as_str()), ("0 1 2", "0000000000000000"));
    }
}

#[test]
fn f05_a_renewed_keeper_owns_what_it_owned_in_every_state_heavy() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let everything = Everything::start(&keeper, &mut server);
        for _ in 0..50 {
            renew(&keeper, &mut server);
        }
        everything.check(&keeper, &mut server);
        assert_eq!(server.hello.generation, 1, "{level:?}");
    }
}

#[test]
fn f05_p07_no_descriptor_is_left_over_by_a_renewal() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        // What it inherited is gone with the first.
        renew(&keeper, &mut server);
        let before = descriptors(&keeper).len();
        renew(&keeper, &mut server);
        assert_eq!(descriptors(&keeper).len(), before, "{level:?}: {:?}", descriptors(&keeper));
        let launches = [&["sleep"][..], &["say-and-sleep", "x"], &["drip", "2000", "0"]].map(|args| {
            let launch = keeper.launch(args);
            server.spawn(&launch);
            server.started(launch.key);
            launch
        });
        renew(&keeper, &mut server);
        let during = descriptors(&keeper).len();
        for _ in 0..3 {
            renew(&keeper, &mut server);
            // A stream that outgrows memory gets a file.
            assert!((during..=during + 4).contains(&descriptors(&keeper).len()), "{level:?}");
        }
        for launch in &launches {
            server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Client, now: true });
            server.exited(launch.key);
        }
        renew(&keeper, &mut server);
        wait_for("as many as at first", || (descriptors(&keeper).len() == before).then_some(()));
    }
}

#[test]
fn f05_no_code_is_lost_under_a_storm_of_starts_and_renewals_heavy() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let (mut waiting, mut done) = (BTreeSet::new(), 0u64);
        let mut next = 0u64;
        let before = execution(&keeper);
        while done < 600 {
            let mut words = vec![];
            while waiting.len() < 16 && next < 600 {
                let bytes = next * 37 % 40_000;
                let launch = keeper.launch(&["flood", &bytes.to_string(), &(next % 256).to_string()]);
                waiting.insert((launch.key.job, next));
                words.push(ToKeeper::Spawn(Box::new(launch)));
                next += 1;
                // In the middle of what is asked for, not before or behind it.
                if next.is_multiple_of(12) {
                    words.push(ToKeeper::Renew);
                }
            }
            server.say_all(&words);
            let record = server.hear("EXITED", |message| match message {
                ToServer::Exited(record) => Some(record.clone()),
                _ => None,
            });
            let (job, n) = *waiting.iter().find(|(job, _)| *job == record.key.job).expect("once each");
            waiting.remove(&(job, n));
            assert_eq!(record.ending, ended((n as i32 % 256) << 8), "{level:?}");
            assert_eq!(record.stdout.total, n * 37 % 40_000, "{level:?}");
            server.say(&ToKeeper::Ack { key: record.key });
            server.forget_starts();
            done += 1;
        }
        assert_eq!(server.list(), (vec![], vec![]), "{level:?}");
        assert_ne!(execution(&keeper), before, "{level:?}");
    }
}

#[test]
fn f05_a_program_that_cannot_be_executed_changes_nothing() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start_copied(level);
        let everything = Everything::start(&keeper, &mut server);
        let program = keeper.path("keeper-host");
        let before = execution(&keeper);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o600)).expect("ours");
        server.say(&ToKeeper::Renew);
        server.list();
        std::fs::remove_file(&program).expect("ours");
        server.say(&ToKeeper::Renew);
        server.list();
        assert_eq!(execution(&keeper), before, "{level:?}");
        everything.check(&keeper, &mut server);
    }
}

#[test]
fn f05_what_a_version_1_server_says_meanwhile_is_done_in_its_order() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let ends = keeper.launch(&["exit", "4"]);
        let sleeps = keeper.launch(&["sleep"]);
        let torn = keeper.launch(&["exit", "6"]);
        let before = execution(&keeper);
        let by = CancelledBy::Client;
        let mut words = vec![];
        for message in [
            ToKeeper::Ready { version: 1 },
            ToKeeper::Renew,
            ToKeeper::Spawn(Box::new(ends.clone())),
            ToKeeper::Spawn(Box::new(sleeps.clone())),
            ToKeeper::Stop { key: sleeps.key, by, now: true },
            ToKeeper::Spawn(Box::new(ends.clone())),
        ] {
            message.encode(&mut words);
        }
        let whole = words.len();
        ToKeeper::Spawn(Box::new(torn.clone())).encode(&mut words);
        let (first, rest) = words.split_at(whole + 30);
        server.say_bytes(first);
        wait_for("the new program", || (execution(&keeper) != before).then_some(()));
        server.say_bytes(rest);
        assert_eq!(server.exited(torn.key).ending, ended(6 << 8), "{level:?}");
        assert_eq!(server.exited(ends.key).ending, ended(4 << 8), "{level:?}");
        let over = server.list().1;
        assert_eq!(over.iter().filter(|record| record.key == ends.key).count(), 1, "{level:?}: once");
        let stopped = server.exited(sleeps.key);
        // Stopped before its exec it never ran.
        let cause = StopCause::Cancelled { by };
        assert!(
            stopped.ending == stopped_by(9, cause) || matches!(stopped.ending, Ending::NotStarted { .. }),
            "{level:?} {:?}",
            stopped.ending
        );
    }
}

#[test]
fn f05_what_the_server_has_not_read_yet_arrives_whole() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        // Their records are far more than a socket holds.
        let number = if level == Containment::Cgroup { 400 } else { 100 };
        let launches: Vec<_> = (0..number).map(|_| keeper.launch(&["flood", "16000", "1"])).collect();
        let mut words: Vec<_> =
            launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
        let last = keeper.launch(&["touch-and-exit", keeper.path("done").to_str().expect("plain")]);
        words.push(ToKeeper::Spawn(Box::new(last.clone())));
        server.say_all(&words);
        wait_for("the last one's file", || keeper.path("done").exists().then_some(()));
        for _ in 0..3 {
            let before = execution(&keeper);
            server.say(&ToKeeper::Renew);
            wait_for("the new program", || (execution(&keeper) != before).then_some(()));
        }
        for launch in launches.iter().chain([&last]) {
            server.exited(launch.key);
        }
    }
}

#[test]
fn f05_a_request_to_end_is_heard_across_a_renewal() {
    for _ in 0..20 {
        let (mut keeper, mut server) = Keeper::start(Containment::Monitor);
        server.say(&ToKeeper::Renew);
        keeper.signal(Signal::TERM);
        server.hear("SHUTDOWN", |message| matches!(message, ToServer::Shutdown(_)).then_some(()));
        server.goodbye(7);
        assert_eq!(keeper.wait().code(), Some(7));
    }
}

#[test]
fn f05_a_server_that_dies_during_a_renewal_is_replaced() {
    for _ in 0..20 {
        let (mut keeper, mut server) = Keeper::start(Containment::Monitor);
        let launch = keeper.launch(&["exit", "3"]);
        server.say(&ToKeeper::Renew);
        server.kill();
        let mut server = keeper.next_server();
        let given = (server.listeners.len(), server.held.len());
        assert_eq!((server.hello.generation, given), (2, (1, 1)));
        assert_eq!(server.run(&launch).ending, ended(3 << 8));
    }
}

/// Runs the host on an image in a descriptor, as a keeper that executes itself would.
fn resume_from(bytes: &[u8]) -> std::process::Output {
    let file = memfd_create("image", MemfdFlags::ALLOW_SEALING).expect("a file");
    rustix::io::write(&file, bytes).expect("room");
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SEAL).expect("ours");
    let mut host = Command::new(env!("CARGO_BIN_EXE_keeper-host"));
    let number = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
    host.args(["keeper", "--image", &number]).output().expect("it ends")
}

#[test]
fn f05_an_image_that_cannot_be_used_is_said_and_what_it_names_is_ended() {
    assert_eq!(resume_from(b"no image").status.code(), Some(70));
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let Some(folder) = keeper.cgroups() else { return eprintln!("skipped: no usable cgroup") };
    let (launch, mark) = marked(&keeper, &["sleep"]);
    server.spawn(&launch);
    server.started(launch.key);
    keeper.signal(Signal::KILL);
    let folder = folder.to_str().expect("plain").to_owned();
    let listener = image::Listener { fd: image::Fd(777), name: "gone".into() };
    let setup = image::Setup { listeners: vec![listener], ..image::Setup::default() };
    let bytes = Image { folder: folder.into(), setup, state: None }.to_bytes();
    assert_eq!(job_processes(&mark).len(), 1);
    // A torn one is not believed in anything.
    assert_eq!(resume_from(&bytes[..bytes.len() - 1]).status.code(), Some(70));
    assert_eq!(job_processes(&mark).len(), 1);
    let output = resume_from(&bytes);
    assert_eq!(output.status.code(), Some(70));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot be used") && said.contains("777"), "{said}");
    wait_for("its end", || job_processes(&mark).is_empty().then_some(()));
    let (_keeper, _server) = keeper.successor();
}

#[test]
fn p06_a_renewed_keepers_children_start_clean_whatever_started_it() {
    let rude = |command: &mut Command| {
        // SAFETY: signal may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::setpriority(libc::PRIO_PROCESS, 0, 5);
                Ok(())
            });
        }
    };
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start_by(level, rude);
        let before = state(&server.run(&keeper.launch(&["print-state"])));
        renew(&keeper, &mut server);
        let after = state(&server.run(&keeper.launch(&["print-state"])));
        for fact in ["SigBlk", "SigIgn", "fds", "nofile", "core", "nice", "Umask", "leads-session"] {
            assert_eq!(before[fact], after[fact], "{level:?} {fact}");
        }
    }
}

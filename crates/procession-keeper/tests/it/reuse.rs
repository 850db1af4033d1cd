//! Numbers of processes come round again: who has one by now is never taken for who had it.

use std::process::{Command, Stdio};

use procession_core::frame::{ToKeeper, ToServer};
use procession_core::outcome::CancelledBy;
use procession_core::record::{Ending, StopCause};

use crate::keeper::{Keeper, LEVELS, Server};

/// In a namespace of its own with so few numbers that they are used again within a second.
/// The keeper is not its first process.
const FEW: &str = r#"echo 400 > /proc/sys/kernel/pid_max && "$0" "$@"; exit $?"#;
const NAMESPACE: [&str; 6] = ["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];

/// Whether the limit is each namespace's own (Linux 6.14): before that it is everybody's.
fn is_possible() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    let mut numbers = release.split(['.', '-']).filter_map(|part| part.parse::<u32>().ok());
    let own = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14);
    let mut trial = Command::new("unshare");
    trial.args(NAMESPACE).args(["[ -w /proc/sys/kernel/pid_max ]"]).stderr(Stdio::null());
    own && trial.status().is_ok_and(|status| status.success())
}

/// Ends the namespace where a test fails: what forked it waits for it, whoever asks.
struct EndOf(u32);

impl Drop for EndOf {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pid = rustix::process::Pid::from_raw(self.0.cast_signed()).expect("a pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The number that a new process gets. All may be in use for a moment: then nothing ran.
fn probe(keeper: &Keeper, server: &mut Server) -> u32 {
    loop {
        let probe = keeper.launch(&["exit", "0"]);
        server.spawn(&probe);
        let number = server.hear("STARTED, or that it could not", |message| match message {
            ToServer::Started(started) if started.key == probe.key => Some(started.pid),
            ToServer::Exited(record) if record.key == probe.key => Some(0),
            _ => None,
        });
        server.say(&ToKeeper::Ack { key: probe.key });
        if number > 0 {
            server.exited(probe.key);
            server.say(&ToKeeper::Ack { key: probe.key });
            return number;
        }
    }
}

#[test]
fn p23_p24_where_numbers_are_used_again_nobody_else_is_signalled_heavy() {
    if !is_possible() {
        return eprintln!("skipped: no namespace with few process ids to be had");
    }
    for level in LEVELS {
        let (mut keeper, mut server) = Keeper::start_by(level, |command| {
            let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let host = command.get_program().to_owned();
            *command = Command::new("unshare");
            command.args(NAMESPACE).arg(FEW).arg(host).args(args).stdin(Stdio::null());
        });
        let _end = EndOf(keeper.pid());
        let by = CancelledBy::Client;
        let bystanders: Vec<_> = (0..20)
            .map(|_| {
                let mut launch = keeper.launch(&["catch-term", "9"]);
                launch.timeout = None;
                server.spawn(&launch);
                server.hear("that it listens", |message| match message {
                    ToServer::Output(notice) if notice.key == launch.key => Some(()),
                    _ => None,
                });
                launch
            })
            .collect();
        let (mut numbers, mut highest) = (0u32, 0);
        for round in 0..150u64 {
            let launches: Vec<_> = (0..10u64)
                .map(|n| keeper.launch(&["exit-after-us", &((round * 7 + n * 90) % 1000).to_string(), "3"]))
                .collect();
            let spawns = launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone())));
            server.say_all(&spawns.collect::<Vec<_>>());
            // Before, at and after their ends, and once they are long over.
            let now = round % 2 == 0;
            let stops = launches.iter().map(|launch| ToKeeper::Stop { key: launch.key, by, now });
            let stops: Vec<_> = stops.collect();
            server.say_all(&stops);
            for launch in &launches {
                server.exited(launch.key);
                server.say(&ToKeeper::Ack { key: launch.key });
            }
            server.say_all(&stops);
            numbers += 10;
            highest = highest.max(probe(&keeper, &mut server));
            server.forget_starts();
        }
        assert!(numbers > 3 * highest && highest < 400, "none was used again: {numbers} {highest}");
        assert_eq!(server.list().0.len(), bystanders.len(), "{level:?}: somebody else was ended");
        for launch in &bystanders {
            server.say(&ToKeeper::Stop { key: launch.key, by, now: false });
            let stopped = Some(StopCause::Cancelled { by });
            let ending = Ending::Ended { wait_status: 9 << 8, stopped };
            assert_eq!(server.exited(launch.key).ending, ending, "{level:?}");
        }
        server.goodbye(0);
        assert_eq!(keeper.wait().code(), Some(0), "{level:?}");
    }
}

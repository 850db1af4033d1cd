//! A clean child: whatever started the keeper, a job finds what was decided.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;

use procession_core::frame::ToKeeper;
use procession_core::launch::{OutputMode, ResourceLimit, Stdin};
use procession_core::record::{Containment, ExitRecord};

use crate::keeper::{Keeper, LEVELS, bytes};

/// What `print-state` printed.
pub(crate) fn state(record: &ExitRecord) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(&record.stdout.tail).expect("text");
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, value)| (name.into(), value.into())).collect()
}

/// Ignores and blocks what a rude parent might, before the keeper is exec'd.
fn rude(command: &mut std::process::Command) {
    // SAFETY: signal and sigprocmask may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            for signal in
                [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE, libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1]
            {
                libc::signal(signal, libc::SIG_IGN);
            }
            let mut all = std::mem::MaybeUninit::uninit();
            libc::sigfillset(all.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
            Ok(())
        });
    }
}

#[test]
fn p06_no_signal_is_blocked_or_ignored_whatever_started_us() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start_by(level, rude);
        let state = state(&server.run(&keeper.launch(&["print-state"])));
        assert_eq!(state["SigBlk"], "0000000000000000", "{level:?}");
        // Rust's runtime in the child ignores PIPE by itself.
        assert_eq!(state["SigIgn"], "0000000000001000", "{level:?}");
        // A program without a runtime says it plainly.
        let mut launch = keeper.launch(&[]);
        launch.program = "/bin/grep".into();
        launch.argv = ["grep", "Sig[BI]", "/proc/self/status"].map(Into::into).to_vec();
        let plain = server.run(&launch).stdout.tail;
        assert_eq!(plain, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", "{level:?}");
    }
}

#[test]
fn p07_only_the_standard_descriptors_under_a_storm_of_spawns_heavy() {
    // The keeper inherits a socket that nobody marked close-on-exec.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).expect("ours");
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let number = if level == Containment::Cgroup { 1000 } else { 300 };
        let launches: Vec<_> = (0..number)
            .map(|n| {
                let mut launch = keeper.launch(&["print-state"]);
                if n % 2 == 0 {
                    launch.stdin = Stdin::Bytes("x".into());
                }
                launch
            })
            .collect();
        let all: Vec<_> = launches.iter().map(|launch| ToKeeper::Spawn(Box::new(launch.clone()))).collect();
        server.say_all(&all);
        for launch in &launches {
            let state = state(&server.exited(launch.key));
            assert_eq!(state["fds"], "0 1 2", "{level:?}");
        }
    }
}

#[test]
fn p09_standard_descriptors_block_and_have_the_right_modes() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        std::fs::write(keeper.path("body"), "x").expect("writable");
        let stdins = [Stdin::Bytes("x".into()), Stdin::File(bytes(&keeper.path("body")))];
        for stdin in stdins {
            let mut launch = keeper.launch(&["print-state"]);
            launch.stdin = stdin;
            assert_eq!(state(&server.run(&launch))["modes"], "r-blocking w-blocking w-blocking", "{level:?}");
        }
        let mut launch = keeper.launch(&["print-state"]);
        launch.output.mode = OutputMode::File;
        assert_eq!(state(&server.run(&launch))["modes"], "rw-blocking w-blocking w-blocking", "{level:?}");
    }
}

#[test]
fn p31_everything_inherited_is_set() {
    let adjust = |command: &mut std::process::Command| {
        // SAFETY: these change the process about to be exec'd and call no allocator.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o777);
                libc::setpriority(libc::PRIO_PROCESS, 0, 7);
                let limit = libc::rlimit { rlim_cur: 500, rlim_max: 2000 };
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
                Ok(())
            });
        }
    };
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start_by(level, adjust);
        let mut launch = keeper.launch(&["print-state"]);
        launch.directory = "/usr".into();
        launch.env = vec!["ONLY=this".into()];
        let record = server.run(&launch);
        let found = state(&record);
        let expected = [
            ("Umask", "0022"),
            ("core", "0 0"),
            ("nofile", "500 2000"),
            ("oom", "0"),
            ("leads-session", "true"),
            ("leads-group", "true"),
            ("terminal", "false"),
            ("cwd", "/usr"),
            ("env", "ONLY=this"),
        ];
        for (name, value) in expected {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{level:?} {name}");
        }
        if rustix::process::getuid().is_root() {
            assert_eq!(found["nice"], "0", "{level:?}");
        }
        // SAFETY: asks for the id of our own session keyring.
        let ours = unsafe { libc::syscall(libc::SYS_keyctl, 0, -3i64, 0) };
        assert_ne!(found["keyring"], ours.to_string(), "{level:?}");

        let mut launch = keeper.launch(&["print-state"]);
        launch.rlimits = vec![ResourceLimit { resource: libc::RLIMIT_NOFILE, soft: 64, hard: 128 }];
        assert_eq!(state(&server.run(&launch))["nofile"], "64 128", "{level:?}");
    }
}

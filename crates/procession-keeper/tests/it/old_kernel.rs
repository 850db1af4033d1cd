//! System calls that older kernels do not have, and that filters of containers refuse: the
//! keeper does without them, and keeps every promise that does not need them.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use procession_core::record::{Containment, Ending, StopCause};

use crate::keeper::{Keeper, LEVELS, Server};

/// `clone3` is of Linux 5.3 and refused by many filters; `close_range` is of 5.9.
const REFUSED: [&[i64]; 3] =
    [&[libc::SYS_clone3], &[libc::SYS_close_range], &[libc::SYS_clone3, libc::SYS_close_range]];

fn instruction(code: u32, k: u32, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: otherwise, k }
}

/// A filter that answers these calls as a kernel does that has never heard of them.
fn filter(refused: &[i64]) -> Vec<libc::sock_filter> {
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for call in refused {
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32, 1));
        let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        program.push(instruction(libc::BPF_RET | libc::BPF_K, unknown, 0));
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0));
    program
}

/// Lets the keeper, and all below it, live on such a kernel.
fn without(refused: &'static [i64]) -> impl FnOnce(&mut Command) {
    let mut program = filter(refused);
    move |command| {
        let install = move || {
            let plan = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
            // SAFETY: two system calls, allowed between fork and exec; the plan and what it
            // points to live until they return.
            let set = unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                    && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const plan) == 0
            };
            if set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: what it calls is allowed between fork and exec; it allocates nothing.
        unsafe { command.pre_exec(install) };
    }
}

fn ending(server: &mut Server, keeper: &Keeper, args: &[&str]) -> Ending {
    server.run(&keeper.launch(args)).ending
}

#[test]
fn f41_without_calls_of_newer_kernels_every_promise_holds() {
    for refused in REFUSED {
        for level in LEVELS {
            let (keeper, mut server) = Keeper::start_by(level, without(refused));
            let context = format!("{refused:?} {level:?}");
            let plain = |wait_status| Ending::Ended { wait_status, stopped: None };
            assert_eq!(ending(&mut server, &keeper, &["exit", "7"]), plain(7 << 8), "{context}");
            assert_eq!(ending(&mut server, &keeper, &["signal", "11"]), plain(11), "{context}");

            let mut timed = keeper.launch(&["ignore-term"]);
            timed.timeout = Some(Duration::from_millis(200));
            timed.grace = Duration::from_millis(100);
            let stopped = Some(StopCause::Deadline { limit_ms: 200 });
            assert_eq!(server.run(&timed).ending, Ending::Ended { wait_status: 9, stopped }, "{context}");

            let record = server.run(&keeper.launch(&["double-fork-setsid", "5"]));
            assert_eq!((&record.ending, record.leaked > 0), (&plain(5 << 8), true), "{context}");
            let record = server.run(&keeper.launch(&["flood", "100000", "0"]));
            assert_eq!((record.stdout.total, record.ending), (100_000, plain(0)), "{context}");

            let state = server.run(&keeper.launch(&["print-state"])).stdout.tail;
            let state = std::str::from_utf8(&state).expect("text");
            assert!(state.contains("fds 0 1 2\n"), "{context}: {state}");
            // What was used instead is recorded where it is less.
            assert!(record.containment == level || record.containment == Containment::Monitor, "{context}");
        }
    }
}

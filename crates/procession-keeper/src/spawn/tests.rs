//! Both ways of making a child, without a keeper around it.

use std::os::fd::AsFd;

use super::*;
use crate::sys::process::reap;

fn run(method: Method, program: &[u8]) -> (Outcome, i32) {
    let mut stacks = Stacks::default();
    let null = crate::dev_null().expect("there");
    let fd = null.as_fd();
    let command = Command {
        program,
        argv: &[program],
        env: &[],
        directory: Some(b"/"),
        stdio: [fd, fd, fd],
        extra: None,
        join: None,
        umask: 0o022,
        nice: false,
        die_with_parent: true,
        rlimits: &[],
        credentials: None,
    };
    let prepared = prepare(&command, &mut stacks).expect("prepared");
    let (process, mut newborn) = clone(prepared, method, None, &mut stacks).expect("cloned");
    let told = loop {
        match outcome(newborn, &mut stacks) {
            Outcome::Pending(same) => newborn = same,
            told => break told,
        }
        std::thread::yield_now();
    };
    (told, reap(process.pid).expect("our own").0)
}

#[test]
fn either_way_a_program_runs_and_a_failure_is_told() {
    for method in [Method::Clone3, Method::Clone] {
        let (told, status) = run(method, b"/bin/true");
        assert!(matches!(told, Outcome::Closed), "{method:?}");
        assert_eq!(status, 0, "{method:?}");
        let (told, status) = run(method, b"/bin/false");
        assert!(matches!(told, Outcome::Closed), "{method:?}");
        assert_eq!(status, 1 << 8, "{method:?}");
        let (told, _) = run(method, b"/nowhere");
        let Outcome::Failed(failure) = told else { panic!("{method:?}: it ran") };
        assert_eq!(failure, Failure { phase: Phase::Exec, errno: Errno::NOENT }, "{method:?}");
    }
}

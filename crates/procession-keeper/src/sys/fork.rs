//! A copy of the keeper that goes its own way: for monitors.
//!
//! The keeper has one thread, so the copy may run any code. It never returns into the
//! keeper's: it ends in the function it was made for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open};

use crate::spawn::Process;

/// Forks a child that runs `life` and ends with it.
pub(crate) fn fork(life: impl FnOnce()) -> Result<Process, Errno> {
    // After the fork nothing may fail: take the handle's place beforehand.
    let place = pidfd_open(getpid(), PidfdFlags::empty())?;
    // SAFETY: this process has one thread (see `startup`), so no lock is held by another.
    match unsafe { libc::fork() } {
        0 => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            // SAFETY: ends the copy without running what the keeper registered for its exit.
            unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 70 }) }
        }
        -1 => Err(super::signals::last_error()),
        number => {
            let pid = Pid::from_raw(number).ok_or(Errno::INVAL)?;
            drop(place);
            pidfd_open(pid, PidfdFlags::empty()).map(|pidfd| Process { pid, pidfd }).inspect_err(|_| {
                // Ours and unreaped: the pid is its own.
                let _ = kill_process(pid, Signal::KILL);
                let _ = super::process::reap(pid);
            })
        }
    }
}

/// Closes every descriptor but the standard ones and these. Only in a copy: the values that
/// own the closed ones must never be dropped.
pub(crate) fn keep_only(kept: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if first < fd {
            close_range(first, fd - 1);
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: takes no pointers; the caller owns nothing among these any more.
    let result =
        unsafe { super::raw::syscall(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0, 0]) };
    if result != 0 {
        // Before Linux 5.9.
        let end = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
        for fd in first..=last.min(u32::try_from(end).unwrap_or(u32::MAX)) {
            // SAFETY: as above.
            unsafe { libc::close(fd.cast_signed()) };
        }
    }
}

/// Puts /dev/null in place of the standard descriptors: whoever reads the keeper's output
/// must not wait for us.
pub(crate) fn detach_standard(null: impl AsFd) {
    for standard in 0..=2 {
        // SAFETY: replaces a standard descriptor, which no Rust value owns.
        unsafe { libc::dup2(null.as_fd().as_raw_fd(), standard) };
    }
}

//! A copy of this process that goes its own way: for monitors, which end in the function they
//! were made for, and for daemons, which go on where their caller stands.
//!
//! This process has one thread, so the copy may run any code.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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
        number => child(number, place),
    }
}

/// Forks a child that returns from here too, with `None`.
pub(crate) fn fork_on() -> Result<Option<Process>, Errno> {
    let place = pidfd_open(getpid(), PidfdFlags::empty())?;
    // SAFETY: this process has one thread (the caller has looked), so no lock is held by
    // another.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        -1 => Err(super::signals::last_error()),
        number => child(number, place).map(Some),
    }
}

/// The child just forked, its handle in the `place` that was held for it.
fn child(number: i32, place: OwnedFd) -> Result<Process, Errno> {
    let pid = Pid::from_raw(number).ok_or(Errno::INVAL)?;
    drop(place);
    pidfd_open(pid, PidfdFlags::empty()).map(|pidfd| Process { pid, pidfd }).inspect_err(|_| {
        // Ours and unreaped: the pid is its own.
        let _ = kill_process(pid, Signal::KILL);
        let _ = super::process::reap(pid);
    })
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

/// Puts `fd` in place of a standard descriptor.
pub(crate) fn replace_standard(standard: i32, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    debug_assert!((0..=2).contains(&standard));
    // SAFETY: replaces a standard descriptor, which no Rust value owns.
    match unsafe { libc::dup2(fd.as_raw_fd(), standard) } {
        -1 => Err(super::signals::last_error()),
        _ => Ok(()),
    }
}

/// A descriptor that whoever started this process has passed on by its number.
pub(crate) fn take_passed(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: sets a flag on a descriptor, open or not; takes no pointers.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(super::signals::last_error());
    }
    // SAFETY: open (fcntl said so), passed to this process to be its own, and taken before
    // anything of ours was opened.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

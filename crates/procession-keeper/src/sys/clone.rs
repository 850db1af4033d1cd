//! `clone3` and its older brother: a child that shares our memory (no page tables to copy)
//! and runs beside us (no VFORK: a child hung on a dead mount must not hold the keeper's
//! only thread).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::raw::clone_syscall;
use super::stack::Stack;

/// How children are made on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Linux 5.7: the child is born in its cgroup, its pidfd comes with it.
    Clone3,
    /// Older kernels and filters that refuse `clone3`: pidfd afterwards.
    Clone,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts `entry(data)` on `stack` in a child, in `cgroup` from birth where one is given
/// (only with [`Method::Clone3`]).
///
/// # Safety
/// As for `clone_syscall`: `data` and `stack` stay untouched until the child has left them;
/// `entry` makes raw system calls only.
pub(crate) unsafe fn clone(
    method: Method,
    stack: &Stack,
    cgroup: Option<BorrowedFd<'_>>,
    entry: extern "C" fn(*const ()) -> !,
    data: *const (),
) -> Result<(Pid, OwnedFd), Errno> {
    match method {
        // SAFETY: passed on.
        Method::Clone3 => unsafe { clone3(stack, cgroup, entry, data) },
        // SAFETY: passed on.
        Method::Clone => unsafe { clone_then_open(stack, entry, data) },
    }
}

unsafe fn clone3(
    stack: &Stack,
    cgroup: Option<BorrowedFd<'_>>,
    entry: extern "C" fn(*const ()) -> !,
    data: *const (),
) -> Result<(Pid, OwnedFd), Errno> {
    let (base, size) = stack.range();
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_PIDFD) as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: base as u64,
        stack_size: size as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let call = [&raw const args as usize, size_of::<CloneArgs>(), 0];
    // SAFETY: a clone3 call with a stack of its own, its end page-aligned; the rest is the
    // caller's promise.
    let pid = child_pid(unsafe { clone_syscall(libc::SYS_clone3, call, entry, data) })?;
    // SAFETY: the kernel has stored a new descriptor there, nobody else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

unsafe fn clone_then_open(
    stack: &Stack,
    entry: extern "C" fn(*const ()) -> !,
    data: *const (),
) -> Result<(Pid, OwnedFd), Errno> {
    let (base, size) = stack.range();
    let flags = (libc::CLONE_VM | libc::SIGCHLD) as usize;
    // After the clone nothing may fail: take the descriptor's place beforehand.
    let place = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    // SAFETY: a clone call with a stack of its own; the rest is the caller's promise.
    let pid = child_pid(unsafe { clone_syscall(libc::SYS_clone, [flags, base + size, 0], entry, data) })?;
    drop(place);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((pid, pidfd)),
        Err(errno) => {
            // Unsupervised it must not run on. It is ours and unreaped: the pid is its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = super::process::reap(pid);
            Err(errno)
        }
    }
}

fn child_pid(result: isize) -> Result<Pid, Errno> {
    let number = i32::try_from(result).unwrap_or(-libc::EINVAL);
    if number < 0 {
        return Err(Errno::from_raw_os_error(-number));
    }
    Pid::from_raw(number).ok_or(Errno::INVAL)
}

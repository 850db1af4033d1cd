//! A command becomes a process, in three moments: [`prepare`] (all that can fail without
//! a child), [`clone`] (one system call), [`outcome`] (did it reach its program?).
//!
//! Does not decide where a process lives or what becomes of it. The keeper uses it for
//! jobs and for the server, a monitor for its job.

mod child;

use std::ffi::c_char;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use procession_core::launch::{Credentials, ResourceLimit};
use procession_core::record::Phase;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::sys::clone::{Method, clone as clone_process};
use crate::sys::stack::{Stack, Stacks};
use child::{ChildPlan, RawCredentials, RawLimit, child_main, no_op_main};

/// A step on the way to a running program that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) phase: Phase,
    pub(crate) errno: Errno,
}

impl Failure {
    /// For `map_err`.
    pub(crate) fn at(phase: Phase) -> impl Fn(Errno) -> Failure {
        move |errno| Failure { phase, errno }
    }
}

/// What to run. Descriptors are only lent: the child gets copies.
pub(crate) struct Command<'a> {
    pub(crate) program: &'a [u8],
    pub(crate) argv: &'a [&'a [u8]],
    pub(crate) env: &'a [&'a [u8]],
    /// `None`: stay.
    pub(crate) directory: Option<&'a [u8]>,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Becomes descriptor 3.
    pub(crate) extra: Option<BorrowedFd<'a>>,
    /// `cgroup.procs` to join before exec, where the child is not born in its cgroup.
    pub(crate) join: Option<BorrowedFd<'a>>,
    pub(crate) umask: u32,
    /// Sets the niceness to 0.
    pub(crate) nice: bool,
    /// Ends the child with its parent.
    pub(crate) die_with_parent: bool,
    pub(crate) rlimits: &'a [ResourceLimit],
    pub(crate) credentials: Option<&'a Credentials>,
}

/// A command in the shape the child reads it in, and the memory behind it.
pub(crate) struct Prepared {
    plan: Box<ChildPlan>,
    _memory: Memory,
    status: (OwnedFd, OwnedFd),
    stack: Stack,
}

/// What the plan's pointers point at; never touched between clone and exec.
struct Memory {
    _strings: Vec<u8>,
    _pointers: Vec<*const c_char>,
    _limits: Vec<RawLimit>,
    _credentials: Option<Box<RawCredentials>>,
    _groups: Vec<u32>,
    _groups_back: Vec<u32>,
}

/// A child that has not yet told whether it reached its program. Keeps what the child uses.
pub(crate) struct Newborn {
    plan: Box<ChildPlan>,
    _memory: Memory,
    status: OwnedFd,
    stack: Stack,
}

/// A new process and the handle to it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// Makes everything ready: what fails here fails before there is a child.
pub(crate) fn prepare(command: &Command<'_>, stacks: &mut Stacks) -> Result<Prepared, Failure> {
    let failed = Failure::at(Phase::Prepare);
    let status = pipe_with(PipeFlags::CLOEXEC).map_err(&failed)?;
    rustix::io::ioctl_fionbio(&status.0, true).map_err(&failed)?;
    let stack = stacks.take().map_err(&failed)?;

    let (strings, pointers) = lay_out(command).map_err(&failed)?;
    let limits: Vec<RawLimit> = command.rlimits.iter().map(raw_limit).collect();
    let mut groups = command.credentials.map(|c| c.groups.clone()).unwrap_or_default();
    groups.sort_unstable();
    let mut groups_back = vec![0; groups.len()];
    let credentials = command.credentials.map(|c| {
        Box::new(RawCredentials {
            uid: c.uid,
            gid: c.gid,
            groups: groups.as_ptr(),
            groups_count: groups.len(),
            groups_back: groups_back.as_mut_ptr(),
        })
    });
    let directory_at = 1 + command.argv.len() + 1 + command.env.len() + 1;
    let plan = Box::new(ChildPlan {
        phase: AtomicU8::new(Phase::Fork as u8),
        program: pointers[0],
        argv: &raw const pointers[1],
        envp: &raw const pointers[1 + command.argv.len() + 1],
        directory: pointers[directory_at],
        stdio: command.stdio.map(|fd| fd.as_raw_fd()),
        extra: command.extra.map_or(-1, |fd| fd.as_raw_fd()),
        status: status.1.as_raw_fd(),
        join: command.join.map_or(-1, |fd| fd.as_raw_fd()),
        umask: command.umask,
        death_signal: if command.die_with_parent { libc::SIGKILL } else { 0 },
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        nice: command.nice,
        limits: limits.as_ptr(),
        limits_count: limits.len(),
        credentials: credentials.as_deref().map_or(ptr::null(), ptr::from_ref),
    });
    let memory = Memory {
        _strings: strings,
        _pointers: pointers,
        _limits: limits,
        _credentials: credentials,
        _groups: groups,
        _groups_back: groups_back,
    };
    Ok(Prepared { plan, _memory: memory, status, stack })
}

/// All strings in one block, and pointers to them: program, argv, null, env, null, directory.
fn lay_out(command: &Command<'_>) -> Result<(Vec<u8>, Vec<*const c_char>), Errno> {
    let directory = command.directory.as_slice();
    let texts = || {
        [command.program].into_iter().chain(command.argv.iter().copied()).chain(command.env.iter().copied())
    };
    let all = || texts().chain(directory.iter().copied());
    if all().any(|text| text.contains(&0)) {
        return Err(Errno::INVAL);
    }
    let mut strings = Vec::with_capacity(all().map(|text| text.len() + 1).sum());
    let mut offsets = Vec::with_capacity(command.argv.len() + command.env.len() + 2);
    for text in all() {
        offsets.push(strings.len());
        strings.extend_from_slice(text);
        strings.push(0);
    }
    // The block no longer moves: from here on its addresses are good.
    let base: *const u8 = strings.as_ptr();
    let mut addresses = offsets.into_iter().map(|offset| base.wrapping_add(offset).cast::<c_char>());
    let mut pointers = Vec::with_capacity(command.argv.len() + command.env.len() + 4);
    pointers.extend(addresses.by_ref().take(1 + command.argv.len()));
    pointers.push(ptr::null());
    pointers.extend(addresses.by_ref().take(command.env.len()));
    pointers.push(ptr::null());
    pointers.push(addresses.next().unwrap_or(ptr::null()));
    Ok((strings, pointers))
}

fn raw_limit(limit: &ResourceLimit) -> RawLimit {
    RawLimit { resource: limit.resource, limit: [limit.soft, limit.hard] }
}

/// Starts the child, in `cgroup` from birth where one is given. An error: no child ran.
pub(crate) fn clone(
    prepared: Prepared,
    method: Method,
    cgroup: Option<BorrowedFd<'_>>,
    stacks: &mut Stacks,
) -> Result<(Process, Newborn), Errno> {
    let Prepared { plan, _memory, status: (status, told), stack } = prepared;
    let data = ptr::from_ref::<ChildPlan>(&plan).cast();
    // SAFETY: plan, memory and stack live in the `Newborn` until `outcome` has seen the end
    // of the status pipe, which the child closes by exec or death; `child_main` makes raw
    // system calls only.
    let cloned = unsafe { clone_process(method, &stack, cgroup, child_main, data) };
    drop(told);
    match cloned {
        Ok((pid, pidfd)) => Ok((Process { pid, pidfd }, Newborn { plan, _memory, status, stack })),
        Err(errno) => {
            stacks.give_back(stack);
            Err(errno)
        }
    }
}

/// What the status pipe says.
pub(crate) enum Outcome {
    /// Nothing yet.
    Pending(Newborn),
    /// The pipe closed: the child became its program, or something killed it before.
    Closed,
    /// The child could not go on; it is about to exit.
    Failed(Failure),
}

/// Reads the status pipe; gives the stack back once the child has left it.
pub(crate) fn outcome(newborn: Newborn, stacks: &mut Stacks) -> Outcome {
    let mut report = [0u8; 8];
    let length = loop {
        match rustix::io::read(&newborn.status, &mut report) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Outcome::Pending(newborn),
            result => break result.unwrap_or(0),
        }
    };
    if length < report.len() {
        stacks.give_back(newborn.stack);
        return Outcome::Closed;
    }
    // The child still stands on its stack, in the few instructions before its exit: the
    // mapping must outlive those, so neither stack nor plan goes before its death.
    let [a, b, c, d, e, f, g, h] = report;
    let phase = Phase::from_number(u8::try_from(i32::from_ne_bytes([a, b, c, d])).unwrap_or(0));
    let errno = Errno::from_raw_os_error(i32::from_ne_bytes([e, f, g, h]));
    wait_until_left(newborn, stacks);
    Outcome::Failed(Failure { phase: phase.unwrap_or(Phase::Fork), errno })
}

/// The pipe closes when the child has exited; that is microseconds away.
fn wait_until_left(newborn: Newborn, stacks: &mut Stacks) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let bound = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let mut fds = [PollFd::new(&newborn.status, PollFlags::HUP)];
    if matches!(poll(&mut fds, Some(&bound)), Ok(1)) {
        stacks.give_back(newborn.stack);
    } else {
        // A child that cannot even exit keeps its memory for good: a leak, not a crash.
        std::mem::forget(newborn);
    }
}

impl Newborn {
    /// The end of the pipe that becomes readable when there is an outcome.
    pub(crate) fn status(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// The step the child is in.
    pub(crate) fn phase(&self) -> Phase {
        Phase::from_number(self.plan.phase.load(Ordering::Relaxed)).unwrap_or(Phase::Fork)
    }
}

/// Clones a child that exits at once, in `cgroup` or joining `join`, and says how it ended.
pub(crate) fn no_op(
    method: Method,
    cgroup: Option<BorrowedFd<'_>>,
    join: Option<BorrowedFd<'_>>,
    stacks: &mut Stacks,
) -> Result<i32, Errno> {
    let null = crate::dev_null()?;
    let fd = null.as_fd();
    let command = Command {
        program: b"",
        argv: &[],
        env: &[],
        directory: None,
        stdio: [fd, fd, fd],
        extra: None,
        join,
        umask: 0,
        nice: false,
        die_with_parent: false,
        rlimits: &[],
        credentials: None,
    };
    let prepared = prepare(&command, stacks).map_err(|failure| failure.errno)?;
    let data = ptr::from_ref::<ChildPlan>(&prepared.plan).cast();
    // SAFETY: everything outlives the child, which is reaped before this function returns.
    let (pid, _pidfd) = unsafe { clone_process(method, &prepared.stack, cgroup, no_op_main, data) }?;
    let (status, _) = crate::sys::process::reap(pid)?;
    stacks.give_back(prepared.stack);
    Ok(status)
}

/// How children are made here: `clone3` where the kernel and its filters let us.
pub(crate) fn method(stacks: &mut Stacks) -> Result<Method, Errno> {
    match no_op(Method::Clone3, None, None, stacks) {
        Ok(_) => Ok(Method::Clone3),
        Err(_) => no_op(Method::Clone, None, None, stacks).map(|_| Method::Clone),
    }
}

#[cfg(test)]
mod tests;

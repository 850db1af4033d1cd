//! What the kernel knows of a process: whether it has ended, how, what it used, which of
//! the many processes that may bear its pid it is.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use procession_core::record::Usage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};

/// Whether the process is dead (a zombie or reaped). Does not reap.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&at_once)), Ok(1))
}

/// Signals through the handle: a process that is gone hears nothing, no other one either.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: Signal) {
    let _ = pidfd_send_signal(pidfd, signal);
}

/// `wait4` of a child that has ended: its raw status and what it used. After this its pid
/// may name another process.
pub(crate) fn reap(pid: Pid) -> Result<(i32, Usage), Errno> {
    wait4(pid, 0)
}

/// The same for a child that may still run.
pub(crate) fn reap_if_ended(pid: Pid) -> Result<(i32, Usage), Errno> {
    wait4(pid, libc::WNOHANG)
}

/// How a child ended that is dead and not reaped, as `wait4` will say it; it stays so.
pub(crate) fn peek(pid: Pid) -> Option<i32> {
    let id = pid.as_raw_nonzero().get().cast_unsigned();
    let info = look(libc::P_PID, id).ok()??;
    // SAFETY: filled by waitid for a child that has ended.
    let value = unsafe { info.si_status() };
    Some(match info.si_code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value | 0x80,
        _ => value,
    })
}

/// Whether there is any child, dead or alive.
pub(crate) fn has_children() -> bool {
    !matches!(look(libc::P_ALL, 0), Err(Errno::CHILD))
}

/// A child that was stopped since this was last asked.
pub(crate) fn next_stopped_child() -> Option<Pid> {
    let info = look_for(libc::P_ALL, 0, libc::WSTOPPED | libc::WNOHANG).ok()??;
    // SAFETY: filled by waitid for a child that was stopped.
    Pid::from_raw(unsafe { info.si_pid() })
}

/// One child that is dead and not reaped; it stays so.
pub(crate) fn first_dead_child() -> Option<Pid> {
    let info = look(libc::P_ALL, 0).ok()??;
    // SAFETY: filled by waitid for a child that has ended.
    Pid::from_raw(unsafe { info.si_pid() })
}

/// `waitid` without waiting and without reaping; `None` where no such child has ended.
fn look(which: libc::idtype_t, id: u32) -> Result<Option<libc::siginfo_t>, Errno> {
    look_for(which, id, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

fn look_for(which: libc::idtype_t, id: u32, options: i32) -> Result<Option<libc::siginfo_t>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the out-pointer is valid for writes.
    let result = unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) };
    // SAFETY: all zero is a valid siginfo, and it stays so where there is no such child.
    let info = unsafe { info.assume_init() };
    match result {
        0 => Ok((info.si_signo == libc::SIGCHLD).then_some(info)),
        _ => Err(super::signals::last_error()),
    }
}

fn wait4(pid: Pid, options: i32) -> Result<(i32, Usage), Errno> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let pid = pid.as_raw_nonzero().get();
    // SAFETY: both out-pointers are valid for writes; rusage is plain numbers.
    match unsafe { libc::wait4(pid, &raw mut status, options, usage.as_mut_ptr()) } {
        0 => Err(Errno::AGAIN),
        reaped if reaped == pid => {
            // SAFETY: zeroed and then filled by the kernel; any bit pattern is valid.
            let usage = unsafe { usage.assume_init() };
            Ok((status, usage_of(&usage)))
        }
        _ => Err(super::signals::last_error()),
    }
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let micros = |time: libc::timeval| {
        time.tv_sec.cast_unsigned().saturating_mul(1_000_000).saturating_add(time.tv_usec.cast_unsigned())
    };
    Usage {
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_bytes: usage.ru_maxrss.cast_unsigned().saturating_mul(1024),
    }
}

/// What `/proc/<pid>/stat` says of a process, dead or alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    /// The leader's pid: no other process gets that number while one of the session lives.
    pub(crate) session: i32,
    /// With the pid and the boot id this names one process for good.
    pub(crate) start_ticks: u64,
    /// It has not called exec since it was forked.
    pub(crate) before_exec: bool,
    pub(crate) zombie: bool,
    /// By a signal or a tracer.
    pub(crate) stopped: bool,
    /// Its last thread is on its way out: no signal changes how it ends.
    pub(crate) exiting: bool,
}

/// Reads it; `None` where there is no such process.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse_stat(&text)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    const PF_EXITING: u64 = 0x4;
    const PF_FORKNOEXEC: u64 = 0x40;
    // The name may hold anything, parentheses and spaces too: fields begin behind the last.
    let end = text.iter().rposition(|c| *c == b')')?;
    let fields = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let flags: u64 = fields.nth(2)?.parse().ok()?;
    let threads: u64 = fields.nth(10)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        parent,
        session,
        start_ticks,
        before_exec: flags & PF_FORKNOEXEC != 0,
        zombie: matches!(state, "Z" | "X"),
        stopped: matches!(state, "T" | "t"),
        exiting: flags & PF_EXITING != 0 && threads <= 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_parentheses_does_not_move_the_fields() {
        let text = b"42 (a) R 1 (b)) S 7 41 40 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = Stat {
            parent: 7,
            session: 40,
            start_ticks: 987_654,
            before_exec: true,
            zombie: false,
            stopped: false,
            exiting: false,
        };
        assert_eq!(parse_stat(text), Some(stat));
        assert_eq!(parse_stat(b"42 (a"), None);
    }

    #[test]
    fn our_own_stat_is_read() {
        let own = stat(rustix::process::getpid()).expect("we are there");
        assert_eq!(own.parent, rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get()));
        assert!(!own.before_exec && !own.zombie && !own.exiting && own.start_ticks > 0);
    }
}

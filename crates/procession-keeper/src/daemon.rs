//! A process that goes its own way: `serve` forks, the caller waits until its child serves or
//! has ended, and tells which. Until then the child speaks where the caller does; from then on
//! into a log file.
//!
//! One fork, then a new session: its leader opens no terminal (every open of ours says so), so
//! none can become its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procession_core::outcome::WaitStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use crate::file::{create_anew, open_regular};
use crate::spawn::Process;
use crate::sys::fork::{fork_on, replace_standard};
use crate::sys::process::{reap, signal};

/// A daemon that was asked to end because it did not get ready is given this long.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Which of the two this process is.
#[derive(Debug)]
pub enum Detached {
    /// The one that was called.
    Caller(Child),
    /// The one that goes on alone.
    Daemon(Daemon),
}

/// The daemon, to its caller.
#[derive(Debug)]
pub struct Child {
    process: Process,
    ready: OwnedFd,
}

/// What became of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It serves; its process id.
    Ready(u32),
    /// It ended with this status, 128 and the number of a signal; it has said why.
    Ended(u8),
    /// It was not ready in time, and was ended.
    Late,
}

/// The daemon's way to tell its caller.
#[derive(Debug)]
pub struct Daemon {
    /// Gone once it was told.
    caller: Option<OwnedFd>,
    log: PathBuf,
}

/// Splits this process in two. Only while it has one thread: a copy of the others' locks
/// would stay locked. `log` is where the daemon's stdout and stderr go once it serves.
pub fn detach(log: &Path) -> std::io::Result<Detached> {
    let (ready, caller) = pipe_with(PipeFlags::CLOEXEC)?;
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(std::io::Error::other("this process has several threads"));
    }
    match fork_on()? {
        Some(process) => Ok(Detached::Caller(Child { process, ready })),
        None => {
            rustix::process::setsid()?;
            let null = crate::dev_null()?;
            replace_standard(0, null.as_fd())?;
            Ok(Detached::Daemon(Daemon { caller: Some(caller), log: log.into() }))
        }
    }
}

impl Child {
    /// Waits until it serves or has ended, at most for `bound`.
    pub fn wait(self, bound: Duration) -> std::io::Result<Start> {
        let pid = self.process.pid;
        if self.heard_within(bound)? {
            match rustix::io::read(&self.ready, &mut [0; 1])? {
                0 => return Ok(Start::Ended(ended(pid))),
                _ => return Ok(Start::Ready(pid.as_raw_nonzero().get().cast_unsigned())),
            }
        }
        // Asked twice it does not wait for jobs either.
        for which in [Signal::TERM, Signal::TERM, Signal::KILL] {
            signal(self.process.pidfd.as_fd(), which);
            if self.heard_within(END_WITHIN / 3)? {
                break;
            }
        }
        ended(pid);
        Ok(Start::Late)
    }

    /// Whether it has said something, or closed its end, within `bound`.
    fn heard_within(&self, bound: Duration) -> std::io::Result<bool> {
        let until = Instant::now() + bound;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&self.ready, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn ended(pid: Pid) -> u8 {
    let status = WaitStatus(reap(pid).map_or(1 << 8, |(status, _)| status));
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

impl Daemon {
    /// One whose caller was told before this program began.
    pub(crate) fn told(log: PathBuf) -> Self {
        Self { caller: None, log }
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Tells the caller, once, and lets go of where it speaks.
    pub(crate) fn ready(&mut self) {
        if let Some(caller) = self.caller.take() {
            self.reopen_log();
            let _ = rustix::io::write(&caller, &[1]);
        }
    }

    /// Whoever rotates logs has moved the file away.
    pub(crate) fn reopen_log(&mut self) {
        if self.caller.is_some() {
            return;
        }
        if let Err(error) = open_log(&self.log).and_then(|log| replace_output(&log, &log)) {
            crate::complain(format_args!("{} cannot be opened: {error}", self.log.display()));
        }
    }
}

/// Where a daemon says what it has to say: appended to, for its owner's eyes.
pub fn open_log(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND;
    match open_regular(path, flags) {
        // Who may write there may put anything in its place: that is nobody's log.
        Err(Errno::NOENT | Errno::LOOP | Errno::INVAL | Errno::NXIO) => Ok(create_anew(path, flags)?),
        opened => Ok(opened?),
    }
}

/// What this process says goes there from now on.
pub fn replace_output(stdout: impl AsFd, stderr: impl AsFd) -> std::io::Result<()> {
    replace_standard(1, stdout.as_fd())?;
    replace_standard(2, stderr.as_fd()).map_err(Into::into)
}

/// The descriptors that a service manager passed to this process (`LISTEN_FDS`), by number,
/// with their names; close-on-exec. Call it once, before anything else opens descriptors.
pub fn passed_sockets() -> std::io::Result<Vec<OwnedFd>> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(vec![]);
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(crate::control::MAX_LISTENERS as u32);
    let sockets = (3..3 + count.cast_signed()).map(crate::sys::fork::take_passed);
    Ok(sockets.collect::<Result<_, _>>()?)
}

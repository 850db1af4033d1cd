//! Which process a number on paper means: a pid from a file may be another's by now, or of
//! another boot. Only through a handle that was checked is anything signalled or waited for.
//!
//! Used by whoever holds the lock of a data directory, to name itself, and by the command
//! line, to find it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::sys::process::stat;

/// A process, for good: no other one, then or later, has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its process id while it lives.
    pub pid: u32,
    /// The boot it lives in.
    pub boot_id: [u8; 16],
    /// When it started, in clock ticks since that boot.
    pub start_ticks: u64,
    /// The pid namespace in which that is its number, by its inode: in another one, a container's
    /// say, somebody else has it.
    pub namespace: u64,
}

impl Identity {
    /// Of this process.
    pub fn own() -> std::io::Result<Self> {
        let pid = getpid();
        let stat = stat(pid).ok_or(std::io::ErrorKind::NotFound)?;
        let pid = pid.as_raw_nonzero().get().cast_unsigned();
        Ok(Self { pid, boot_id: crate::boot_id()?, start_ticks: stat.start_ticks, namespace: namespace()? })
    }

    /// As [`Identity`] is written: the pid, and on the next line boot id, start and namespace.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let boot = words.next().filter(|digits| digits.len() == 32)?;
        let boot_id = u128::from_str_radix(boot, 16).ok()?.to_be_bytes();
        let start_ticks = words.next()?.parse().ok()?;
        let namespace = words.next()?.parse().ok()?;
        Some(Self { pid, boot_id, start_ticks, namespace })
    }

    /// A handle to it; `None` where it is gone, its number another's or of another boot.
    pub fn open(&self) -> Option<Handle> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after it was opened: what has this start time now had it then.
        let same = stat(pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.zombie);
        let same_boot = crate::boot_id().is_ok_and(|boot_id| boot_id == self.boot_id);
        let same_namespace = namespace().is_ok_and(|namespace| namespace == self.namespace);
        (same && same_boot && same_namespace).then_some(Handle { pidfd })
    }

    /// How long it has been there; of a process of this boot.
    pub fn age(&self) -> Duration {
        // SAFETY: asks for a number.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        let per_second = u64::try_from(per_second).unwrap_or(100).max(1);
        let started = Duration::from_millis(self.start_ticks.saturating_mul(1000) / per_second);
        Duration::from_nanos(crate::sys::clock::now().0).saturating_sub(started)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boot_id = u128::from_be_bytes(self.boot_id);
        write!(f, "{}\n{boot_id:032x} {} {}\n", self.pid, self.start_ticks, self.namespace)
    }
}

fn namespace() -> std::io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/ns/pid")?.ino())
}

/// A process that was seen to be the one that was meant.
#[derive(Debug)]
pub struct Handle {
    pidfd: OwnedFd,
}

impl Handle {
    /// Asks it to end, as a service manager does. One that is gone hears nothing.
    pub fn terminate(&self) -> std::io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Asks a keeper once more. By another signal: two of a kind that wait to be taken are one.
    pub fn hasten(&self) -> std::io::Result<()> {
        self.signal(Signal::INT)
    }

    /// Asks a keeper the third time.
    pub fn force(&self) -> std::io::Result<()> {
        self.signal(Signal::QUIT)
    }

    pub(crate) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether it ends within `bound`.
    pub fn ends_within(&self, bound: Duration) -> bool {
        let until = Instant::now() + bound;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) if left.is_zero() => return false,
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p23_only_the_very_process_is_found_again() {
        let own = Identity::own().expect("we are there");
        assert_eq!(Identity::parse(&own.to_string()), Some(own));
        assert!(own.open().is_some());
        assert!(own.age() < Duration::from_secs(24 * 3600));
        let later = Identity { start_ticks: own.start_ticks + 1, ..own };
        let before = Identity { boot_id: [7; 16], ..own };
        let nobody = Identity { pid: 0, ..own };
        let group = Identity { pid: u32::MAX, ..own };
        let elsewhere = Identity { namespace: own.namespace + 1, ..own };
        for other in [later, before, nobody, group, elsewhere] {
            assert!(other.open().is_none(), "{other:?}");
        }
    }

    #[test]
    fn what_older_versions_wrote_names_nobody() {
        for text in ["", "4711\n", "x\ny z\n", "4711\nabc 1\n", "-1\n00000000000000000000000000000000 1\n"] {
            assert_eq!(Identity::parse(text), None, "{text:?}");
        }
    }
}

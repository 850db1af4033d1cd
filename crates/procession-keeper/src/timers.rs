//! Everything that is to happen at a time, on one descriptor for the nearest.
//!
//! The clock is CLOCK_BOOTTIME: a deadline passes in a suspended machine too. Knows nothing
//! of what the keys mean; the keeper's loop asks for what is due.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_core::attempt::Instant;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Timers by key, at most one each.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    fd: OwnedFd,
    /// What the descriptor is set to; an earlier wake-up than needed is harmless, so it is
    /// only ever moved forward.
    armed: Option<Instant>,
    order: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self { fd, armed: None, order: BTreeSet::new(), at: HashMap::new() })
    }

    /// Sets the timer `key`, in place of what it was set to.
    pub(crate) fn arm(&mut self, key: K, at: Instant) {
        if let Some(old) = self.at.insert(key, at) {
            self.order.remove(&(old, key));
        }
        self.order.insert((at, key));
    }

    pub(crate) fn disarm(&mut self, key: K) {
        if let Some(at) = self.at.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    pub(crate) fn is_armed(&self, key: K) -> bool {
        self.at.contains_key(&key)
    }

    /// When it goes off, if it is set.
    pub(crate) fn at(&self, key: K) -> Option<Instant> {
        self.at.get(&key).copied()
    }

    /// The next timer whose time has come; it is no longer armed.
    pub(crate) fn due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.disarm(key);
        Some(key)
    }

    /// Makes the descriptor wake the loop in time. Called before each wait.
    pub(crate) fn set(&mut self) -> Result<(), Errno> {
        let Some((nearest, _)) = self.order.first() else { return Ok(()) };
        if self.armed.is_some_and(|armed| armed <= *nearest) {
            return Ok(());
        }
        let second = 1_000_000_000;
        let at = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: (nearest.0 / second).cast_signed(),
                // Zero in both would disarm it.
                tv_nsec: (nearest.0 % second).max(1).cast_signed(),
            },
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &at)?;
        self.armed = Some(*nearest);
        Ok(())
    }

    /// The descriptor was readable.
    pub(crate) fn woke(&mut self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
        self.armed = None;
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_in_order_and_once() {
        let mut timers = Timers::new().expect("a timerfd");
        timers.arm("b", Instant(20));
        timers.arm("a", Instant(30));
        timers.arm("c", Instant(25));
        timers.arm("a", Instant(10));
        timers.disarm("c");
        assert_eq!(timers.due(Instant(5)), None);
        assert_eq!(timers.due(Instant(30)), Some("a"));
        assert_eq!(timers.due(Instant(30)), Some("b"));
        assert_eq!(timers.due(Instant(30)), None);
    }

    #[test]
    fn the_descriptor_moves_forward_only() {
        let mut timers = Timers::new().expect("a timerfd");
        timers.arm(1, Instant(u64::MAX / 2));
        timers.set().expect("set");
        timers.arm(2, Instant(7));
        timers.set().expect("set");
        assert_eq!(timers.armed, Some(Instant(7)));
        timers.disarm(2);
        timers.set().expect("set");
        assert_eq!(timers.armed, Some(Instant(7)));
        timers.woke();
        timers.set().expect("set");
        assert_eq!(timers.armed, Some(Instant(u64::MAX / 2)));
    }
}

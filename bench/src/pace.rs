//! A steady pace: ticks at fixed times, whatever became of the ticks before.

use std::time::{Duration, Instant};

/// Ticks every so often since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begin: Instant,
    every: Duration,
}

impl Pace {
    /// The first tick is now.
    pub(crate) fn start(every: Duration) -> Self {
        Self { begin: Instant::now(), every }
    }

    /// Waits for a tick on this thread; returns its time, which may have passed.
    pub(crate) fn wait(&self, tick: u32) -> Instant {
        let at = self.begin + self.every * tick;
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        at
    }
}

/// Makes the sleeps of this thread end on time: the kernel may add 50 microseconds.
pub(crate) fn punctual() {
    // SAFETY: changes nothing but this thread's timer slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

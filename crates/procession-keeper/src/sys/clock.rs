//! The two clocks: one for deadlines, which nobody sets and which runs on in a suspended
//! machine, and one for people.

use std::time::{SystemTime, UNIX_EPOCH};

use procession_core::attempt::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`.
pub(crate) fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    Instant(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Wall clock, Unix microseconds.
pub(crate) fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

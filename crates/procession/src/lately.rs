//! When something was last met that is met again and again while it lasts: news once, and true
//! for a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was met this long ago is news when it is met again.
const RECENT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Lately(Mutex<Option<Instant>>);

impl Lately {
    /// It is met; returns whether that is news.
    pub fn met(&self) -> bool {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        before.is_none_or(|met| met.elapsed() >= RECENT)
    }

    /// Whether it was met lately.
    pub fn is_recent(&self) -> bool {
        self.age().is_some_and(|age| age < RECENT)
    }

    /// How long ago it was met; `None`: never.
    pub fn age(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|met| met.elapsed())
    }
}

//! For how long the dispatcher starts nothing, because the machine had no process, descriptor
//! or space to give.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing is started after a want of something.
const PAUSE: Duration = Duration::from_millis(200);

/// A want that is as old as this is over.
const RECENT: Duration = Duration::from_secs(10);

/// When the last want was felt.
#[derive(Debug, Default)]
pub struct Pressure(Mutex<Option<Instant>>);

impl Pressure {
    /// The machine had not what a start needs; returns whether that is news.
    pub fn felt(&self) -> bool {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        before.is_none_or(|felt| felt.elapsed() > RECENT)
    }

    /// How long to wait yet.
    pub fn left(&self) -> Option<Duration> {
        PAUSE.checked_sub(self.last()?.elapsed()).filter(|left| !left.is_zero())
    }

    /// Whether something was wanting lately.
    pub fn is_felt(&self) -> bool {
        self.last().is_some_and(|felt| felt.elapsed() < RECENT)
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

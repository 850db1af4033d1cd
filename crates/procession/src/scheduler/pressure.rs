//! For how long the dispatcher starts nothing, because the machine had no process, descriptor
//! or space to give.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing is started after a want of something.
const PAUSE: Duration = Duration::from_millis(200);

/// The pause in force.
#[derive(Debug, Default)]
pub struct Pressure(Mutex<Option<Instant>>);

impl Pressure {
    /// The machine had not what a start needs.
    pub fn felt(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
    }

    /// How long to wait yet.
    pub fn left(&self) -> Option<Duration> {
        let until = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

//! For how long the dispatcher starts nothing, because the machine had no process, descriptor
//! or space to give.

use std::time::Duration;

use crate::lately::Lately;

/// How long nothing is started after a want of something.
const PAUSE: Duration = Duration::from_millis(200);

/// When the last want was felt.
#[derive(Debug, Default)]
pub struct Pressure(Lately);

impl Pressure {
    /// The machine had not what a start needs; returns whether that is news.
    pub fn felt(&self) -> bool {
        self.0.met()
    }

    /// How long to wait yet.
    pub fn left(&self) -> Option<Duration> {
        PAUSE.checked_sub(self.0.age()?).filter(|left| !left.is_zero())
    }

    /// Whether something was wanting lately.
    pub fn is_felt(&self) -> bool {
        self.0.is_recent()
    }
}

//! Whether the disk has room for more jobs: set by `maintenance`, asked by the door.

use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by both.
#[derive(Debug, Default)]
pub struct Space(AtomicBool);

impl Space {
    /// Notes whether space is low; returns whether that is news.
    pub fn set_low(&self, low: bool) -> bool {
        self.0.swap(low, Ordering::Relaxed) != low
    }

    /// Whether no job should be taken.
    pub fn is_low(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

//! Whether the disk has room for more jobs: noted by whoever measures or writes, asked by the
//! door and by `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};

use procession_store::StoreError;

use crate::lately::Lately;

/// Shared by all of them.
#[derive(Debug, Default)]
pub struct Space {
    low: AtomicBool,
    full: Lately,
}

impl Space {
    /// Notes whether space is low; returns whether that is news.
    pub fn set_low(&self, low: bool) -> bool {
        self.low.swap(low, Ordering::Relaxed) != low
    }

    /// Whether no job should be taken.
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Notes why something was not written; returns whether that is worth a line in the log: a
    /// full disk is met many times a second, and by the log too.
    pub fn met(&self, error: &StoreError) -> bool {
        *error != StoreError::Full || self.full.met()
    }

    /// Whether something could not be written lately for want of space.
    pub fn is_full(&self) -> bool {
        self.full.is_recent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_news_once_and_other_failures_are_always() {
        let space = Space::default();
        let other = StoreError::Database("busy".into());
        assert!(space.met(&other) && space.met(&other) && !space.is_full());
        assert!(space.met(&StoreError::Full) && space.is_full());
        assert!(!space.met(&StoreError::Full) && space.met(&other));
        assert!(!space.is_low() && space.set_low(true) && !space.set_low(true));
    }
}

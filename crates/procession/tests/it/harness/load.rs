//! A load that goes on until it is told to end.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends it when dropped, also where the test fails: a scope waits for its threads, and the
/// test would hang instead.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

//! Waiting for a condition, with a bound. The only sleep of these tests.

use std::time::{Duration, Instant};

/// What nothing here should take, also on a busy machine.
pub const BOUND: Duration = Duration::from_secs(30);

const STEP: Duration = Duration::from_millis(5);

/// Returns once `condition` holds; panics with `what` when it does not within `bound`.
#[track_caller]
pub fn wait_for(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    wait_for_some(what, bound, || condition().then_some(()));
}

/// What `find` found; panics with `what` when it finds nothing within `bound`.
#[track_caller]
pub fn wait_for_some<T>(what: &str, bound: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        #[expect(clippy::disallowed_methods, reason = "between two looks at a condition, with a bound")]
        std::thread::sleep(STEP);
    }
}

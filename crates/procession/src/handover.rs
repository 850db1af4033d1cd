//! How far this server has given place to the next: asked by everything that serves clients.
//! When to begin is the keeper's to say (`way_out` does it); the store knows nothing of it.
//!
//! Three steps. Serving: as usual. Retiring: no new request is begun, those that change
//! something come to their end. Released: the store is the next server's; what is read here
//! goes on, everything else is carried there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// Once another server records what happens, nobody here is told: who waits looks this often.
const LOOK: Duration = Duration::from_millis(100);

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    #[default]
    Serving,
    Retiring,
    Released,
}

#[derive(Debug, Default)]
struct State {
    step: Step,
    /// Requests that may change something, being worked on.
    changing: usize,
}

/// Shared by all; only moves forward.
#[derive(Debug, Default)]
pub struct Handover {
    state: watch::Sender<State>,
}

/// A request that may change something. While it is counted the store is not given away.
#[derive(Debug)]
pub struct Change {
    handover: Arc<Handover>,
    counted: AtomicBool,
}

impl Handover {
    /// No request is begun any more.
    pub fn begin(&self) {
        self.advance(Step::Retiring);
    }

    /// The store is the next server's.
    pub fn release(&self) {
        self.advance(Step::Released);
    }

    /// Whether no request is begun any more.
    pub fn is_begun(&self) -> bool {
        self.state.borrow().step > Step::Serving
    }

    /// Returns once that is so.
    pub async fn begun(&self) {
        self.reached(Step::Retiring).await;
    }

    /// Returns once the store is the next server's.
    pub async fn released(&self) {
        self.reached(Step::Released).await;
    }

    /// For who waits for news: never while they come by themselves, then again and again.
    pub async fn next_look(&self) {
        self.begun().await;
        tokio::time::sleep(LOOK).await;
    }

    /// Begins a request that may change something; `None`: it is the next server's.
    pub fn enter(self: &Arc<Self>) -> Option<Change> {
        self.count().then(|| Change { handover: self.clone(), counted: AtomicBool::new(true) })
    }

    /// Returns once no request that may change something is worked on.
    pub async fn no_changes(&self) {
        // The sender is `self`, which outlives the wait.
        let _ = self.state.subscribe().wait_for(|state| state.changing == 0).await;
    }

    fn count(&self) -> bool {
        self.state.send_if_modified(|state| {
            let serving = state.step == Step::Serving;
            state.changing += usize::from(serving);
            serving
        })
    }

    fn advance(&self, step: Step) {
        self.state.send_if_modified(|state| {
            let forward = step > state.step;
            if forward {
                state.step = step;
            }
            forward
        });
    }

    async fn reached(&self, step: Step) {
        // The sender is `self`, which outlives the wait.
        let _ = self.state.subscribe().wait_for(|state| state.step >= step).await;
    }
}

impl Change {
    /// For now it changes nothing: nobody has to wait for it.
    pub fn rest(&self) {
        if self.counted.swap(false, Ordering::SeqCst) {
            self.handover.state.send_modify(|state| state.changing -= 1);
        }
    }

    /// It is about to change something after all; `false`: too late, the store is given away.
    pub fn resume(&self) -> bool {
        let may = self.handover.count();
        self.counted.store(may, Ordering::SeqCst);
        may
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn what_changes_something_holds_it_up_and_nothing_begins_after_it() {
        let handover = Arc::new(Handover::default());
        let change = handover.enter().expect("business as usual");
        let resting = handover.enter().expect("business as usual");
        resting.rest();
        handover.begin();
        assert!(handover.is_begun() && handover.enter().is_none());
        assert!(handover.no_changes().now_or_never().is_none());
        assert!(!resting.resume(), "too late");
        drop(resting);
        drop(change);
        assert!(handover.no_changes().now_or_never().is_some());
        assert!(handover.released().now_or_never().is_none());
        handover.release();
        assert!(handover.released().now_or_never().is_some());
    }

    #[test]
    fn who_rests_is_counted_again() {
        let handover = Arc::new(Handover::default());
        let change = handover.enter().expect("business as usual");
        change.rest();
        assert!(change.resume());
        assert!(handover.no_changes().now_or_never().is_none());
        change.rest();
        change.rest();
        drop(change);
        assert!(handover.no_changes().now_or_never().is_some());
    }
}

//! How far the server is on its way out. Asked by the keeper (a signal), watched by
//! admission, dispatch and readiness.

use tokio::sync::watch;

/// The way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Business as usual.
    Serving,
    /// Takes and starts nothing new; waits for what runs.
    Draining,
    /// Ends what runs.
    Ending,
}

/// Shared by all; only moves forward.
#[derive(Debug)]
pub struct Drain(watch::Sender<Stage>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }
}

impl Drain {
    /// Moves to `stage`, unless further already.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let forward = stage > *now;
            if forward {
                *now = stage;
            }
            forward
        });
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Whether nothing new is taken.
    pub fn is_draining(&self) -> bool {
        self.stage() > Stage::Serving
    }

    /// Returns once `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut news = self.0.subscribe();
        // The sender is `self`, which outlives the wait.
        let _ = news.wait_for(|now| *now >= stage).await;
    }
}

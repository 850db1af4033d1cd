//! How far the server is on its way out. Asked by the keeper (a signal, the command line, a
//! server that takes over), watched by admission, dispatch and readiness.

use procession_core::frame::Shutdown;
use tokio::sync::watch;

/// The way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Business as usual.
    Serving,
    /// Another server takes over: starts no job, and no request.
    Retiring,
    /// Takes and starts nothing new; waits for what runs.
    Draining,
    /// Ends what runs.
    Ending,
}

/// Shared by all; only moves forward.
#[derive(Debug)]
pub struct Drain {
    stage: watch::Sender<Stage>,
    asked: watch::Sender<Shutdown>,
    launches_over: watch::Sender<bool>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Serving),
            asked: watch::Sender::new(Shutdown::default()),
            launches_over: watch::Sender::new(false),
        }
    }
}

impl Drain {
    /// The operator asks for an end; what was said before holds where this says nothing else.
    pub fn ask(&self, shutdown: Shutdown) {
        self.asked.send_modify(|asked| {
            asked.timeout = shutdown.timeout.or(asked.timeout);
            asked.keep_jobs |= shutdown.keep_jobs;
        });
        self.advance(if shutdown.now { Stage::Ending } else { Stage::Draining });
    }

    /// How the operator wants it to end, now and whenever that changes.
    pub fn asked(&self) -> watch::Receiver<Shutdown> {
        self.asked.subscribe()
    }

    /// Moves to `stage`, unless further already.
    pub fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let forward = stage > *now;
            if forward {
                *now = stage;
            }
            forward
        });
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Whether nothing new is taken.
    pub fn is_draining(&self) -> bool {
        self.stage() >= Stage::Draining
    }

    /// Whether nothing new is started.
    pub fn starts_nothing(&self) -> bool {
        self.stage() > Stage::Serving
    }

    /// Returns once `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut news = self.stage.subscribe();
        // The sender is `self`, which outlives the wait.
        let _ = news.wait_for(|now| *now >= stage).await;
    }

    /// The dispatcher has launched all it claimed, and claims no more.
    pub fn launches_are_over(&self) {
        self.launches_over.send_replace(true);
    }

    /// Returns once that is so.
    pub async fn no_more_launches(&self) {
        let _ = self.launches_over.subscribe().wait_for(|over| *over).await;
    }
}

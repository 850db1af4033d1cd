//! Who waits for news of a job. A waiter registers *before* it asks the store, so that a
//! change between the two wakes it; a job nobody watches costs one look at a counter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use procession_core::id::JobId;
use tokio::sync::{broadcast, watch};

/// News of jobs; shared by all.
#[derive(Debug)]
pub struct Board {
    watched: Mutex<HashMap<JobId, watch::Sender<u64>>>,
    count: AtomicUsize,
    all: broadcast::Sender<JobId>,
}

/// News kept for a watcher of all jobs that is slow to take them.
const BACKLOG: usize = 4096;

impl Default for Board {
    fn default() -> Self {
        Self { watched: Mutex::default(), count: AtomicUsize::new(0), all: broadcast::Sender::new(BACKLOG) }
    }
}

/// One waiter's place; leaves the board when dropped.
#[derive(Debug)]
pub struct Watcher {
    board: Arc<Board>,
    job: JobId,
    news: watch::Receiver<u64>,
}

impl Board {
    /// Registers for news of `job` from now on.
    pub fn watch(self: &Arc<Self>, job: JobId) -> Watcher {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match watched.get(&job) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, news) = watch::channel(0);
                watched.insert(job, sender);
                self.count.store(watched.len(), Ordering::SeqCst);
                news
            }
        };
        Watcher { board: self.clone(), job, news }
    }

    /// Which jobs change their state from now on.
    pub fn watch_all(&self) -> broadcast::Receiver<JobId> {
        self.all.subscribe()
    }

    /// The state of `job` changed.
    pub fn tell(&self, job: JobId) {
        if self.all.receiver_count() > 0 {
            // The last receiver may have gone this instant.
            let _ = self.all.send(job);
        }
        self.tell_its_own(job);
    }

    /// Something of `job` changed that only those want to know who watch this job: output,
    /// progress.
    pub fn tell_its_own(&self, job: JobId) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&job) {
            sender.send_modify(|version| *version += 1);
        }
    }
}

impl Watcher {
    /// Returns at the next change since the last call (or since the registration).
    pub async fn changed(&mut self) {
        // The sender lives on the board as long as this watcher does.
        let _ = self.news.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.board.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Our own receiver is still counted.
        if watched.get(&self.job).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.job);
            self.board.count.store(watched.len(), Ordering::SeqCst);
        }
    }
}

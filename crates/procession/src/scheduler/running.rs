//! The attempts that hold a slot of this node: what HTTP shows of a running job, and what
//! the dispatcher counts. Facts only; the store has the truth, the keeper the processes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use procession_core::frame::{OutputNotice, Started};
use procession_core::id::{AttemptKey, JobId};
use procession_core::job::{Lease, Progress};
use procession_core::outcome::CancelledBy;
use procession_core::record::Containment;
use tokio::sync::watch;

use crate::board::Board;

/// All running attempts.
#[derive(Debug)]
pub struct Running {
    state: Mutex<State>,
    board: Arc<Board>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    attempts: HashMap<JobId, Live>,
    /// Attempts whose launch is on its way to the keeper.
    launched: HashSet<AttemptKey>,
    /// Asked to stop before that: the keeper would not know yet whom.
    stops: HashMap<AttemptKey, Stop>,
}

/// A request that an attempt end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Whose.
    pub by: CancelledBy,
    /// KILL at once.
    pub now: bool,
}

/// One of them, as far as known.
#[derive(Clone, Debug)]
pub struct Live {
    /// The right to run it.
    pub lease: Lease,
    /// Its scratch folder's number, once lent.
    pub scratch: Option<u32>,
    /// Kept bytes of each stream: shapes the files.
    pub output_limit: u64,
    /// Ends this long after its start.
    pub timeout: Option<Duration>,
    /// The leader's process id, once it runs.
    pub pid: Option<u32>,
    /// When the program began.
    pub started_at: Option<Timestamp>,
    /// How its tree is held together.
    pub containment: Option<Containment>,
    /// Bytes of stdout that have reached its file.
    pub stdout: u64,
    /// Bytes of stderr that have reached its file.
    pub stderr: u64,
    /// When output was last seen.
    pub last_output_at: Option<Timestamp>,
    /// What it last said of itself.
    pub progress: Option<Progress>,
}

impl Live {
    /// A claim that is being started.
    pub fn new(lease: Lease, output_limit: u64, timeout: Option<Duration>) -> Self {
        Self {
            lease,
            scratch: None,
            output_limit,
            timeout,
            pid: None,
            started_at: None,
            containment: None,
            stdout: 0,
            stderr: 0,
            last_output_at: None,
            progress: None,
        }
    }

    /// When it is ended by time-out.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.started_at?.checked_add(self.timeout?).ok()
    }
}

impl Running {
    /// None yet.
    pub fn new(board: Arc<Board>) -> Self {
        Self { state: Mutex::default(), board, count: watch::Sender::new(0) }
    }

    /// How many slots are held.
    pub fn len(&self) -> usize {
        self.lock().attempts.len()
    }

    /// Returns once no slot is held.
    pub async fn none_left(&self) {
        // The sender is part of `self`, which outlives the wait.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// What is known of a job's attempt.
    pub fn get(&self, job: JobId) -> Option<Live> {
        self.lock().attempts.get(&job).cloned()
    }

    /// The leases of all.
    pub fn leases(&self) -> Vec<Lease> {
        self.lock().attempts.values().map(|live| live.lease).collect()
    }

    /// An attempt takes a slot.
    pub fn insert(&self, live: Live) {
        let job = live.lease.job;
        let mut state = self.lock();
        state.attempts.insert(job, live);
        self.count.send_replace(state.attempts.len());
        drop(state);
        self.board.tell(job);
    }

    /// The attempt was lent a scratch folder.
    pub fn lent(&self, key: AttemptKey, scratch: u32) {
        self.change(key, |live| live.scratch = Some(scratch));
    }

    /// The attempt's launch is on its way; returns a request to stop it that came before.
    pub fn launched(&self, key: AttemptKey) -> Option<Stop> {
        let mut state = self.lock();
        state.launched.insert(key);
        state.stops.remove(&key)
    }

    /// Whether the keeper can be told to stop the attempt now; if its launch is not on its
    /// way yet, the request is kept for [`Running::launched`].
    pub fn may_stop(&self, key: AttemptKey, stop: Stop) -> bool {
        let mut state = self.lock();
        let known = state.launched.contains(&key);
        // One that has ended meanwhile needs no stop, and would never take it.
        if !known && state.attempts.get(&key.job).is_none_or(|live| live.lease.key() == key) {
            state.stops.insert(key, stop);
        }
        known
    }

    /// Its end is recorded: the slot is free.
    pub fn remove(&self, key: AttemptKey) {
        let mut state = self.lock();
        state.launched.remove(&key);
        state.stops.remove(&key);
        if state.attempts.get(&key.job).is_some_and(|live| live.lease.key() == key) {
            state.attempts.remove(&key.job);
            self.count.send_replace(state.attempts.len());
        }
        drop(state);
        self.board.tell(key.job);
    }

    /// The program runs.
    pub fn started(&self, started: &Started) {
        self.change(started.key, |live| {
            live.pid = Some(started.pid);
            live.started_at = Timestamp::from_microsecond(started.started_us).ok();
            live.containment = Some(started.containment);
        });
    }

    /// More output can be read.
    pub fn output(&self, notice: OutputNotice, now: Timestamp) {
        self.change(notice.key, |live| {
            live.stdout = notice.stdout;
            live.stderr = notice.stderr;
            live.last_output_at = Some(now);
        });
    }

    /// The attempt in this scratch folder said how far it is.
    pub fn progress(&self, scratch: u32, progress: Progress) {
        let holder = |state: &State| {
            state.attempts.values().find(|l| l.scratch == Some(scratch)).map(|l| l.lease.key())
        };
        let key = holder(&self.lock());
        if let Some(key) = key {
            self.change(key, |live| live.progress = Some(progress));
        }
    }

    fn change(&self, key: AttemptKey, change: impl FnOnce(&mut Live)) {
        let mut state = self.lock();
        let Some(live) = state.attempts.get_mut(&key.job).filter(|live| live.lease.key() == key) else {
            return;
        };
        change(live);
        drop(state);
        self.board.tell_its_own(key.job);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

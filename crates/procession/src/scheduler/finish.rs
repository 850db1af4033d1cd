//! Records how attempts ended. The order is the promise: the end is durable first, then
//! the keeper may forget it, then the slot is free and whoever waits is told.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use procession_core::frame::ToKeeper;
use procession_core::job::{Finished, Lease, OutputSummary, StreamSummary, Then};
use procession_core::outcome::Outcome;
use procession_core::record::{Ending, ExitRecord, StreamRecord, Usage};
use procession_core::retry::{History, Next, RetryPolicy, deferral, next};
use procession_core::task::{ResultSource, Task};
use procession_keeper::fault;
use procession_store::{Applied, Change, StoreError};

use super::Scheduler;
use super::collect::{Collected, Destination, collect, is_want, judge};
use super::note::Note;
use super::scratch::Left;
use crate::data::Stream;
use crate::random;
use crate::removal::remove;

/// Between tries to record an end while the store fails.
const AGAIN: Duration = Duration::from_millis(250);

/// How long a job waits whose attempt could not be made ready.
const WAIT: Duration = Duration::from_millis(500);

/// Whether the store has an attempt's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Yes,
    /// The server stops while the store fails.
    NotYet,
}

/// By what another attempt follows one that is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub retry: RetryPolicy,
    pub history: History,
    pub queue_timeout: Option<Duration>,
}

impl Terms {
    /// Those of a task for a job that has this behind it.
    pub(super) fn of(task: &Task, history: History) -> Self {
        Self { retry: task.retry.clone(), history, queue_timeout: task.queue_timeout }
    }

    /// The end of an attempt, and what becomes of its job.
    fn apply(&self, finished: Finished, salt: u64) -> Finished {
        match next(finished.outcome.clone(), &self.retry, self.history, salt) {
            Next::Finish(outcome) => Finished { outcome, ..finished },
            Next::Retry(outcome, pause) => {
                let at = finished.finished_at.checked_add(pause).unwrap_or(finished.finished_at);
                let expires_at = self.queue_timeout.and_then(|wait| at.checked_add(wait).ok());
                Finished { outcome, then: Then::Retry { at, expires_at }, ..finished }
            }
        }
    }
}

impl Scheduler {
    /// The keeper says an attempt is over.
    pub(super) async fn attempt_over(self: Arc<Self>, record: ExitRecord) {
        let key = record.key;
        let Some(note) = Note::from_bytes(&record.cookie) else {
            tracing::error!(job = %key.job, "an attempt's note cannot be read; its record is kept");
            return;
        };
        let lease = note.lease(key);
        let left = self.scratch.left_in(note.scratch);
        let record_leaked = record.leaked;
        let salt = key.fence.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let recorded = match deferral(&record, note.deferred, salt) {
            Some(wait) => self.defer(lease, wait).await,
            None => match self.collect(&note, &record, left).await {
                Some(collected) => {
                    let outcome = judge(note.outcome_of(&record), &note.result, &collected);
                    self.meters.finished(&note.task);
                    let finished = finished(lease, outcome, &note, record, collected);
                    self.store_end(note.terms().apply(finished, salt)).await
                }
                None => Recorded::NotYet,
            },
        };
        if recorded == Recorded::NotYet {
            // The keeper keeps its record, the folder its files: the next server goes on.
            return;
        }
        fault::point("ack.before_send");
        self.keeper.send(&ToKeeper::Ack { key });
        fault::point("ack.after_send");
        // What an attempt left running may still use its folder.
        if note.left_something_running(record_leaked) {
            self.scratch.abandon(note.scratch);
        } else {
            self.give_back(note.scratch, left);
        }
        self.leave(lease);
    }

    /// Records an end that needs nothing from the keeper, and frees the slot.
    pub(super) async fn record_end(self: &Arc<Self>, finished: Finished, terms: Terms) -> Recorded {
        let lease = finished.lease;
        let salt = u64::from_be_bytes(random::bytes());
        let recorded = self.store_end(terms.apply(finished, salt)).await;
        if recorded == Recorded::Yes {
            self.leave(lease);
        }
        recorded
    }

    /// Gives back a claim whose attempt was never seen.
    pub(super) async fn give_back_claim(self: &Arc<Self>, lease: Lease) {
        if let Some(change) = self.until_stored(|| self.store.release(lease, None)).await {
            self.follow(change.effects, false);
            self.leave(lease);
        }
    }

    /// Puts off an attempt that could not be made ready for want of something, and frees the slot.
    pub(super) async fn put_off(self: &Arc<Self>, lease: Lease) {
        if self.defer(lease, WAIT).await == Recorded::Yes {
            self.leave(lease);
        }
    }

    async fn store_end(self: &Arc<Self>, finished: Finished) -> Recorded {
        let lease = finished.lease;
        // Only what says nothing of the program's own words.
        let outcome = &finished.outcome;
        let (state, code, signal) = (outcome.state().name(), outcome.exit_code(), outcome.signal());
        tracing::debug!(job = %lease.job, attempt = lease.attempt.0, state, code, signal, "an attempt is over");
        let finish = || async {
            fault::check("finish.before_commit").map_err(|e| StoreError::Database(e.to_string()))?;
            self.store.finish(finished.clone()).await
        };
        let change = self.until_stored(finish).await;
        fault::point("finish.after_commit");
        let Some(Change { applied, effects }) = change else { return Recorded::NotYet };
        if applied == Applied::Stale {
            tracing::warn!(job = %lease.job, fence = lease.fence.0, "an end came too late and changed nothing");
        }
        self.follow(effects, false);
        Recorded::Yes
    }

    async fn defer(self: &Arc<Self>, lease: Lease, wait: Duration) -> Recorded {
        let at = Timestamp::now() + wait;
        if self.pressure.felt() {
            tracing::warn!(job = %lease.job, ?wait, "nothing to start it with; the job waits");
        }
        let Some(change) = self.until_stored(|| self.store.release(lease, Some(at))).await else {
            return Recorded::NotYet;
        };
        self.follow(change.effects, false);
        Recorded::Yes
    }

    /// Tries until the store takes it: while a disk is full, ends wait here and in the
    /// keeper's journal. `None`: the server stops first, a later one records it.
    pub async fn until_stored<T, F>(&self, mut write: impl FnMut() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match write().await {
                Ok(done) => return Some(done),
                Err(error @ StoreError::Disk(_)) => self.background.give_up(&error),
                Err(error) if self.space.met(&error) => {
                    tracing::error!(%error, "what happened cannot be recorded yet");
                }
                Err(_) => {}
            }
            if !self.background.goes_on_after(AGAIN).await {
                return None;
            }
        }
    }

    fn leave(&self, lease: Lease) {
        self.running.remove(lease.key());
        self.wake.notify_one();
    }

    async fn collect(self: &Arc<Self>, note: &Note, record: &ExitRecord, left: Left) -> Option<Collected> {
        let nothing = left == Left::Nothing && note.result.source == ResultSource::File;
        if nothing || matches!(record.ending, Ending::NotStarted { .. }) {
            return Some(Collected::default());
        }
        let scratch = self.scratch.named(note.scratch);
        let (data, job, attempt) = (self.data.clone(), record.key.job, note.attempt.0);
        let (rule, stdout) = (note.result.clone(), record.stdout.clone());
        let stdout_limit = note.output_limit;
        let work = Arc::new(move || -> io::Result<Collected> {
            let folder = data.attempt(job, attempt);
            let stdout_file = data.output(job, attempt, Stream::Stdout);
            let to = Destination { folder: &folder, stdout: &stdout_file, stdout_limit };
            collect(&scratch, &rule, &stdout, &to)
        });
        loop {
            let once = work.clone();
            match self.background.blocking(move || once()).await {
                Ok(collected) => return Some(collected),
                Err(error) if is_want(&error) => {
                    tracing::warn!(%job, %error, "what the job left cannot be read yet");
                }
                Err(error) => {
                    tracing::error!(%job, %error, "the job's result cannot be kept");
                    let bad_result = Some(format!("it cannot be kept: {error}"));
                    return Some(Collected { bad_result, ..Collected::default() });
                }
            }
            if !self.background.goes_on_after(AGAIN).await {
                return None;
            }
        }
    }

    /// Lends a scratch folder again, or removes it without holding anybody up.
    pub(super) fn give_back(&self, number: u32, left: Left) {
        let Some(path) = self.scratch.give_back(number, left) else { return };
        self.remove_in_time(vec![path]);
    }

    /// Removes what is of no more use, without holding anybody up.
    pub fn remove_in_time(&self, paths: Vec<PathBuf>) {
        let background = self.background.clone();
        self.background.chore(async move {
            for path in paths {
                let shown = path.display().to_string();
                if let Err(error) = background.blocking(move || remove(&path)).await {
                    tracing::warn!(%error, path = shown, "something stays behind");
                }
            }
        });
    }
}

fn finished(
    lease: Lease,
    outcome: Outcome,
    note: &Note,
    record: ExitRecord,
    collected: Collected,
) -> Finished {
    let ran = !matches!(record.ending, Ending::NotStarted { .. });
    let time = |us| Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH);
    Finished {
        lease,
        outcome,
        then: Then::End,
        started_at: ran.then(|| time(record.started_us)),
        finished_at: time(record.finished_us),
        run_ms: ran.then_some(record.run_us / 1000),
        // Nobody was told what one used that nobody reaped.
        usage: Some(record.usage).filter(|usage| ran && *usage != Usage::default()),
        output: OutputSummary {
            stdout: summary(record.stdout),
            stderr: summary(record.stderr),
            limit: note.output_limit,
        },
        result: collected.result,
        artifacts: collected.artifacts,
        progress: collected.progress,
        containment: ran.then_some(record.containment),
        leaked: record.leaked,
        config_revision: note.revision.clone(),
    }
}

fn summary(stream: StreamRecord) -> StreamSummary {
    StreamSummary { total: stream.total, written: stream.written, place: stream.place, tail: stream.tail }
}

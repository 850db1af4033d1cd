//! The contract every database keeps: semantic verbs, each one whole transaction, no
//! handle escapes. Writes are idempotent and, where they are about an attempt, fenced.
//! What is durable when a verb returns stands in its doc.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use procession_core::admission::Full;
use procession_core::id::{ClaimId, JobId, TaskName};
use procession_core::job::{AttemptRecord, Claimed, Finished, JobRecord, Lease, NewJob, StoredPayload};
use procession_core::limits::Limit;
use procession_core::outcome::CancelledBy;
use procession_core::placeholder::RequestValues;
use procession_core::record::Containment;
use procession_core::state::JobState;

use crate::error::StoreError;

/// The durable queue.
#[async_trait]
pub trait Store: Send + Sync {
    /// Admits and records a job in one transaction; replays come first, then admission
    /// ([`procession_core::admission::decide`] on counts read in this transaction).
    ///
    /// Durable (fsynced) when it returns [`Submitted::New`].
    async fn submit(&self, job: NewJob) -> Result<Submitted, StoreError>;

    /// Gives slots to up to `claim.free` queued jobs: highest priority first, then `run_at`,
    /// then id within a task; tasks in turn, so none starves another; tasks that are paused
    /// or full cost one skipped row. Jobs whose `run_at` has come are promoted first, jobs
    /// whose `expires_at` has passed are not given out. Each claim raises the job's attempt
    /// and takes a new fence.
    ///
    /// Durable when it returns: what the keeper is told was written before.
    async fn claim(&self, claim: Claim) -> Result<ClaimedBatch, StoreError>;

    /// Every job this node holds a slot for: after a restart they are compared with what
    /// the keeper owns. Second value: the boot id of their claim.
    async fn claimed_by(&self, node: &str) -> Result<Vec<(Claimed, [u8; 16])>, StoreError>;

    /// Notes that the program runs. Not durable by itself: the keeper knows too.
    async fn started(
        &self,
        lease: Lease,
        at: Timestamp,
        containment: Containment,
    ) -> Result<Applied, StoreError>;

    /// Records how an attempt ended and ends its job.
    ///
    /// Durable when it returns; [`Applied::Already`] where this very end was recorded
    /// before, [`Applied::Stale`] where another claim came since.
    async fn finish(&self, finished: Finished) -> Result<Applied, StoreError>;

    /// Takes back a claim whose attempt provably never started: the attempt number and
    /// the slot return. With `Some(at)` the job waits until then (spawn pressure) and its
    /// deferrals count one more; with `None` it is queued at once. A job whose end was asked
    /// for meanwhile does not come back: it ends as cancelled, without an attempt.
    async fn release(&self, lease: Lease, not_before: Option<Timestamp>) -> Result<Applied, StoreError>;

    /// Ends a job that does not run yet, or marks a running one (`cancel_requested_at`);
    /// the caller then tells the keeper. Durable when it returns.
    async fn cancel(&self, job: JobId, by: CancelledBy, at: Timestamp) -> Result<Cancelled, StoreError>;

    /// Ends waiting jobs whose `expires_at` has passed as `cancelled{expired}`, at most
    /// 1,000 a call; returns them.
    async fn expire(&self, now: Timestamp) -> Result<Vec<JobId>, StoreError>;

    /// When the next scheduled job may be promoted or the next waiting one expires.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Makes known which tasks there are; rows of tasks that left the config stay.
    async fn put_tasks(&self, tasks: Vec<TaskName>) -> Result<(), StoreError>;

    /// Stops or resumes claims of a task; survives restarts. `false`: no such task.
    async fn pause(&self, task: &TaskName, paused: bool) -> Result<bool, StoreError>;

    /// One job.
    async fn get(&self, job: JobId) -> Result<Option<JobRecord>, StoreError>;

    /// Its body and the request values kept with it.
    async fn payload(&self, job: JobId) -> Result<Option<(StoredPayload, RequestValues)>, StoreError>;

    /// Its attempts, first to last.
    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError>;

    /// A page, newest first. Records come without output tails and results.
    async fn list(&self, query: Query) -> Result<Vec<JobRecord>, StoreError>;

    /// Ids that end with these hexadecimal digits (hyphens left out), at most `most`;
    /// newest first.
    async fn ids_ending(&self, suffix: &str, most: usize) -> Result<Vec<JobId>, StoreError>;

    /// How many jobs of its task are ahead of a queued job; `None`: it is not queued.
    async fn position(&self, job: JobId) -> Result<Option<u64>, StoreError>;

    /// Removes a finished job and everything the store keeps of it. Files are the caller's.
    async fn delete(&self, job: JobId) -> Result<Deleted, StoreError>;

    /// Removes up to `most` jobs that finished before `before`; returns them, so that the
    /// caller removes their files.
    async fn prune(&self, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError>;

    /// Counts of every known task, since the store was made.
    async fn stats(&self) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError>;

    /// Whether writes reach the disk: a no-op transaction.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A new job, queued or scheduled.
    New,
    /// The same key and body came before, or this very job: that job.
    Replay(JobId),
    /// The same key came before with another body.
    Conflict(JobId),
    /// No room.
    Busy(Full),
}

/// A dispatcher's question.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who asks.
    pub node: String,
    /// The kernel's boot id: running rows of another boot are lost.
    pub boot_id: [u8; 16],
    /// The most jobs wanted: free slots.
    pub free: usize,
    /// Slots per task at once; a task that is absent gets no job.
    pub tasks: BTreeMap<TaskName, Limit>,
    /// Wall clock.
    pub now: Timestamp,
    /// Random; job n of the batch gets this with n added to its last four bytes.
    pub claim_id: ClaimId,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimedBatch {
    /// The jobs, each with its lease.
    pub jobs: Vec<Claimed>,
    /// When to ask again though nothing was submitted or finished: the next scheduled job.
    pub next_due: Option<Timestamp>,
}

/// What a fenced write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the job.
    Applied,
    /// The same was recorded before.
    Already,
    /// The lease is not the job's any more; nothing changed.
    Stale,
}

/// What a cancellation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// No such job.
    Unknown,
    /// It did not run yet and is over now.
    Ended,
    /// It runs: the keeper has to be told. The lease says which attempt.
    Running(Lease),
    /// It was over before.
    AlreadyOver,
}

/// What a deletion met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// Gone.
    Deleted,
    /// No such job.
    Unknown,
    /// It is not over.
    Unfinished,
}

/// Which jobs a list is of; all conditions hold together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Of this task.
    pub task: Option<TaskName>,
    /// In one of these states; empty: any.
    pub states: Vec<JobState>,
    /// Children of this job.
    pub parent: Option<JobId>,
    /// In this lane.
    pub lane: Option<String>,
    /// With these labels.
    pub labels: BTreeMap<String, String>,
    /// Submitted at or after. Ids are made at most a second before the job is submitted.
    pub since: Option<Timestamp>,
    /// Older than this job (the last of the page before).
    pub before: Option<JobId>,
    /// At most so many.
    pub limit: usize,
}

/// How many jobs a task has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// Held slots now.
    pub running: u64,
    /// Waiting for a slot or their time now.
    pub queued: u64,
    /// Over, whatever the end.
    pub finished: u64,
    /// Of these, not succeeded.
    pub failed: u64,
    /// Claims are stopped.
    pub paused: bool,
}

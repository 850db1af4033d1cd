//! What the model knows: every job with all that happened to it, every task that was named.

use std::collections::BTreeMap;

use jiff::Timestamp;
use procession_core::id::{JobId, TaskName};
use procession_core::job::{
    Artifact, AttemptRecord, Claimed, JobRecord, Lease, NewJob, Progress, ResultSummary, StoredPayload,
};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::record::Containment;
use procession_core::state::{JobState, Move};

use crate::error::StoreError;

/// Everything.
#[derive(Default)]
pub(super) struct Queue {
    pub jobs: BTreeMap<JobId, Job>,
    pub tasks: BTreeMap<TaskName, Task>,
    /// Of the last claim.
    pub fence: u64,
    /// The task served last.
    pub turn: Option<TaskName>,
    /// The limits of the last claim.
    pub asked: Option<BTreeMap<TaskName, Limit>>,
}

/// A task: what of it cannot be counted from the jobs that are there.
#[derive(Default)]
pub(super) struct Task {
    pub paused: bool,
    pub finished: u64,
    pub failed: u64,
}

/// A job and its history.
pub(super) struct Job {
    pub new: NewJob,
    pub state: JobState,
    /// Its place in the queue, or when it enters it.
    pub run_at: Timestamp,
    pub attempt: u32,
    pub deferred: u32,
    /// The last claim; kept after a release.
    pub claim: Option<Held>,
    pub started: Option<(Timestamp, Containment)>,
    pub cancel: Option<(Timestamp, CancelledBy)>,
    /// Those that are over, each with the lease it ran under.
    pub attempts: Vec<(Lease, AttemptRecord)>,
    pub end: Option<End>,
}

/// A claim.
#[derive(Clone)]
pub(super) struct Held {
    pub lease: Lease,
    pub node: String,
    pub boot_id: [u8; 16],
    pub claimed_at: Timestamp,
}

/// How a job ended.
pub(super) struct End {
    pub outcome: Outcome,
    pub finished_at: Timestamp,
    pub cancel_at: Option<Timestamp>,
    pub result: ResultSummary,
    pub artifacts: Vec<Artifact>,
    pub progress: Option<Progress>,
}

impl Queue {
    /// The jobs of a task.
    pub(super) fn of<'a>(&'a self, task: &'a TaskName) -> impl Iterator<Item = &'a Job> {
        self.jobs.values().filter(move |job| job.new.task == *task)
    }

    /// How many slots a task holds.
    pub(super) fn running(&self, task: &TaskName) -> u64 {
        self.of(task).filter(|job| job.state == JobState::Running).count() as u64
    }

    /// The job that runs under this lease.
    pub(super) fn leased(&mut self, lease: Lease) -> Option<&mut Job> {
        let job = self.jobs.get_mut(&lease.job)?;
        (job.state == JobState::Running && job.holds(lease)).then_some(job)
    }

    /// Ends a job without an attempt that ended.
    pub(super) fn end(&mut self, id: JobId, by: CancelledBy, at: Timestamp) -> Result<(), StoreError> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        job.step(Move::Finish(JobState::Cancelled))?;
        job.end = Some(End {
            outcome: Outcome::cancelled(by),
            finished_at: at,
            cancel_at: job.cancel.map(|(at, _)| at),
            result: ResultSummary::None,
            artifacts: vec![],
            progress: None,
        });
        let task = self.tasks.entry(job.new.task.clone()).or_default();
        task.finished += 1;
        task.failed += 1;
        Ok(())
    }
}

impl Job {
    pub(super) fn step(&mut self, what: Move) -> Result<(), StoreError> {
        self.state = self.state.after(what).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(())
    }

    pub(super) fn holds(&self, lease: Lease) -> bool {
        let held = self.claim.as_ref().map(|held| held.lease);
        held.is_some_and(|held| (held.fence, held.claim_id) == (lease.fence, lease.claim_id))
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.state, JobState::Scheduled | JobState::Queued)
    }

    /// Whether its time to wait is over.
    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.new.expires_at.is_some_and(|at| at <= now)
    }

    /// Its place in the queue of its task: smaller is sooner.
    pub(super) fn place(&self) -> (i32, Timestamp, JobId) {
        (-self.new.priority, self.run_at, self.new.id)
    }

    pub(super) fn claimed(&self, lease: Lease) -> Claimed {
        Claimed {
            lease,
            task: self.new.task.clone(),
            payload: self.new.payload.clone(),
            request: self.new.request.clone(),
            submitted_at: self.new.submitted_at,
            index: None,
            parent: None,
            deferred: self.deferred,
            cancel_requested: self.cancel.is_some(),
        }
    }

    pub(super) fn record(&self) -> JobRecord {
        let last = self.attempts.iter().map(|(_, last)| last).find(|last| last.attempt == self.attempt);
        let held = self.claim.as_ref().filter(|_| self.state == JobState::Running);
        let end = self.end.as_ref();
        let started = self.started.filter(|_| self.state == JobState::Running);
        JobRecord {
            id: self.new.id,
            task: self.new.task.clone(),
            state: self.state,
            attempt: self.attempt,
            max_attempts: 1,
            outcome: end.map(|end| end.outcome.clone()),
            submitted_at: self.new.submitted_at,
            run_at: if self.state == JobState::Scheduled { Some(self.run_at) } else { self.new.run_at },
            expires_at: self.new.expires_at,
            started_at: last.and_then(|last| last.started_at).or(started.map(|(at, _)| at)),
            finished_at: end.map(|end| end.finished_at),
            run_ms: last.and_then(|last| last.run_ms),
            cancel_requested_at: end.map_or(self.cancel.map(|(at, _)| at), |end| end.cancel_at),
            usage: last.and_then(|last| last.usage),
            output: last.and_then(|last| last.output.clone()),
            result: end.map(|end| end.result.clone()).unwrap_or_default(),
            artifacts: end.map(|end| end.artifacts.clone()).unwrap_or_default(),
            progress: end.and_then(|end| end.progress.clone()),
            parent: None,
            index: None,
            retry_of: self.new.retry_of,
            lane: None,
            labels: self.new.labels.clone(),
            priority: self.new.priority,
            submitted_by: self.new.submitted_by.clone(),
            node: last.map(|last| last.node.clone()).or(held.map(|held| held.node.clone())),
            config_revision: last.map_or(&self.new.config_revision, |last| &last.config_revision).clone(),
            containment: last.and_then(|last| last.containment).or(started.map(|(_, how)| how)),
            leaked: last.map_or(0, |last| last.leaked),
            payload_len: match &self.new.payload {
                StoredPayload::Inline(bytes) => bytes.len() as u64,
                StoredPayload::File { len } => *len,
            },
        }
    }
}

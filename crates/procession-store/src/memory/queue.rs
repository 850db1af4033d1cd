//! What the model knows: every job with all that happened to it, every task that was named.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use procession_core::api::ms_between;
use procession_core::family::{OnFailure, is_failure};
use procession_core::id::{JobId, TaskName};
use procession_core::job::{
    Artifact, AttemptRecord, Claimed, JobRecord, Lease, NewJob, Progress, ResultSummary, StoredPayload,
};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::record::Containment;
use procession_core::retry::History;
use procession_core::schedule::ScheduleName;
use procession_core::state::{JobState, Move};

use super::delivery::Outbox;
use super::family;
use crate::error::StoreError;
use crate::store::{Effects, Room};

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
    pub asked: Option<BTreeMap<TaskName, Room>>,
    /// What runs by the clock.
    pub schedules: BTreeMap<ScheduleName, Scheduled>,
    /// What is to follow the ends of jobs.
    pub outbox: Outbox,
}

/// A schedule as it stands.
#[derive(Default)]
pub(super) struct Scheduled {
    /// `None`: it was never named.
    pub rhythm: Option<String>,
    pub paused: bool,
    pub next_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub last_job: Option<JobId>,
}

/// A task: what of it cannot be counted from the jobs that are there.
#[derive(Default)]
pub(super) struct Task {
    pub paused: bool,
    /// See [`procession_core::rate`].
    pub paid_until: Option<Timestamp>,
    /// The lane and the family served last.
    pub turn: Option<Group>,
    pub finished: u64,
    pub failed: u64,
}

/// Jobs of a task that share a lane and a parent.
pub(super) type Group = (Option<String>, Option<JobId>);

/// Where a child stands among its kin.
#[derive(Clone, Copy)]
pub(super) struct Kin {
    pub parent: JobId,
    pub root: JobId,
    pub index: u32,
}

/// What a parent was told of its family.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub max_running: Limit,
    pub stops: bool,
    pub joins: bool,
    pub join_decides: bool,
    pub timeout: Option<Duration>,
}

/// A job and its history.
pub(super) struct Job {
    /// Its family's children are jobs of their own.
    pub new: NewJob,
    pub kin: Option<Kin>,
    pub state: JobState,
    /// Its place in the queue, or when it enters it.
    pub run_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// It waits for another attempt.
    pub retrying: bool,
    /// When its family began.
    pub begun_at: Option<Timestamp>,
    /// Its family's time was over.
    pub late: bool,
    /// Its children are over: it waits for a slot, or for its result.
    pub joins: bool,
    pub gathers: bool,
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

impl End {
    /// Nothing was left.
    pub(super) fn of(outcome: Outcome, finished_at: Timestamp) -> Self {
        let result = ResultSummary::None;
        Self { outcome, finished_at, cancel_at: None, result, artifacts: vec![], progress: None }
    }
}

impl Queue {
    /// The jobs of a task.
    pub(super) fn of<'a>(&'a self, task: &'a TaskName) -> impl Iterator<Item = &'a Job> {
        self.jobs.values().filter(move |job| job.new.task == *task)
    }

    /// The children of a job.
    pub(super) fn children(&self, parent: JobId) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.parent() == Some(parent))
    }

    /// Its children that failed.
    pub(super) fn failed(&self, parent: JobId) -> u64 {
        let ends = self.children(parent).filter_map(|child| child.end.as_ref());
        ends.filter(|end| is_failure(&end.outcome)).count() as u64
    }

    /// How many slots a task holds.
    pub(super) fn running(&self, task: &TaskName) -> u64 {
        self.of(task).filter(|job| job.state == JobState::Running).count() as u64
    }

    /// How much of its limit a task holds.
    pub(super) fn held(&self, task: &TaskName) -> u64 {
        self.of(task).filter(|job| job.is_busy()).count() as u64
    }

    /// The same of one of its lanes.
    pub(super) fn held_by_lane(&self, task: &TaskName, lane: &str) -> u64 {
        let of_lane = |job: &&Job| job.new.lane.as_deref() == Some(lane) && job.is_busy();
        self.of(task).filter(of_lane).count() as u64
    }

    /// The job that runs under this lease.
    pub(super) fn leased(&mut self, lease: Lease) -> Option<&mut Job> {
        let job = self.jobs.get_mut(&lease.job)?;
        (job.state == JobState::Running && job.holds(lease)).then_some(job)
    }

    /// Ends a job; what that means for its family is `family::child_over`'s.
    pub(super) fn end(&mut self, id: JobId, end: End, effects: &mut Effects) -> Result<(), StoreError> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        job.step(Move::Finish(end.outcome.state()))?;
        let (new, named) = (&job.new, (id, &job.new.task));
        effects.tells |= self.outbox.write(named, &new.follow_ups, &end.outcome, end.finished_at);
        job.end = Some(End { cancel_at: job.cancel.map(|(at, _)| at), ..end });
        let task = self.tasks.entry(job.new.task.clone()).or_default();
        task.finished += 1;
        task.failed += u64::from(job.state != JobState::Succeeded);
        Ok(())
    }

    /// What is stored of a job.
    pub(super) fn record(&self, job: &Job) -> JobRecord {
        let children = job.new.family.as_ref().map(|_| family::counts(self, job.new.id));
        JobRecord { children, ..job.record() }
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

    pub(super) fn parent(&self) -> Option<JobId> {
        self.kin.map(|kin| kin.parent)
    }

    /// Whether it has a place under the limits of its task.
    pub(super) fn is_busy(&self) -> bool {
        self.end.is_none() && (self.state == JobState::Running || self.begun_at.is_some())
    }

    /// Whether admission counts it.
    pub(super) fn is_counted(&self) -> bool {
        match self.state {
            JobState::Running | JobState::Waiting => true,
            JobState::Queued => self.kin.is_none(),
            JobState::Scheduled => self.kin.is_none() && !self.retrying,
            _ => false,
        }
    }

    /// Whether a lane or a family brings it to its slot.
    pub(super) fn is_queued(&self) -> bool {
        self.state == JobState::Queued && !self.joins
    }

    pub(super) fn group(&self) -> Group {
        (self.new.lane.clone(), self.parent())
    }

    /// What its family was told.
    pub(super) fn rules(&self) -> Rules {
        let family = self.new.family.as_ref();
        Rules {
            max_running: family.map_or(Limit::Unlimited, |family| family.max_running),
            stops: family.is_some_and(|family| family.on_failure == OnFailure::Stop),
            joins: family.is_some_and(|family| family.join),
            join_decides: family.is_some_and(|family| family.join_decides),
            timeout: family.and_then(|family| family.timeout),
        }
    }

    /// When its family's time is over.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.begun_at?.checked_add(self.rules().timeout?).ok()
    }

    pub(super) fn timed_out(&self) -> Outcome {
        let limit_ms = self.rules().timeout.map_or(0, |limit| limit.as_millis() as u64);
        Outcome::TimedOut { limit_ms, code: None, signal: None }
    }

    /// A family without a join is its own and only attempt.
    pub(super) fn shown_attempt(&self) -> u32 {
        if self.end.is_some() && self.begun_at.is_some() { self.attempt.max(1) } else { self.attempt }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.state, JobState::Scheduled | JobState::Queued)
    }

    /// Whether its time to wait is over.
    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
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
            index: self.kin.map(|kin| kin.index),
            parent: self.parent(),
            deferred: self.deferred,
            history: History::of(self.attempts.iter().filter_map(|(_, attempt)| attempt.outcome.as_ref())),
            begun_at: self.begun_at,
            cancel_requested: self.cancel.is_some(),
        }
    }

    fn record(&self) -> JobRecord {
        let last = self.attempts.iter().map(|(_, last)| last).find(|last| last.attempt == self.attempt);
        let held = self.claim.as_ref().filter(|_| self.state == JobState::Running);
        let end = self.end.as_ref();
        let started = self.started.filter(|_| self.state == JobState::Running);
        JobRecord {
            id: self.new.id,
            task: self.new.task.clone(),
            state: self.state,
            attempt: self.shown_attempt(),
            max_attempts: self.new.max_attempts,
            outcome: end.map(|end| end.outcome.clone()),
            submitted_at: self.new.submitted_at,
            run_at: if self.state == JobState::Scheduled { Some(self.run_at) } else { self.new.run_at },
            expires_at: if end.is_some() { self.new.expires_at } else { self.expires_at },
            started_at: self.begun_at.or(last.and_then(|last| last.started_at)).or(started.map(|(at, _)| at)),
            finished_at: end.map(|end| end.finished_at),
            run_ms: match (self.begun_at, end) {
                (Some(begun), Some(end)) => Some(ms_between(begun, end.finished_at)),
                _ => last.and_then(|last| last.run_ms),
            },
            cancel_requested_at: end.map_or(self.cancel.map(|(at, _)| at), |end| end.cancel_at),
            usage: last.and_then(|last| last.usage),
            output: last.and_then(|last| last.output.clone()),
            result: end.map(|end| end.result.clone()).unwrap_or_default(),
            artifacts: end.map(|end| end.artifacts.clone()).unwrap_or_default(),
            progress: end.and_then(|end| end.progress.clone()),
            parent: self.parent(),
            index: self.kin.map(|kin| kin.index),
            children: None,
            retry_of: self.new.retry_of,
            lane: self.new.lane.clone(),
            labels: self.new.labels.clone(),
            priority: self.new.priority,
            submitted_by: self.new.submitted_by.to_string(),
            node: last.map(|last| last.node.clone()).or(held.map(|held| held.node.clone())),
            config_revision: last.map_or(&*self.new.config_revision, |last| &last.config_revision).to_owned(),
            containment: last.and_then(|last| last.containment).or(started.map(|(_, how)| how)),
            leaked: last.map_or(0, |last| last.leaked),
            payload_len: match &self.new.payload {
                StoredPayload::Inline(bytes) => bytes.len() as u64,
                StoredPayload::File { len } => *len,
            },
        }
    }
}

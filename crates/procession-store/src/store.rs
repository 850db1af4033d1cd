//! The contract every database keeps: semantic verbs, each one whole transaction, no
//! handle escapes. Writes are idempotent and, where they are about an attempt, fenced.
//! What is durable when a verb returns stands in its doc.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use procession_core::admission::Full;
use procession_core::family::ChildEnd;
use procession_core::id::{ClaimId, JobId, TaskName};
use procession_core::job::{
    AttemptRecord, Claimed, FamilyEnd, Finished, JobRecord, Lease, NewJob, StoredPayload,
};
use procession_core::limits::Limit;
use procession_core::outbox::{Delivery, DeliveryId, Tried};
use procession_core::outcome::CancelledBy;
use procession_core::placeholder::RequestValues;
use procession_core::record::Containment;
use procession_core::schedule::{Overlap, ScheduleName};
use procession_core::state::JobState;

use crate::error::StoreError;

mod delivery;

pub use self::delivery::{DeliveryQuery, Due};

/// The durable queue.
#[async_trait]
pub trait Store: Send + Sync {
    /// Admits and records a job, with all below it, in one transaction; replays come first, then
    /// what its `unique` value says, then its rate and admission
    /// ([`procession_core::admission::decide`] on counts read in this transaction).
    ///
    /// Durable (fsynced) when it returns [`Submitted::New`].
    async fn submit(&self, job: NewJob) -> Result<Submitted, StoreError>;

    /// Gives slots to up to `claim.free` queued jobs: highest priority first, then `run_at`,
    /// then id within a lane of a task, and within a family; tasks in turn, in each its lanes and
    /// families in turn, so none starves another; what is paused or full costs at most one skipped
    /// row. Jobs whose `run_at` has come are promoted first, jobs whose `expires_at` has passed are
    /// not given out. Each claim raises the job's attempt and takes a new fence.
    ///
    /// Families begin under the limits of their task and take no slot; their joins come before
    /// everything else and ask for a slot alone (see [`procession_core::family`]).
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

    /// Records how an attempt ended, and ends its job or lets it wait for another attempt.
    ///
    /// Durable when it returns; [`Applied::Already`] where this very end was recorded
    /// before, [`Applied::Stale`] where another claim came since.
    async fn finish(&self, finished: Finished) -> Result<Change, StoreError>;

    /// Ends a family whose children are over and that no program joins. Its outcome is that of
    /// [`procession_core::family::outcome`], or whatever ended it. Durable when it returns.
    async fn gather(&self, end: FamilyEnd) -> Result<Change, StoreError>;

    /// Families that wait for [`Store::gather`], at most `most`.
    async fn to_gather(&self, most: usize) -> Result<Vec<JobId>, StoreError>;

    /// The children of a parent that are over, in order, behind this one; at most `most`. The ids of
    /// children sort as they stand.
    async fn child_ends(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<ChildEnd>, StoreError>;

    /// All children of a parent, in order, behind this one; at most `most`. Records come without
    /// output tails and results.
    async fn children(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError>;

    /// Takes back a claim whose attempt provably never started: the attempt number and
    /// the slot return. With `Some(at)` the job waits until then (spawn pressure) and its
    /// deferrals count one more; with `None` it is queued at once. A job whose end was asked
    /// for meanwhile does not come back: it ends as cancelled, without an attempt.
    async fn release(&self, lease: Lease, not_before: Option<Timestamp>) -> Result<Change, StoreError>;

    /// Ends a job that does not run yet, or marks one that does (`cancel_requested_at`), and all
    /// below it likewise; the caller then tells the keeper. Durable when it returns.
    async fn cancel(&self, job: JobId, by: CancelledBy, at: Timestamp) -> Result<Cancelled, StoreError>;

    /// Ends waiting jobs whose `expires_at` has passed as `cancelled{expired}`, and families whose
    /// time is over as `timed_out`, with all below them; at most 1,000 of each a call.
    async fn expire(&self, now: Timestamp) -> Result<Effects, StoreError>;

    /// When the next scheduled job may be promoted, the next waiting one expires or the next
    /// family's time is over.
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

    /// What a queued job waits behind; `None`: it is not queued.
    async fn standing(&self, job: JobId) -> Result<Option<Standing>, StoreError>;

    /// Removes a finished job, all below it, and everything the store keeps of them, also what was
    /// to follow. Files are the caller's.
    async fn delete(&self, job: JobId) -> Result<Deleted, StoreError>;

    /// Removes up to `most` jobs that finished before `before`, each with all below it, unless
    /// something that is to follow one of these ends is on its way; returns all of them, so that
    /// the caller removes their files.
    async fn prune(&self, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError>;

    /// What is due to follow the ends of jobs: of each host the oldest, at most `per_host`; hosts in
    /// turn, beginning with the one after `ask.after`, at most `hosts` of them. Taking changes
    /// nothing: one server delivers, and knows what it has under way.
    async fn take_deliveries(&self, ask: Due) -> Result<Vec<Delivery>, StoreError>;

    /// When the next delivery is due that was not at `after`.
    async fn next_delivery_due(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Records what came of a try of `delivery`, as it was taken; [`Applied::Stale`] where
    /// another was recorded since, or it was asked for once more. A receiver that wants no more is
    /// remembered, and what else is on its way to it is gone; one that takes one is asked again.
    ///
    /// Durable when it returns.
    async fn ack_delivery(&self, delivery: &Delivery, tried: Tried) -> Result<Applied, StoreError>;

    /// Records the job that follows another, and that `delivery`, as it was taken, has arrived
    /// with it, in one transaction. `None`: it is on its way no more. A job that cannot be
    /// recorded ([`Submitted::Conflict`], [`Submitted::Busy`]) is given up.
    ///
    /// Durable when it returns.
    async fn follow(
        &self,
        delivery: &Delivery,
        job: NewJob,
        at: Timestamp,
    ) -> Result<Option<Submitted>, StoreError>;

    /// Makes a delivery due at `at`, whatever became of it, as if it had not been tried. `false`:
    /// there is none. Durable when it returns.
    async fn repeat_delivery(&self, delivery: DeliveryId, at: Timestamp) -> Result<bool, StoreError>;

    /// One delivery.
    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// Whether something that is to follow the end of this job, or of any in its family, is on its
    /// way.
    async fn is_awaited(&self, job: JobId) -> Result<bool, StoreError>;

    /// A page of deliveries, newest first.
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError>;

    /// Counts of every known task, since the store was made.
    async fn stats(&self) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError>;

    /// Makes known which schedules there are, and nothing of those that are not named any more.
    /// One that is known already keeps what is due, unless its rhythm is another; a pause and what
    /// it last ran it keeps in any case.
    async fn put_schedules(&self, schedules: Vec<KnownSchedule>) -> Result<(), StoreError>;

    /// All schedules, by name.
    async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError>;

    /// A schedule's moment has come, or a person wants it to run: submits its job as
    /// [`Store::submit`] does and notes it, in one transaction. A moment passes in this
    /// transaction whether its job is submitted or not, and only if nobody let it pass before: it
    /// never runs twice. Durable when it returns.
    async fn fire(&self, fire: Fire) -> Result<Fired, StoreError>;

    /// Pauses a schedule, or lets it go on; survives restarts. What goes on already keeps what is
    /// due. `false`: no such schedule.
    async fn set_schedule(&self, name: &ScheduleName, state: ScheduleState) -> Result<bool, StoreError>;

    /// Whether writes reach the disk: a no-op transaction.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A new job, queued or scheduled; jobs whose place it took have ended, or are to be stopped.
    New(Effects),
    /// The same key and body came before, or this very job: that job.
    Replay(JobId),
    /// An unfinished job has its `unique` value: that job.
    Duplicate(JobId),
    /// The same key came before with another body.
    Conflict(JobId),
    /// No room.
    Busy(Full),
}

/// What a change brought about beside what it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Attempts whose end is wanted: the keeper has to be told.
    pub stops: Vec<(Lease, CancelledBy)>,
    /// Other jobs that are over now, or stand elsewhere.
    pub moved: Vec<JobId>,
    /// Families for [`Store::gather`].
    pub gather: Vec<JobId>,
    /// Something is to follow an end.
    pub tells: bool,
}

/// What a write about an attempt did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// To the attempt's job.
    pub applied: Applied,
    /// To others.
    pub effects: Effects,
}

impl Change {
    /// It did nothing else.
    pub fn alone(applied: Applied) -> Self {
        Self { applied, effects: Effects::default() }
    }
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
    pub tasks: BTreeMap<TaskName, Room>,
    /// Wall clock.
    pub now: Timestamp,
    /// Random; job n of the batch gets this with n added to its last four bytes.
    pub claim_id: ClaimId,
}

/// What a task may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub running: Limit,
    /// In one lane.
    pub per_lane: Limit,
}

/// Families that begin in one claim at most: they take no slot that would bound it.
pub const BEGUN_MOST: usize = 64;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimedBatch {
    /// The jobs, each with its lease.
    pub jobs: Vec<Claimed>,
    /// Families that have begun, at most [`BEGUN_MOST`]: more of them may be ready.
    pub begun: Vec<JobId>,
    /// What that brought about.
    pub effects: Effects,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// No such job.
    Unknown,
    /// It is over now.
    Ended(Effects),
    /// It, or something below it, runs.
    Asked(Effects),
    /// It was over before.
    AlreadyOver,
}

/// What a deletion met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// Gone: it, and what was below it.
    Deleted(Vec<JobId>),
    /// No such job.
    Unknown,
    /// It is not over.
    Unfinished,
    /// It goes with its family, which this job is the root of.
    OfFamily(JobId),
}

/// What a queued job waits behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Jobs of its lane and family ahead of it.
    pub ahead: u64,
    /// Slots its lane holds; `None`: it is in none.
    pub lane_running: Option<u64>,
    /// Its family.
    pub family: Option<FamilyStanding>,
    /// It waits to join what its children did.
    pub joins: bool,
}

/// How a child's family stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyStanding {
    /// The parent.
    pub parent: JobId,
    /// Whether it has begun.
    pub begun: bool,
    /// Its children that hold a slot, or have begun families of their own.
    pub running: u64,
    /// The most of these.
    pub limit: Limit,
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

/// A schedule as the config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// Another text where its moments are others.
    pub rhythm: String,
    /// What is due, where nothing is yet.
    pub first: Option<Timestamp>,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its name.
    pub name: ScheduleName,
    /// Its moments do not come.
    pub paused: bool,
    /// The moment that is due; `None`: there is none any more.
    pub next_at: Option<Timestamp>,
    /// When it last submitted a job.
    pub last_at: Option<Timestamp>,
    /// That job, which may be gone.
    pub last_job: Option<JobId>,
}

/// What a schedule is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleState {
    /// To wait.
    Paused,
    /// To go on.
    Open {
        /// The first moment from now; `None`: there is none any more.
        next: Option<Timestamp>,
    },
}

/// A run of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Fire {
    /// Its name.
    pub name: ScheduleName,
    /// Why now.
    pub occasion: Occasion,
    /// What its job before means, where that is not over.
    pub overlap: Overlap,
    /// What is submitted; `None`: the moment passes, and nothing runs.
    pub job: Option<NewJob>,
    /// Wall clock.
    pub at: Timestamp,
}

/// Why a schedule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Its moment has come.
    Moment {
        /// Which was due; where another is, somebody was faster.
        due: Timestamp,
        /// Which is due from now on.
        next: Option<Timestamp>,
    },
    /// A person wants it, also where it is paused.
    ByHand,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Its job was submitted.
    Submitted(Submitted),
    /// This job, the one before, is not over, and overlaps are to be skipped.
    Skipped(JobId),
    /// The moment has passed; there was no job to submit.
    Passed,
    /// The moment is not due any more, or the schedule is paused: nothing changed.
    Stale,
    /// No such schedule.
    Unknown,
}

impl Submitted {
    /// The job that is there now: the one submitted as `new`, or one in its place.
    pub fn job(&self, new: JobId) -> Option<JobId> {
        match self {
            Submitted::New(_) => Some(new),
            Submitted::Replay(job) | Submitted::Duplicate(job) => Some(*job),
            Submitted::Conflict(_) | Submitted::Busy(_) => None,
        }
    }
}

/// How many jobs a task has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// Held slots now.
    pub running: u64,
    /// Waiting for a slot or their time now.
    pub queued: u64,
    /// Families that have begun.
    pub families: u64,
    /// Over, whatever the end.
    pub finished: u64,
    /// Of these, not succeeded.
    pub failed: u64,
    /// Claims are stopped.
    pub paused: bool,
}

impl TaskCounts {
    /// Jobs that are not over.
    pub fn unfinished(&self) -> u64 {
        self.running + self.queued + self.families
    }
}

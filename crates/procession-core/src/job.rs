//! A job as store, scheduler and HTTP hand it to each other.

mod new;

pub use new::*;

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::family::Counts;
use crate::id::{AttemptKey, AttemptNumber, ClaimId, Fence, JobId, TaskName};
use crate::outcome::{CancelledBy, Outcome};
use crate::placeholder::RequestValues;
use crate::record::{Containment, OutputPlace, Usage};
use crate::retry::History;
use crate::state::JobState;

/// A job that was given a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The right to run it, and to say how it ended.
    pub lease: Lease,
    /// Its task.
    pub task: TaskName,
    /// The client's body.
    pub payload: StoredPayload,
    /// Query and header values its task named.
    pub request: RequestValues,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Its place among its parent's children.
    pub index: Option<u32>,
    /// Its parent.
    pub parent: Option<JobId>,
    /// How often in a row it could not be started for want of processes or memory.
    pub deferred: u32,
    /// The attempts behind it.
    pub history: History,
    /// When its family began, where this is its join.
    pub begun_at: Option<Timestamp>,
    /// Who asked for its end after it was claimed (seen when claims are read back after a
    /// restart).
    pub cancel_requested: Option<CancelledBy>,
}

/// What every later write about an attempt carries; changes nothing once another claim came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// 1 for the first.
    pub attempt: AttemptNumber,
    /// Of the claim.
    pub fence: Fence,
    /// Of the claim.
    pub claim_id: ClaimId,
}

impl Lease {
    /// What server and keeper call the attempt by.
    pub fn key(&self) -> AttemptKey {
        AttemptKey { job: self.job, fence: self.fence }
    }
}

/// How an attempt ended, for the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Whose.
    pub lease: Lease,
    /// How.
    pub outcome: Outcome,
    /// What becomes of the job.
    pub then: Then,
    /// When the program began; `None` where it never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// On a clock nobody sets.
    pub run_ms: Option<u64>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Output sizes and tails.
    pub output: OutputSummary,
    /// Its result.
    pub result: ResultSummary,
    /// Names and sizes of what it left in its artifacts folder.
    pub artifacts: Vec<Artifact>,
    /// What it last said of itself.
    pub progress: Option<Progress>,
    /// How its tree was held together.
    pub containment: Option<Containment>,
    /// Processes found alive beside the leader.
    pub leaked: u32,
    /// The config it ran under.
    pub config_revision: String,
}

/// What becomes of a job whose attempt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is over too.
    End,
    /// It waits for its next attempt, unless somebody asked for its end meanwhile.
    Retry {
        /// Not before.
        at: Timestamp,
        /// Ends as expired when it still waits then.
        expires_at: Option<Timestamp>,
    },
}

/// The end of a family that no program joins.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyEnd {
    /// The parent.
    pub job: JobId,
    /// What its children left.
    pub result: ResultSummary,
    /// Why there is none, where there should be one.
    pub bad_result: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Finished {
    /// The end of an attempt of which nothing was seen but that it ended: it was lost, or its
    /// program never ran.
    pub fn unseen(lease: Lease, outcome: Outcome, at: Timestamp, config_revision: &str) -> Self {
        Self {
            lease,
            outcome,
            then: Then::End,
            started_at: None,
            finished_at: at,
            run_ms: None,
            usage: None,
            output: OutputSummary::default(),
            result: ResultSummary::None,
            artifacts: Vec::new(),
            progress: None,
            containment: None,
            leaked: 0,
            config_revision: config_revision.to_owned(),
        }
    }
}

/// Both streams at their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputSummary {
    /// Standard output.
    pub stdout: StreamSummary,
    /// Standard error.
    pub stderr: StreamSummary,
    /// The limit the streams were kept under: shapes their files (see [`crate::output`]).
    pub limit: u64,
}

/// One stream at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSummary {
    /// Bytes the program wrote.
    pub total: u64,
    /// Bytes taken before writing the file failed; `total` where it never did.
    pub written: u64,
    /// Where they are.
    pub place: OutputPlace,
    /// The last bytes, at most [`crate::limits::INLINE_OUTPUT`]; all, where `place` is inline.
    pub tail: Bytes,
}

/// Where a job's result is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResultSummary {
    /// It left none.
    #[default]
    None,
    /// In the store: at most [`crate::limits::INLINE_RESULT`].
    Inline {
        /// Whether it is JSON.
        json: bool,
        /// Its bytes.
        bytes: Bytes,
    },
    /// In `jobs/<id>/<attempt>/result`.
    File {
        /// Whether it is JSON.
        json: bool,
        /// Its size.
        len: u64,
    },
}

/// What a job says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: f64,
    /// For people.
    pub message: String,
}

impl Progress {
    /// The last whole line of a progress file that reads `0.4 roof left`; lines that do not
    /// are passed over.
    pub fn last_of(text: &str) -> Option<Self> {
        let complete = &text[..text.rfind('\n')?];
        complete.lines().rev().find_map(Self::of_line)
    }

    fn of_line(line: &str) -> Option<Self> {
        let (number, message) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let fraction: f64 = number.parse().ok()?;
        (0.0..=1.0)
            .contains(&fraction)
            .then(|| Self { fraction, message: message.trim().chars().take(1000).collect() })
    }
}

/// A file a job left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its path below the artifacts folder, `/` between folders.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// All that is stored of a job, without its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Its task.
    pub task: TaskName,
    /// Where it stands.
    pub state: JobState,
    /// Attempts begun.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it was taken.
    pub submitted_at: Timestamp,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// Ends as expired when it still waits then.
    pub expires_at: Option<Timestamp>,
    /// When its last attempt's program began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How long the last attempt ran.
    pub run_ms: Option<u64>,
    /// When a client asked for its end.
    pub cancel_requested_at: Option<Timestamp>,
    /// What the last attempt used.
    pub usage: Option<Usage>,
    /// The last attempt's output, once over.
    pub output: Option<OutputSummary>,
    /// Its result.
    pub result: ResultSummary,
    /// What it left.
    pub artifacts: Vec<Artifact>,
    /// What it last said of itself.
    pub progress: Option<Progress>,
    /// Its parent.
    pub parent: Option<JobId>,
    /// Its place among its parent's children.
    pub index: Option<u32>,
    /// How many of its own children stand where; `None`: it is no parent.
    pub children: Option<Counts>,
    /// The job it repeats.
    pub retry_of: Option<JobId>,
    /// Its lane's value.
    pub lane: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// -100 to 100.
    pub priority: i32,
    /// Who asked.
    pub submitted_by: String,
    /// Where it ran.
    pub node: Option<String>,
    /// The config of its last attempt, else of its submission.
    pub config_revision: String,
    /// How its tree was held together.
    pub containment: Option<Containment>,
    /// Processes found alive beside its leader.
    pub leaked: u32,
    /// Its body's size.
    pub payload_len: u64,
}

impl JobRecord {
    /// A job as it stands in the store the moment it was taken.
    pub fn taken(job: &NewJob) -> Self {
        let waits = job.run_at.is_some_and(|at| at > job.submitted_at);
        Self {
            id: job.id,
            task: job.task.clone(),
            state: if waits { JobState::Scheduled } else { JobState::Queued },
            attempt: 0,
            max_attempts: job.max_attempts,
            outcome: None,
            submitted_at: job.submitted_at,
            run_at: job.run_at,
            expires_at: job.expires_at,
            started_at: None,
            finished_at: None,
            run_ms: None,
            cancel_requested_at: None,
            usage: None,
            output: None,
            result: ResultSummary::None,
            artifacts: Vec::new(),
            progress: None,
            parent: None,
            index: None,
            children: job.family.as_ref().map(|family| family.counts()),
            retry_of: job.retry_of,
            lane: job.lane.clone(),
            labels: job.labels.clone(),
            priority: job.priority,
            submitted_by: job.submitted_by.to_string(),
            node: None,
            config_revision: job.config_revision.to_string(),
            containment: None,
            leaked: 0,
            payload_len: job.payload.len(),
        }
    }
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    /// 1 for the first.
    pub attempt: u32,
    /// Its claim's fence.
    pub fence: Fence,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// When the slot was given.
    pub claimed_at: Timestamp,
    /// When the program began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How long it ran.
    pub run_ms: Option<u64>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Its output, once over.
    pub output: Option<OutputSummary>,
    /// How its tree was held together.
    pub containment: Option<Containment>,
    /// Processes found alive beside its leader.
    pub leaked: u32,
    /// Where it ran.
    pub node: String,
    /// The config it ran under.
    pub config_revision: String,
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn progress_is_the_last_whole_line_that_makes_sense() {
        let last = |text| Progress::last_of(text).map(|p| (p.fraction, p.message));
        assert_eq!(last("0.1 a\n0.4 roof left\n"), Some((0.4, "roof left".into())));
        assert_eq!(last("0.1 a\n0.4 roof l"), Some((0.1, "a".into())), "a line being written");
        assert_eq!(last("0.1\nnonsense\n7 too much\nNaN\n"), Some((0.1, String::new())));
        assert_eq!(last("0.5"), None);
        assert_eq!(last(""), None);
    }
}

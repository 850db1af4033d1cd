//! A job before it is one: what a request was made into, and all below it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::family::{Counts, OnFailure};
use crate::id::{JobId, TaskName};
use crate::limits::{Limit, TaskLimits};
use crate::placeholder::RequestValues;
use crate::rate::Rate;
use crate::state::JobState;

/// A validated job on its way into the store.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its id, made by the server.
    pub id: JobId,
    /// Its task.
    pub task: TaskName,
    /// What is asked before it is taken; `None`: it is the server's own, and taken in any case.
    pub admission: Option<Admission>,
    /// The client's body.
    pub payload: StoredPayload,
    /// Query and header values its task names.
    pub request: RequestValues,
    /// Filled labels.
    pub labels: BTreeMap<String, String>,
    /// -100 to 100, higher sooner.
    pub priority: i32,
    /// Its lane's value.
    pub lane: Option<String>,
    /// At most one unfinished job of its task has this value.
    pub unique: Option<Unique>,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// When it was taken.
    pub submitted_at: Timestamp,
    /// Not before; `None`: at once.
    pub run_at: Option<Timestamp>,
    /// Ends as `cancelled{expired}` when it still waits then.
    pub expires_at: Option<Timestamp>,
    /// Once only.
    pub idempotency: Option<Box<Idempotency>>,
    /// Who asked: `token:default`, `anonymous`.
    pub submitted_by: Arc<str>,
    /// The job this one repeats.
    pub retry_of: Option<JobId>,
    /// The config at submission.
    pub config_revision: Arc<str>,
    /// What its end brings about.
    pub follow_ups: Vec<FollowUp>,
    /// The jobs below it, taken in the same transaction.
    pub family: Option<Box<Family>>,
}

/// What admission goes by, as the config says at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Of the task.
    pub limits: TaskLimits,
    /// How often a job of the task is taken.
    pub rate: Option<Rate>,
    /// Slots of this node in all (`[limits] max_running`).
    pub node_slots: u64,
}

/// A value that only one unfinished job of a task has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The value.
    pub value: String,
    /// What a second job means.
    pub on_duplicate: OnDuplicate,
}

/// What a job means whose `unique` value an unfinished one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicate {
    /// The first one is the answer.
    #[default]
    Return,
    /// It takes the place of one that waits; one that runs goes on.
    ReplaceQueued,
    /// It takes the place of one that waits, and one that runs is ended.
    CancelRunning,
}

/// The jobs below a parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Of its children at once.
    pub max_running: Limit,
    /// What a child that fails means for the others.
    pub on_failure: OnFailure,
    /// Whether a program makes one result of theirs.
    pub join: bool,
    /// That program's end is the family's, also where children failed.
    pub join_decides: bool,
    /// From its beginning to its end; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Child n has index n.
    pub children: Vec<NewJob>,
}

/// Something that the end of a job brings about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// After which ends.
    pub on: Vec<Condition>,
    /// What.
    pub what: What,
}

/// What follows a job's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Another task, with the finished job as its payload.
    Then(TaskName),
    /// A request that tells of the finished job.
    Callback {
        /// Where.
        url: String,
        /// Whether the config alone says so: then it may be this machine or its networks.
        fixed: bool,
    },
}

/// A client's body as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredPayload {
    /// In the store: at most [`crate::limits::INLINE_PAYLOAD`].
    Inline(Bytes),
    /// In `jobs/<id>/payload`, fsynced before the job is submitted.
    File {
        /// Its size.
        len: u64,
    },
}

/// A request that may be repeated without a second job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Who asked; keys of two principals never meet.
    pub principal: String,
    /// The client's key.
    pub key: String,
    /// SHA-256 of the body: the same key with another body is an error.
    pub body_hash: [u8; 32],
}

impl NewJob {
    /// A job of this task without anything, taken in any case at the beginning of time.
    ///
    /// # Panics
    /// On a bad task name.
    pub fn for_testing(id: JobId, task: &str) -> Self {
        Self {
            id,
            task: task.parse().expect("a task name"),
            admission: None,
            payload: StoredPayload::Inline(Bytes::new()),
            request: RequestValues::default(),
            labels: BTreeMap::new(),
            priority: 0,
            lane: None,
            unique: None,
            max_attempts: 1,
            submitted_at: Timestamp::UNIX_EPOCH,
            run_at: None,
            expires_at: None,
            idempotency: None,
            submitted_by: "anonymous".into(),
            retry_of: None,
            config_revision: "".into(),
            follow_ups: Vec::new(),
            family: None,
        }
    }

    /// It and all below it.
    pub fn tree(&self) -> usize {
        1 + self.family.iter().flat_map(|family| &family.children).map(NewJob::tree).sum::<usize>()
    }
}

impl Family {
    /// Its children as they are taken.
    pub fn counts(&self) -> Counts {
        [(JobState::Queued, self.children.len() as u64)].into_iter().filter(|(_, many)| *many > 0).collect()
    }
}

impl StoredPayload {
    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            StoredPayload::Inline(bytes) => bytes.len() as u64,
            StoredPayload::File { len } => *len,
        }
    }

    /// Whether the client sent nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! What a later server must know of an attempt to end it: travels to the keeper with the
//! launch and comes back with its record, so that neither a restart nor a changed config
//! can pair an attempt with rules it did not start under.

use std::time::Duration;

use procession_core::id::{AttemptKey, AttemptNumber, ClaimId, TaskName};
use procession_core::job::{Claimed, Lease};
use procession_core::launch::OutputMode;
use procession_core::outcome::Outcome;
use procession_core::record::ExitRecord;
use procession_core::retry::{History, RetryPolicy};
use procession_core::task::{ResultRule, Task};
use serde::{Deserialize, Serialize};

use super::finish::Terms;

/// The launch's own note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Its task.
    pub task: TaskName,
    /// 1 for the first.
    pub attempt: AttemptNumber,
    /// Of its claim, as two halves: JSON numbers end at 64 bits.
    claim: (u64, u64),
    /// Its scratch folder's number.
    pub scratch: u32,
    /// What its result must be.
    pub result: ResultRule,
    /// Kept bytes of each stream.
    pub output_limit: u64,
    /// What it left running may still use its scratch folder.
    pub leave_children: bool,
    /// Its time limit.
    pub timeout_ms: Option<u64>,
    /// How often in a row it could not be started.
    pub deferred: u32,
    /// The config it started under.
    pub revision: String,
    /// When another attempt follows. Notes of a version before have none.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// The attempts before it.
    #[serde(default)]
    pub history: History,
    /// How long its job may wait for another attempt.
    #[serde(default)]
    pub queue_timeout: Option<Duration>,
    /// It is a join, whose time is what is left of its family's.
    #[serde(default)]
    pub joins: bool,
}

/// Bytes kept of each stream: straight to a file, nothing is ever dropped.
pub fn kept_of(task: &Task) -> u64 {
    if task.output.mode == OutputMode::File { u64::MAX } else { task.output.limit }
}

impl Note {
    /// Whether of the processes that outlived the leader, `leaked` of them, some may still use its
    /// folder.
    pub(super) fn left_something_running(&self, leaked: u32) -> bool {
        self.leave_children && leaked > 0
    }

    /// The note of an attempt that is about to start.
    pub fn new(task: &Task, claimed: &Claimed, scratch: u32, revision: &str) -> Self {
        let lease = &claimed.lease;
        let claim = u128::from_be_bytes(lease.claim_id.0);
        Self {
            task: task.name.clone(),
            attempt: lease.attempt,
            claim: ((claim >> 64) as u64, claim as u64),
            scratch,
            result: task.result.clone(),
            output_limit: kept_of(task),
            leave_children: task.leave_children,
            timeout_ms: task.timeout.map(|limit| limit.as_millis() as u64),
            deferred: claimed.deferred,
            revision: revision.to_owned(),
            retry: task.retry.clone(),
            history: claimed.history,
            queue_timeout: task.queue_timeout,
            joins: task.fan_out.is_some(),
        }
    }

    /// How the attempt ended. A join that met its deadline met its family's.
    pub(super) fn outcome_of(&self, record: &ExitRecord) -> Outcome {
        match (Outcome::of(record), self.timeout_ms) {
            (Outcome::TimedOut { code, signal, .. }, Some(limit_ms)) if self.joins => {
                Outcome::TimedOut { limit_ms, code, signal }
            }
            (outcome, _) => outcome,
        }
    }

    /// By what another attempt follows.
    pub(super) fn terms(&self) -> Terms {
        Terms { retry: self.retry.clone(), history: self.history, queue_timeout: self.queue_timeout }
    }

    /// The lease it was started under.
    pub fn lease(&self, key: AttemptKey) -> Lease {
        let claim = (u128::from(self.claim.0) << 64) | u128::from(self.claim.1);
        Lease {
            job: key.job,
            attempt: self.attempt,
            fence: key.fence,
            claim_id: ClaimId(claim.to_be_bytes()),
        }
    }

    /// As bytes for the keeper.
    pub fn to_bytes(&self) -> bytes::Bytes {
        serde_json::to_vec(self).expect("plain data becomes JSON").into()
    }

    /// From the keeper's bytes; `None` where another version wrote what this one cannot read.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

//! What a later server must know of an attempt to end it: travels to the keeper with the
//! launch and comes back with its record, so that neither a restart nor a changed config
//! can pair an attempt with rules it did not start under.

use procession_core::id::{AttemptKey, AttemptNumber, ClaimId, TaskName};
use procession_core::job::Lease;
use procession_core::launch::OutputMode;
use procession_core::task::{ResultRule, Task};

use serde::{Deserialize, Serialize};

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
    pub fn new(task: &Task, lease: &Lease, scratch: u32, deferred: u32, revision: &str) -> Self {
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
            deferred,
            revision: revision.to_owned(),
        }
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

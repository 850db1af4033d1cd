//! What the outbox is asked for, and why a job that was to follow is none.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outbox::DeliveryState;

use super::Submitted;

/// What of the outbox is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// Due by then.
    pub now: Timestamp,
    /// The host served last.
    pub after: Option<String>,
    /// Of each host.
    pub per_host: usize,
    /// How many of these.
    pub hosts: usize,
}

/// Which deliveries a list is of; all conditions hold together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryQuery {
    /// Of this job's end.
    pub job: Option<JobId>,
    /// In one of these states; empty: any.
    pub states: Vec<DeliveryState>,
    /// Written before the one of this number (the last of the page before).
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl Submitted {
    /// Why there is no job, where there is none.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Submitted::New(_) | Submitted::Replay(_) | Submitted::Duplicate(_) => None,
            Submitted::Conflict(job) => {
                Some(format!("its idempotency key was used for job {job} with another body"))
            }
            Submitted::Busy(_) => Some("there is no room for it".into()),
        }
    }
}

//! What follows ends of jobs, as clients see it: without the query of a URL, in which keys are
//! kept, and never with what signs it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{JobId, TaskName};
use crate::job::What;
use crate::outbox::{self, DeliveryId, DeliveryState};

/// One delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The job's id, `_` and a number. Callbacks carry it, as `msg_…`, in `webhook-id`.
    pub id: DeliveryId,
    /// The job that ended.
    pub job: JobId,
    /// Its task.
    pub task: TaskName,
    /// `callback` or `then`.
    pub kind: Kind,
    /// Where a callback goes, without its query.
    pub url: Option<String>,
    /// The task that follows.
    pub then: Option<TaskName>,
    /// The job that followed.
    pub then_job: Option<JobId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried since it was written or asked for once more.
    pub tries: u32,
    /// When it is tried next, while it is pending.
    pub next_try_at: Option<Timestamp>,
    /// Of the receiver's last answer.
    pub last_status: Option<u16>,
    /// Why the last try failed, or there was none.
    pub last_error: Option<String>,
    /// When the job ended.
    pub created_at: Timestamp,
}

/// What a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request that tells of the job.
    Callback,
    /// Another task.
    Then,
}

/// A page of deliveries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryPage {
    /// Newest first.
    pub items: Vec<Delivery>,
    /// Opaque; null on the last page.
    pub next_cursor: Option<String>,
}

impl Delivery {
    /// What there is to say of it.
    pub fn of(delivery: outbox::Delivery) -> Self {
        let pending = delivery.state == DeliveryState::Pending;
        let (kind, url, then) = match delivery.what {
            What::Callback { url, .. } => (Kind::Callback, Some(outbox::shown(&url)), None),
            What::Then(task) => (Kind::Then, None, Some(task)),
        };
        Self {
            id: delivery.id,
            job: delivery.id.job,
            task: delivery.task,
            kind,
            url,
            then,
            then_job: delivery.followed_by,
            state: delivery.state,
            tries: delivery.tries,
            next_try_at: pending.then_some(delivery.due_at),
            last_status: delivery.status,
            last_error: delivery.error,
            created_at: delivery.created_at,
        }
    }
}

//! Ending a job, and all below it, because somebody says so.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::{CancelledBy, Outcome};

use super::family;
use super::queue::Queue;
use crate::error::StoreError;
use crate::store::{Cancelled, Effects};

pub(super) fn cancel(
    queue: &mut Queue,
    id: JobId,
    by: CancelledBy,
    at: Timestamp,
) -> Result<Cancelled, StoreError> {
    let Some(job) = queue.jobs.get(&id) else { return Ok(Cancelled::Unknown) };
    if job.state.is_final() {
        return Ok(Cancelled::AlreadyOver);
    }
    let (above, mut effects) = (job.parent(), Effects::default());
    if !family::stop(queue, id, by, at, &mut effects)? {
        return Ok(Cancelled::Asked(effects));
    }
    family::child_over(queue, above, &Outcome::cancelled(by), at, &mut effects)?;
    Ok(Cancelled::Ended(effects))
}

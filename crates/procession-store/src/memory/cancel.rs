//! Ending a job that does not run, or marking one that does.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::CancelledBy;
use procession_core::state::JobState;

use super::queue::Queue;
use crate::error::StoreError;
use crate::store::Cancelled;

pub(super) fn cancel(
    queue: &mut Queue,
    id: JobId,
    by: CancelledBy,
    at: Timestamp,
) -> Result<Cancelled, StoreError> {
    let Some(job) = queue.jobs.get_mut(&id) else { return Ok(Cancelled::Unknown) };
    if job.state.is_final() {
        return Ok(Cancelled::AlreadyOver);
    }
    job.cancel.get_or_insert((at, by));
    if let (JobState::Running, Some(held)) = (job.state, &job.claim) {
        return Ok(Cancelled::Running(held.lease));
    }
    queue.end(id, by, at)?;
    Ok(Cancelled::Ended)
}

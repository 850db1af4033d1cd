//! Taking back a claim whose attempt never started.

use jiff::Timestamp;
use procession_core::job::Lease;
use procession_core::state::Move;

use super::queue::Queue;
use crate::error::StoreError;
use crate::store::Applied;

pub(super) fn release(
    queue: &mut Queue,
    lease: Lease,
    not_before: Option<Timestamp>,
) -> Result<Applied, StoreError> {
    let Some(job) = queue.leased(lease) else {
        let released = queue.jobs.get(&lease.job).is_some_and(|job| job.waits() && job.holds(lease));
        return Ok(if released { Applied::Already } else { Applied::Stale });
    };
    job.attempt -= 1;
    job.started = None;
    if let Some((at, by)) = job.cancel {
        job.step(Move::Release)?;
        queue.end(lease.job, by, at)?;
        return Ok(Applied::Applied);
    }
    match not_before {
        None => job.step(Move::Release)?,
        Some(at) => {
            job.step(Move::Defer)?;
            job.run_at = at;
            job.deferred += 1;
        }
    }
    Ok(Applied::Applied)
}

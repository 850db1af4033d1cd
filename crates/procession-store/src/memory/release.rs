//! Taking back a claim whose attempt never started.

use jiff::Timestamp;
use procession_core::job::Lease;
use procession_core::outcome::Outcome;
use procession_core::state::Move;

use super::family;
use super::queue::{End, Queue};
use crate::error::StoreError;
use crate::store::{Applied, Change, Effects};

pub(super) fn release(
    queue: &mut Queue,
    lease: Lease,
    not_before: Option<Timestamp>,
) -> Result<Change, StoreError> {
    let Some(job) = queue.leased(lease) else {
        let released = queue.jobs.get(&lease.job).is_some_and(|job| job.waits() && job.holds(lease));
        return Ok(Change::alone(if released { Applied::Already } else { Applied::Stale }));
    };
    job.attempt -= 1;
    job.started = None;
    if let Some((at, by)) = job.cancel {
        let (above, outcome) = (job.parent(), Outcome::cancelled(by));
        let mut effects = Effects::default();
        queue.end(lease.job, End::of(outcome.clone(), at), &mut effects)?;
        family::child_over(queue, above, &outcome, at, &mut effects)?;
        return Ok(Change { applied: Applied::Applied, effects });
    }
    match not_before {
        None => job.step(Move::Release)?,
        Some(at) => {
            job.step(Move::Defer)?;
            job.run_at = at;
            job.deferred += 1;
        }
    }
    Ok(Change::alone(Applied::Applied))
}

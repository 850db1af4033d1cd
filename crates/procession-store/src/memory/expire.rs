//! Ending jobs that waited longer than they were allowed to.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::CancelledBy;

use super::queue::Queue;
use crate::error::StoreError;

/// The most jobs one call ends.
const MOST: usize = 1_000;

pub(super) fn expire(queue: &mut Queue, now: Timestamp) -> Result<Vec<JobId>, StoreError> {
    let waiting = queue.jobs.values().filter(|job| job.waits() && job.expired(now));
    let mut expired: Vec<_> = waiting.map(|job| (job.new.expires_at, job.new.id)).collect();
    expired.sort_unstable();
    expired.truncate(MOST);
    for (_, job) in &expired {
        queue.end(*job, CancelledBy::Expired, now)?;
    }
    Ok(expired.into_iter().map(|(_, job)| job).collect())
}

//! Noting that an attempt's program runs.

use jiff::Timestamp;
use procession_core::job::Lease;
use procession_core::record::Containment;

use super::queue::Queue;
use crate::store::Applied;

pub(super) fn started(queue: &mut Queue, lease: Lease, at: Timestamp, containment: Containment) -> Applied {
    let Some(job) = queue.leased(lease) else { return Applied::Stale };
    if job.started.is_some() {
        return Applied::Already;
    }
    job.started = Some((at, containment));
    job.deferred = 0;
    Applied::Applied
}

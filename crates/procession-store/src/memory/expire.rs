//! Ending jobs that waited longer than they were allowed to, and families that took longer.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::{CancelledBy, Outcome};

use super::family;
use super::queue::{Job, Queue};
use crate::error::StoreError;
use crate::store::Effects;

/// The most jobs one call ends.
const MOST: usize = 1_000;

pub(super) fn expire(queue: &mut Queue, now: Timestamp) -> Result<Effects, StoreError> {
    let expired = queue.jobs.values().filter(|job| job.waits() && job.expired(now));
    let expired = first(expired.map(|job| (job.expires_at, job.new.id)).collect());
    let late = queue.jobs.values().filter(|job| job.end.is_none() && !job.late);
    let late = late.map(|job| (job.deadline(), job.new.id));
    let late = first(late.filter(|(at, _)| at.is_some_and(|at| at <= now)).collect());
    let mut effects = Effects::default();
    for job in expired {
        let above = queue.jobs.get(&job).and_then(Job::parent);
        if family::stop(queue, job, CancelledBy::Expired, now, &mut effects)? {
            effects.moved.push(job);
            let outcome = Outcome::cancelled(CancelledBy::Expired);
            family::child_over(queue, above, &outcome, now, &mut effects)?;
        }
    }
    for parent in late {
        family::time_is_over(queue, parent, now, &mut effects)?;
    }
    Ok(effects)
}

fn first(mut due: Vec<(Option<Timestamp>, JobId)>) -> Vec<JobId> {
    due.sort_unstable();
    due.truncate(MOST);
    due.into_iter().map(|(_, job)| job).collect()
}

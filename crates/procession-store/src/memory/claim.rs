//! Giving slots to queued jobs, one at a time.

use procession_core::id::{AttemptNumber, ClaimId, Fence, JobId, TaskName};
use procession_core::job::Lease;
use procession_core::state::{JobState, Move};

use super::queue::{Held, Queue};
use crate::error::StoreError;
use crate::store::{Claim, ClaimedBatch};

pub(super) fn claim(queue: &mut Queue, claim: &Claim) -> Result<ClaimedBatch, StoreError> {
    for job in queue.jobs.values_mut() {
        if job.state == JobState::Scheduled && job.run_at <= claim.now {
            job.step(Move::Promote)?;
        }
    }
    queue.asked = Some(claim.tasks.clone());
    let mut jobs = Vec::new();
    while jobs.len() < claim.free
        && let Some((task, id)) = next(queue, claim)
    {
        queue.fence += 1;
        queue.turn = Some(task);
        let claim_id = nth(claim.claim_id, jobs.len());
        let fence = Fence(queue.fence);
        let Some(job) = queue.jobs.get_mut(&id) else { break };
        job.step(Move::Claim)?;
        job.attempt += 1;
        let lease = Lease { job: id, attempt: AttemptNumber(job.attempt), fence, claim_id };
        let (node, boot_id) = (claim.node.clone(), claim.boot_id);
        job.claim = Some(Held { lease, node, boot_id, claimed_at: claim.now });
        jobs.push(job.claimed(lease));
    }
    let scheduled = queue.jobs.values().filter(|job| job.state == JobState::Scheduled);
    Ok(ClaimedBatch { jobs, next_due: scheduled.map(|job| job.run_at).min() })
}

/// The first job of the first task after the one served last that has a job and room.
fn next(queue: &Queue, claim: &Claim) -> Option<(TaskName, JobId)> {
    let (before, after): (Vec<_>, Vec<_>) =
        claim.tasks.iter().partition(|(name, _)| queue.turn.as_ref().is_some_and(|turn| *name <= turn));
    after.into_iter().chain(before).find_map(|(name, limit)| {
        let task = queue.tasks.get(name)?;
        if task.paused || limit.room(queue.running(name)) == 0 {
            return None;
        }
        let queued = queue.of(name).filter(|job| job.state == JobState::Queued && !job.expired(claim.now));
        queued.min_by_key(|job| job.place()).map(|job| (name.clone(), job.new.id))
    })
}

/// The claim id of the batch's job `at`: the batch's with `at` added to its last four bytes.
fn nth(ClaimId(mut bytes): ClaimId, at: usize) -> ClaimId {
    let last = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    bytes[12..].copy_from_slice(&last.wrapping_add(at as u32).to_be_bytes());
    ClaimId(bytes)
}

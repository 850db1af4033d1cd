//! Giving slots to queued jobs, one at a time.

use std::collections::BTreeSet;

use procession_core::id::{AttemptNumber, ClaimId, Fence, JobId, TaskName};
use procession_core::job::Lease;
use procession_core::state::{JobState, Move};

use super::family;
use super::queue::{Group, Held, Job, Queue};
use crate::error::StoreError;
use crate::store::{BEGUN_MOST, Claim, ClaimedBatch, Room};

pub(super) fn claim(queue: &mut Queue, claim: &Claim) -> Result<ClaimedBatch, StoreError> {
    for job in queue.jobs.values_mut() {
        if job.state == JobState::Scheduled && job.run_at <= claim.now {
            job.step(Move::Promote)?;
            job.retrying = false;
        }
    }
    queue.asked = Some(claim.tasks.clone());
    let mut batch = ClaimedBatch::default();
    for join in joins(queue, claim).into_iter().take(claim.free) {
        give(queue, claim, join, &mut batch)?;
    }
    while batch.jobs.len() < claim.free
        && batch.begun.len() < BEGUN_MOST
        && let Some((task, group, id)) = next(queue, claim)
    {
        queue.tasks.entry(task.clone()).or_default().turn = Some(group);
        queue.turn = Some(task);
        if queue.jobs.get(&id).is_some_and(|job| job.new.family.is_some()) {
            family::begin(queue, id, claim.now, &mut batch.effects)?;
            batch.begun.push(id);
        } else {
            give(queue, claim, id, &mut batch)?;
        }
    }
    let scheduled = queue.jobs.values().filter(|job| job.state == JobState::Scheduled);
    batch.next_due = scheduled.map(|job| job.run_at).min();
    Ok(batch)
}

fn give(queue: &mut Queue, claim: &Claim, id: JobId, batch: &mut ClaimedBatch) -> Result<(), StoreError> {
    queue.fence += 1;
    let fence = Fence(queue.fence);
    let claim_id = nth(claim.claim_id, batch.jobs.len());
    let Some(job) = queue.jobs.get_mut(&id) else { return Ok(()) };
    job.step(Move::Claim)?;
    job.attempt += 1;
    let lease = Lease { job: id, attempt: AttemptNumber(job.attempt), fence, claim_id };
    let (node, boot_id) = (claim.node.clone(), claim.boot_id);
    job.claim = Some(Held { lease, node, boot_id, claimed_at: claim.now });
    batch.jobs.push(job.claimed(lease));
    Ok(())
}

/// Families that wait to join what their children did.
fn joins(queue: &Queue, claim: &Claim) -> Vec<JobId> {
    let may = |job: &&Job| {
        let task = queue.tasks.get(&job.new.task);
        claim.tasks.contains_key(&job.new.task) && task.is_some_and(|task| !task.paused)
    };
    let joins = queue.jobs.values().filter(|job| job.state == JobState::Queued && job.joins);
    let mut joins: Vec<&Job> = joins.filter(may).collect();
    joins.sort_by_key(|job| job.place());
    joins.into_iter().map(|job| job.new.id).collect()
}

/// The first job of the first lane and family after the one served last, of the first task after
/// the one served last, that has a job and room.
fn next(queue: &Queue, claim: &Claim) -> Option<(TaskName, Group, JobId)> {
    in_turn(claim.tasks.iter(), |(name, _)| queue.turn.as_ref().is_some_and(|turn| *name <= turn)).find_map(
        |(name, room)| {
            let task = queue.tasks.get(name)?;
            if task.paused || room.running.room(queue.held(name)) == 0 {
                return None;
            }
            let queued: Vec<&Job> =
                queue.of(name).filter(|job| job.is_queued() && !job.expired(claim.now)).collect();
            let groups: BTreeSet<Group> = queued.iter().map(|job| job.group()).collect();
            let group =
                in_turn(groups.into_iter(), |group| task.turn.as_ref().is_some_and(|turn| group <= turn))
                    .find(|group| has_room(queue, name, room, group))?;
            let of_group = queued.into_iter().filter(|job| job.group() == group);
            of_group.min_by_key(|job| job.place()).map(|job| (name.clone(), group, job.new.id))
        },
    )
}

/// Those after the one served last, then those up to it.
fn in_turn<T>(all: impl Iterator<Item = T>, served: impl Fn(&T) -> bool) -> impl Iterator<Item = T> {
    let (before, after): (Vec<T>, Vec<T>) = all.partition(served);
    after.into_iter().chain(before)
}

fn has_room(queue: &Queue, task: &TaskName, room: &Room, (lane, parent): &Group) -> bool {
    let lane_has = lane.as_ref().is_none_or(|lane| room.per_lane.room(queue.held_by_lane(task, lane)) > 0);
    let family = parent.and_then(|parent| family::standing(queue, parent));
    lane_has && family.is_none_or(|family| family.begun && family.limit.room(family.running) > 0)
}

/// The claim id of the batch's job `at`: the batch's with `at` added to its last four bytes.
fn nth(ClaimId(mut bytes): ClaimId, at: usize) -> ClaimId {
    let last = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    bytes[12..].copy_from_slice(&last.wrapping_add(at as u32).to_be_bytes());
    ClaimId(bytes)
}

//! Parents and their children.

use jiff::Timestamp;
use procession_core::family::{Asked, ChildEnd, Counts, gathered, is_failure};
use procession_core::id::JobId;
use procession_core::job::FamilyEnd;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::{JobState, Move};

use super::queue::{End, Job, Queue};
use crate::error::StoreError;
use crate::store::{Applied, Change, Effects, FamilyStanding};

/// A queued parent's family begins.
pub(super) fn begin(
    queue: &mut Queue,
    id: JobId,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Some(job) = queue.jobs.get_mut(&id) else { return Ok(()) };
    job.step(Move::Wait)?;
    job.begun_at = Some(now);
    job.expires_at = None;
    complete(queue, id, now, effects)
}

/// A child is over: what that means for its siblings and its parent.
pub(super) fn child_over(
    queue: &mut Queue,
    parent: Option<JobId>,
    child: &Outcome,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Some(parent) = parent else { return Ok(()) };
    if is_failure(child) && queue.jobs.get(&parent).is_some_and(|parent| parent.rules().stops) {
        stop_below(queue, parent, at, Asked::Once, effects)?;
    }
    complete(queue, parent, at, effects)
}

/// Goes on with a family of which no child is left.
fn complete(queue: &mut Queue, id: JobId, at: Timestamp, effects: &mut Effects) -> Result<(), StoreError> {
    let failed = queue.failed(id);
    let left = queue.children(id).any(|child| child.end.is_none());
    let Some(parent) = queue.jobs.get_mut(&id).filter(|parent| parent.state == JobState::Waiting && !left)
    else {
        return Ok(());
    };
    let rules = parent.rules();
    let over = match (parent.cancel, parent.late) {
        (Some((_, by)), _) => Some(Outcome::cancelled(by)),
        (None, true) => Some(parent.timed_out()),
        (None, false) => (rules.stops && failed > 0).then_some(Outcome::ChildrenFailed { failed }),
    };
    if let Some(over) = over {
        return end_parent(queue, id, &over, at, effects);
    }
    if rules.joins {
        parent.step(Move::Join)?;
        parent.run_at = at;
        parent.joins = true;
        effects.moved.push(id);
    } else {
        parent.gathers = true;
        effects.gather.push(id);
    }
    Ok(())
}

fn end_parent(
    queue: &mut Queue,
    id: JobId,
    outcome: &Outcome,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    queue.end(id, End::of(outcome.clone(), at), effects)?;
    effects.moved.push(id);
    let above = queue.jobs.get(&id).and_then(Job::parent);
    child_over(queue, above, outcome, at, effects)
}

/// Ends a job and all below it, as far as nothing of it runs. `true`: it is over.
pub(super) fn stop(
    queue: &mut Queue,
    id: JobId,
    by: CancelledBy,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<bool, StoreError> {
    let Some(job) = queue.jobs.get_mut(&id).filter(|job| job.end.is_none()) else { return Ok(false) };
    if by != CancelledBy::Expired {
        job.cancel.get_or_insert((at, by));
    }
    let by = job.cancel.map_or(by, |(_, by)| by);
    match (job.state, &job.claim) {
        (JobState::Running, Some(held)) => {
            effects.stops.push((held.lease, by));
            return Ok(false);
        }
        (JobState::Waiting, _) if !job.gathers => {
            stop_below(queue, id, at, Asked::Again, effects)?;
            if queue.children(id).any(|child| child.end.is_none()) {
                return Ok(false);
            }
        }
        _ => stop_below(queue, id, at, Asked::Again, effects)?,
    }
    queue.end(id, End::of(Outcome::cancelled(by), at), effects)?;
    Ok(true)
}

/// Ends all below a job with it.
fn stop_below(
    queue: &mut Queue,
    parent: JobId,
    at: Timestamp,
    asked: Asked,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let again = asked == Asked::Again;
    let meant = |child: &&Job| child.end.is_none() && (again || child.cancel.is_none());
    let below: Vec<JobId> = queue.children(parent).filter(meant).map(|child| child.new.id).collect();
    for child in below {
        if stop(queue, child, CancelledBy::Parent, at, effects)? {
            effects.moved.push(child);
        }
    }
    Ok(())
}

/// A family's time is over.
pub(super) fn time_is_over(
    queue: &mut Queue,
    id: JobId,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Some(parent) = queue.jobs.get_mut(&id).filter(|parent| parent.end.is_none()) else { return Ok(()) };
    parent.late = true;
    match parent.state {
        JobState::Waiting if parent.gathers => Ok(()),
        JobState::Waiting => {
            stop_below(queue, id, at, Asked::Once, effects)?;
            complete(queue, id, at, effects)
        }
        JobState::Queued | JobState::Scheduled => {
            let outcome = parent.timed_out();
            end_parent(queue, id, &outcome, at, effects)
        }
        _ => Ok(()),
    }
}

pub(super) fn gather(queue: &mut Queue, end: FamilyEnd) -> Result<Change, StoreError> {
    let failed = queue.failed(end.job);
    let Some(parent) = queue.jobs.get(&end.job).filter(|job| job.gathers && job.end.is_none()) else {
        return Ok(Change::alone(Applied::Already));
    };
    let (above, outcome) = (parent.parent(), gathered(failed, end.bad_result.as_deref()));
    let mut effects = Effects::default();
    let estate = End { result: end.result, ..End::of(outcome.clone(), end.at) };
    queue.end(end.job, estate, &mut effects)?;
    child_over(queue, above, &outcome, end.at, &mut effects)?;
    Ok(Change { applied: Applied::Applied, effects })
}

pub(super) fn to_gather(queue: &Queue, most: usize) -> Vec<JobId> {
    let gathers = queue.jobs.values().filter(|job| job.gathers && job.end.is_none());
    gathers.map(|job| job.new.id).take(most).collect()
}

pub(super) fn child_ends(queue: &Queue, parent: JobId, after: Option<JobId>, most: usize) -> Vec<ChildEnd> {
    let mut ends: Vec<ChildEnd> = queue.children(parent).filter_map(child_end).collect();
    ends.retain(|end| Some(end.id) > after);
    ends.truncate(most);
    ends
}

fn child_end(job: &Job) -> Option<ChildEnd> {
    let end = job.end.as_ref()?;
    Some(ChildEnd {
        index: job.kin?.index,
        id: job.new.id,
        attempt: job.shown_attempt(),
        outcome: end.outcome.clone(),
        result: end.result.clone(),
    })
}

/// How many children of a parent stand where.
pub(super) fn counts(queue: &Queue, parent: JobId) -> Counts {
    let mut counts = Counts::new();
    for child in queue.children(parent) {
        *counts.entry(child.state).or_default() += 1;
    }
    counts
}

pub(super) fn standing(queue: &Queue, parent: JobId) -> Option<FamilyStanding> {
    let job = queue.jobs.get(&parent)?;
    Some(FamilyStanding {
        parent,
        begun: job.begun_at.is_some(),
        running: queue.children(parent).filter(|child| child.is_busy()).count() as u64,
        limit: job.rules().max_running,
    })
}

//! Questions about one job, or about what is due.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::{AttemptRecord, Claimed, StoredPayload};
use procession_core::placeholder::RequestValues;
use procession_core::state::JobState;

use super::family;
use super::queue::{Job, Queue};
use crate::store::Standing;

pub(super) fn claimed_by(queue: &Queue, node: &str) -> Vec<(Claimed, [u8; 16])> {
    let running = queue.jobs.values().filter(|job| job.state == JobState::Running);
    let mut claimed: Vec<_> = running
        .filter_map(|job| {
            let held = job.claim.as_ref().filter(|held| held.node == node)?;
            Some((job.claimed(held.lease), held.boot_id))
        })
        .collect();
    claimed.sort_by_key(|(claimed, _)| claimed.lease.fence);
    claimed
}

pub(super) fn next_due(queue: &Queue) -> Option<Timestamp> {
    let waiting = queue.jobs.values().filter(|job| job.waits());
    let due = waiting.flat_map(|job| {
        let promoted = (job.state == JobState::Scheduled).then_some(job.run_at);
        promoted.into_iter().chain(job.expires_at)
    });
    let families = queue.jobs.values().filter(|job| job.end.is_none() && !job.late);
    due.chain(families.filter_map(|job| job.deadline())).min()
}

pub(super) fn payload(queue: &Queue, job: JobId) -> Option<(StoredPayload, RequestValues)> {
    queue.jobs.get(&job).map(|job| (job.new.payload.clone(), job.new.request.clone()))
}

pub(super) fn attempts(queue: &Queue, job: JobId) -> Vec<AttemptRecord> {
    let Some(job) = queue.jobs.get(&job) else { return vec![] };
    let mut attempts: Vec<_> = job.attempts.iter().map(|(_, attempt)| attempt.clone()).collect();
    if let (JobState::Running, Some(held)) = (job.state, &job.claim) {
        attempts.push(AttemptRecord {
            attempt: job.attempt,
            fence: held.lease.fence,
            outcome: None,
            claimed_at: held.claimed_at,
            started_at: job.started.map(|(at, _)| at),
            finished_at: None,
            run_ms: None,
            usage: None,
            output: None,
            containment: job.started.map(|(_, how)| how),
            leaked: 0,
            node: held.node.clone(),
            config_revision: job.new.config_revision.to_string(),
        });
    }
    attempts
}

pub(super) fn ids_ending(queue: &Queue, suffix: &str, most: usize) -> Vec<JobId> {
    let suffix = suffix.to_ascii_lowercase();
    let newest_first = queue.jobs.keys().rev();
    newest_first.filter(|id| id.to_string().replace('-', "").ends_with(&suffix)).take(most).copied().collect()
}

pub(super) fn standing(queue: &Queue, job: JobId) -> Option<Standing> {
    let job = queue.jobs.get(&job).filter(|job| job.state == JobState::Queued)?;
    let before = |other: &&Job| {
        let beside = job.joins || (other.new.task == job.new.task && other.group() == job.group());
        other.state == JobState::Queued && other.joins == job.joins && beside && other.place() < job.place()
    };
    let ahead = queue.jobs.values().filter(before).count() as u64;
    if job.joins {
        return Some(Standing { ahead, joins: true, ..Standing::default() });
    }
    let lane = job.new.lane.as_ref();
    Some(Standing {
        ahead,
        lane_running: lane.map(|lane| queue.held_by_lane(&job.new.task, lane)),
        family: job.parent().and_then(|parent| family::standing(queue, parent)),
        joins: false,
    })
}

//! Recording how an attempt ended.

use procession_core::family::outcome;
use procession_core::job::{AttemptRecord, Finished, Then};
use procession_core::state::Move;

use super::family;
use super::queue::{End, Queue};
use crate::error::StoreError;
use crate::store::{Applied, Change, Effects};

pub(super) fn finish(queue: &mut Queue, finished: Finished) -> Result<Change, StoreError> {
    let lease = finished.lease;
    let failed = queue.failed(lease.job);
    let Some(job) = queue.leased(lease) else {
        let over =
            queue.jobs.get(&lease.job).is_some_and(|job| job.attempts.iter().any(|(of, _)| *of == lease));
        return Ok(Change::alone(if over { Applied::Already } else { Applied::Stale }));
    };
    let Some(held) = job.claim.clone() else { return Ok(Change::alone(Applied::Stale)) };
    let attempt = AttemptRecord {
        attempt: job.attempt,
        fence: lease.fence,
        outcome: Some(finished.outcome.clone()),
        claimed_at: held.claimed_at,
        started_at: finished.started_at.or(job.started.map(|(at, _)| at)),
        finished_at: Some(finished.finished_at),
        run_ms: finished.run_ms,
        usage: finished.usage,
        output: Some(finished.output),
        containment: finished.containment.or(job.started.map(|(_, how)| how)),
        leaked: finished.leaked,
        node: held.node,
        config_revision: finished.config_revision,
    };
    job.attempts.push((lease, attempt));
    if let Then::Retry { at, expires_at } = finished.then
        && job.cancel.is_none()
        && !job.late
    {
        job.step(Move::Retry)?;
        (job.retrying, job.started, job.run_at, job.expires_at) = (true, None, at, expires_at);
        return Ok(Change::alone(Applied::Applied));
    }
    let outcome = match job.new.family.is_some() {
        true => outcome(failed, Some(finished.outcome), job.rules().join_decides),
        false => finished.outcome,
    };
    let (above, at) = (job.parent(), finished.finished_at);
    let end = End {
        result: finished.result,
        artifacts: finished.artifacts,
        progress: finished.progress,
        ..End::of(outcome.clone(), at)
    };
    let mut effects = Effects::default();
    queue.end(lease.job, end, &mut effects)?;
    family::child_over(queue, above, &outcome, at, &mut effects)?;
    Ok(Change { applied: Applied::Applied, effects })
}

//! Recording how an attempt ended.

use procession_core::job::{AttemptRecord, Finished};
use procession_core::state::{JobState, Move};

use super::queue::{End, Queue};
use crate::error::StoreError;
use crate::store::Applied;

pub(super) fn finish(queue: &mut Queue, finished: Finished) -> Result<Applied, StoreError> {
    let lease = finished.lease;
    let Some(job) = queue.leased(lease) else {
        let over =
            queue.jobs.get(&lease.job).is_some_and(|job| job.attempts.iter().any(|(of, _)| *of == lease));
        return Ok(if over { Applied::Already } else { Applied::Stale });
    };
    let Some(held) = job.claim.clone() else { return Ok(Applied::Stale) };
    job.step(Move::Finish(finished.outcome.state()))?;
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
    job.end = Some(End {
        outcome: finished.outcome,
        finished_at: finished.finished_at,
        cancel_at: job.cancel.map(|(at, _)| at),
        result: finished.result,
        artifacts: finished.artifacts,
        progress: finished.progress,
    });
    let (name, failed) = (job.new.task.clone(), job.state != JobState::Succeeded);
    let task = queue.tasks.entry(name).or_default();
    task.finished += 1;
    task.failed += u64::from(failed);
    Ok(Applied::Applied)
}

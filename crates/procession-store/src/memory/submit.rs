//! Recording a new job: replay, admission, the job.

use procession_core::admission::{Usage, Verdict, decide};
use procession_core::job::NewJob;
use procession_core::limits::Limit;
use procession_core::state::JobState;

use super::queue::{Job, Queue};
use crate::store::Submitted;

pub(super) fn submit(queue: &mut Queue, job: NewJob) -> Submitted {
    queue.tasks.entry(job.task.clone()).or_default();
    if let Some(earlier) = earlier(queue, &job) {
        return earlier;
    }
    if queue.jobs.contains_key(&job.id) {
        return Submitted::Replay(job.id);
    }
    if let Verdict::Busy(full) = decide(job.limits, usage(queue, &job)) {
        return Submitted::Busy(full);
    }
    let later = job.run_at.is_some_and(|at| at > job.submitted_at);
    let state = if later { JobState::Scheduled } else { JobState::Queued };
    let run_at = job.run_at.unwrap_or(job.submitted_at);
    let fresh = Job {
        new: job,
        state,
        run_at,
        attempt: 0,
        deferred: 0,
        claim: None,
        started: None,
        cancel: None,
        attempts: vec![],
        end: None,
    };
    queue.jobs.insert(fresh.new.id, fresh);
    Submitted::New
}

fn earlier(queue: &Queue, job: &NewJob) -> Option<Submitted> {
    let key = job.idempotency.as_ref()?;
    queue.of(&job.task).find_map(|earlier| {
        let known = earlier.new.idempotency.as_ref()?;
        let same = known.principal == key.principal && known.key == key.key;
        same.then(|| match known.body_hash == key.body_hash {
            true => Submitted::Replay(earlier.new.id),
            false => Submitted::Conflict(earlier.new.id),
        })
    })
}

fn usage(queue: &Queue, job: &NewJob) -> Usage {
    let mut usage = Usage {
        unfinished: queue.of(&job.task).filter(|job| job.waits() || job.state == JobState::Running).count()
            as u64,
        node_running: queue.jobs.values().filter(|job| job.state == JobState::Running).count() as u64,
        node_queued: 0,
        node_slots: job.node_slots,
    };
    for (name, task) in &queue.tasks {
        let limit = match &queue.asked {
            _ if *name == job.task => Some(job.limits.max_running),
            Some(asked) => asked.get(name).copied(),
            None => Some(Limit::Unlimited),
        };
        let room = limit.filter(|_| !task.paused).map_or(0, |limit| limit.room(queue.running(name)));
        let queued = queue.of(name).filter(|job| job.state == JobState::Queued).count() as u64;
        usage.node_queued += queued.min(room);
    }
    usage
}

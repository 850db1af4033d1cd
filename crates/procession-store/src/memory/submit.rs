//! Recording a new job: replay, admission, the job.

use procession_core::admission::{Full, Usage, Verdict, decide};
use procession_core::id::JobId;
use procession_core::job::{Admission, NewJob, OnDuplicate};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::JobState;

use super::family;
use super::queue::{Job, Kin, Queue};
use crate::error::StoreError;
use crate::store::{Effects, Submitted};

pub(super) fn submit(queue: &mut Queue, job: NewJob) -> Result<Submitted, StoreError> {
    queue.tasks.entry(job.task.clone()).or_default();
    if let Some(earlier) = earlier(queue, &job) {
        return Ok(earlier);
    }
    if queue.jobs.contains_key(&job.id) {
        return Ok(Submitted::Replay(job.id));
    }
    let same = same(queue, &job);
    if let (Some(first), Some(OnDuplicate::Return)) =
        (same.first(), job.unique.as_ref().map(|unique| unique.on_duplicate))
    {
        return Ok(Submitted::Duplicate(*first));
    }
    let all = job.unique.as_ref().is_some_and(|unique| unique.on_duplicate == OnDuplicate::CancelRunning);
    let fresh = |id: &JobId| queue.jobs.get(id).is_some_and(is_fresh);
    let replaced: Vec<JobId> = same.into_iter().filter(|id| all || fresh(id)).collect();
    let places = replaced.iter().filter(|id| fresh(id)).count() as u64;
    if let Some(admission) = job.admission
        && let Some(full) = admit(queue, &job, admission, places)
    {
        return Ok(Submitted::Busy(full));
    }
    let at = job.submitted_at;
    insert(queue, job, None);
    let mut effects = Effects::default();
    for id in replaced {
        let above = queue.jobs.get(&id).and_then(Job::parent);
        if family::stop(queue, id, CancelledBy::Replaced, at, &mut effects)? {
            effects.moved.push(id);
            let outcome = Outcome::cancelled(CancelledBy::Replaced);
            family::child_over(queue, above, &outcome, at, &mut effects)?;
        }
    }
    Ok(Submitted::New(effects))
}

/// The unfinished jobs of its task that have its `unique` value.
fn same(queue: &Queue, job: &NewJob) -> Vec<JobId> {
    let Some(unique) = &job.unique else { return vec![] };
    let has = |other: &&Job| {
        let theirs = other.new.unique.as_ref();
        other.end.is_none() && theirs.is_some_and(|theirs| theirs.value == unique.value)
    };
    queue.of(&job.task).filter(has).map(|other| other.new.id).collect()
}

/// Whether nothing of a job has begun.
fn is_fresh(job: &Job) -> bool {
    job.waits() && job.begun_at.is_none() && job.attempt == 0
}

fn admit(queue: &mut Queue, job: &NewJob, admission: Admission, replaced: u64) -> Option<Full> {
    let mut usage = usage(queue, job, admission);
    usage.unfinished = usage.unfinished.saturating_sub(replaced);
    if let Verdict::Busy(full) = decide(admission.limits, usage) {
        return Some(full);
    }
    let rate = admission.rate?;
    let task = queue.tasks.entry(job.task.clone()).or_default();
    match rate.admit(task.paid_until, job.submitted_at) {
        Ok(until) => {
            task.paid_until = Some(until);
            None
        }
        Err(wait) => Some(Full::Rate(wait)),
    }
}

/// A job and all below it.
fn insert(queue: &mut Queue, mut job: NewJob, kin: Option<Kin>) {
    queue.tasks.entry(job.task.clone()).or_default();
    let later = job.run_at.is_some_and(|at| at > job.submitted_at);
    let (id, root) = (job.id, kin.map_or(job.id, |kin| kin.root));
    let children = job.family.as_mut().map(|family| std::mem::take(&mut family.children));
    for (index, child) in (0..).zip(children.into_iter().flatten()) {
        insert(queue, child, Some(Kin { parent: id, root, index }));
    }
    let fresh = Job {
        kin,
        state: if later { JobState::Scheduled } else { JobState::Queued },
        run_at: job.run_at.unwrap_or(job.submitted_at),
        expires_at: job.expires_at,
        new: job,
        retrying: false,
        begun_at: None,
        late: false,
        joins: false,
        gathers: false,
        attempt: 0,
        deferred: 0,
        claim: None,
        started: None,
        cancel: None,
        attempts: vec![],
        end: None,
    };
    queue.jobs.insert(id, fresh);
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

fn usage(queue: &Queue, job: &NewJob, admission: Admission) -> Usage {
    let unfinished = queue.of(&job.task).filter(|job| job.is_counted()).count() as u64;
    let node_slots = admission.node_slots;
    let mut usage = Usage { unfinished, node_running: 0, node_queued: 0, node_slots };
    // A family asks for no slot of the node.
    if job.family.is_some() {
        usage.node_slots = node_slots.max(1);
        return usage;
    }
    usage.node_running = queue.jobs.values().filter(|job| job.state == JobState::Running).count() as u64;
    for (name, task) in &queue.tasks {
        let limit = match &queue.asked {
            _ if *name == job.task => Some(admission.limits.max_running),
            Some(asked) => asked.get(name).map(|room| room.running),
            None => Some(Limit::Unlimited),
        };
        let room = limit.filter(|_| !task.paused).map_or(0, |limit| limit.room(queue.held(name)));
        let queued = queue.of(name).filter(|job| job.state == JobState::Queued).count() as u64;
        usage.node_queued += queued.min(room);
    }
    usage
}

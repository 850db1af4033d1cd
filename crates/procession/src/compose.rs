//! What a valid request becomes in the store: a job, and all below it. Decides nothing and writes
//! nothing; bodies that do not fit the store are handed back to be written first.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::{Family, FollowUp, NewJob, StoredPayload, Unique, What};
use procession_core::limits::INLINE_PAYLOAD;
use procession_core::task::Task;
use procession_core::validate::{ValidChild, ValidJob};

use crate::random;

/// Makes jobs of one request.
pub struct Composer {
    revision: Arc<str>,
    submitted_by: Arc<str>,
    now: Timestamp,
    /// Children so far: what is given a slot first is first in the list.
    children: u32,
    /// Bodies that are to be files before the jobs are taken.
    pub files: Vec<(JobId, Bytes)>,
}

impl Composer {
    /// For somebody's request that came at `now`.
    pub fn new(revision: &str, submitted_by: &str, now: Timestamp) -> Self {
        let (revision, submitted_by) = (revision.into(), submitted_by.into());
        Self { revision, submitted_by, now, children: 0, files: Vec::new() }
    }

    /// The job as its task has it, without what a request may ask for beside its body; taken without
    /// being admitted.
    pub fn job(&mut self, id: JobId, task: &Arc<Task>, valid: ValidJob, payload: StoredPayload) -> NewJob {
        let unique =
            valid.unique().map(|value| Unique { value: value.into(), on_duplicate: task.on_duplicate });
        NewJob {
            id,
            task: task.name.clone(),
            admission: None,
            payload,
            request: valid.request().clone(),
            labels: valid.labels().clone(),
            priority: 0,
            lane: valid.lane().map(str::to_owned),
            unique,
            max_attempts: task.retry.max_attempts,
            submitted_at: self.now,
            run_at: None,
            expires_at: None,
            idempotency: None,
            submitted_by: self.submitted_by.clone(),
            retry_of: None,
            config_revision: self.revision.clone(),
            follow_ups: follow_ups(task, &valid),
            family: self.family(task, valid),
        }
    }

    /// When a job of the task that is due at `run_at` has waited too long.
    pub fn expires_at(&self, task: &Task, run_at: Option<Timestamp>) -> Option<Timestamp> {
        task.queue_timeout.and_then(|wait| run_at.unwrap_or(self.now).checked_add(wait).ok())
    }

    fn family(&mut self, task: &Task, valid: ValidJob) -> Option<Box<Family>> {
        let fan_out = task.fan_out.as_ref()?;
        let children = valid.into_children().into_iter().map(|child| self.child(child)).collect();
        Some(Box::new(Family {
            max_running: fan_out.max_running,
            on_failure: fan_out.on_failure,
            join: !task.command.is_empty(),
            join_decides: fan_out.join_decides,
            timeout: task.timeout,
            children,
        }))
    }

    fn child(&mut self, child: ValidChild) -> NewJob {
        let ValidChild { task, payload, job } = child;
        let id = JobId::nth(self.now.as_millisecond().unsigned_abs(), self.children, random::bytes());
        self.children += 1;
        let (payload, file) = stored(id, payload);
        self.files.extend(file);
        self.job(id, &task, job, payload)
    }
}

/// A body as the store has it, and what is to be a file for that.
pub fn stored(id: JobId, bytes: Bytes) -> (StoredPayload, Option<(JobId, Bytes)>) {
    if bytes.len() <= INLINE_PAYLOAD {
        return (StoredPayload::Inline(bytes), None);
    }
    (StoredPayload::File { len: bytes.len() as u64 }, Some((id, bytes)))
}

fn follow_ups(task: &Task, valid: &ValidJob) -> Vec<FollowUp> {
    let callback = task.callback.as_ref().zip(valid.callback());
    let callback = callback.map(|(callback, url)| FollowUp {
        on: callback.on.clone(),
        what: What::Callback { url: url.to_owned(), fixed: callback.is_fixed() },
    });
    task.then.iter().cloned().chain(callback).collect()
}

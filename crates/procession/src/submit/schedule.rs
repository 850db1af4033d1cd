//! Through the door by the clock: what a schedule asks for is judged and kept as any request,
//! and goes into the store in the transaction in which its moment passes.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::JobRecord;
use procession_core::placeholder::RequestValues;
use procession_core::schedule::Schedule;
use procession_core::task::Task;
use procession_keeper::fault;
use procession_store::{Fire, Fired, Occasion};

use super::{Accepted, Door, Received, Request, SubmitError};
use crate::random;

/// What became of a schedule's run.
#[derive(Debug)]
pub enum Ran {
    /// There is a job.
    Job(Accepted),
    /// None, because this one before it is not over.
    Skipped(JobId),
    /// None: its moment is not due any more, it is paused, or it is not known.
    Nothing,
}

impl Door {
    /// Runs `schedule`, whose task this is. What the operator's own config asks for is not
    /// refused for want of room, and each run is a job of its own, whatever key the task makes of
    /// its payload.
    pub async fn run(
        &self,
        schedule: &Schedule,
        task: &Arc<Task>,
        occasion: Occasion,
    ) -> Result<Ran, SubmitError> {
        let ran = self.fire(schedule, task, occasion).await;
        if let Err(SubmitError::Store(error)) = &ran {
            self.space.met(error);
        }
        ran
    }

    async fn fire(
        &self,
        schedule: &Schedule,
        task: &Arc<Task>,
        occasion: Occasion,
    ) -> Result<Ran, SubmitError> {
        let (mut job, kept) = self.prepare(random::job_id(), request(schedule, task)).await?;
        (job.admission, job.idempotency) = (None, None);
        let taken = JobRecord::taken(&job);
        let (name, overlap, at) = (schedule.name.clone(), schedule.overlap, Timestamp::now());
        fault::check("submit.before_commit").map_err(io::Error::other)?;
        let fired = self.store.fire(Fire { name, occasion, overlap, job: Some(job), at }).await;
        fault::point("submit.after_commit");
        let submitted = match &fired {
            Ok(Fired::Submitted(submitted)) => Some(submitted),
            _ => None,
        };
        kept.settle(submitted).await;
        match fired? {
            Fired::Submitted(submitted) => Ok(Ran::Job(self.answer(taken, submitted)?)),
            Fired::Skipped(before) => Ok(Ran::Skipped(before)),
            Fired::Passed | Fired::Stale | Fired::Unknown => Ok(Ran::Nothing),
        }
    }
}

fn request(schedule: &Schedule, task: &Arc<Task>) -> Request {
    Request {
        task: task.clone(),
        body: Received::Memory(schedule.payload.clone()),
        values: RequestValues::default(),
        priority: 0,
        lane: None,
        run_at: None,
        idempotency_key: None,
        principal: format!("schedule:{}", schedule.name),
        retry_of: None,
    }
}

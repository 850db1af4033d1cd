//! Through the door after another job: what follows an end is judged and kept as any request, and
//! goes into the store in the transaction in which its delivery arrives.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::JobRecord;
use procession_core::outbox::Delivery;
use procession_core::placeholder::RequestValues;
use procession_core::task::Task;
use procession_keeper::fault;
use procession_store::Submitted;

use super::{Door, Received, Request, SubmitError};

impl Door {
    /// Submits a job of `task` that follows another one, with `body`; the job that is there then.
    /// `None`: the delivery is on its way no more. What the operator's own config asks for is
    /// not refused for want of room.
    pub async fn follow(
        &self,
        delivery: &Delivery,
        task: &Arc<Task>,
        body: Bytes,
    ) -> Result<Option<JobId>, SubmitError> {
        let request = Request {
            task: task.clone(),
            body: Received::Memory(body),
            values: RequestValues::default(),
            priority: 0,
            lane: None,
            run_at: None,
            idempotency_key: None,
            principal: format!("then:{}", delivery.task),
            retry_of: None,
        };
        let id = delivery.following_job();
        let (mut job, mut kept) = self.prepare(id, request).await?;
        // It has been due since the end that it follows, and its id is as old.
        (job.admission, job.submitted_at) = (None, delivery.since());
        let taken = JobRecord::taken(&job);
        fault::check("deliver.before_follow").map_err(io::Error::other)?;
        let submitted = self.store.follow(delivery, job, Timestamp::now()).await;
        fault::point("deliver.after_follow");
        if matches!(&submitted, Ok(Some(Submitted::Replay(there))) if *there == id) {
            // They are the bodies of the job that is there.
            kept.files.clear();
        }
        kept.settle(submitted.as_ref().ok().and_then(Option::as_ref)).await;
        match submitted? {
            Some(submitted) => Ok(Some(self.answer(taken, submitted)?.id())),
            None => Ok(None),
        }
    }
}

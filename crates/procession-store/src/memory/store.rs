//! The contract's verbs, each run under the one lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use procession_core::id::{JobId, TaskName};
use procession_core::job::{AttemptRecord, Claimed, Finished, JobRecord, Lease, NewJob, StoredPayload};
use procession_core::outcome::CancelledBy;
use procession_core::placeholder::RequestValues;
use procession_core::record::Containment;

use super::queue::{self, Queue};
use super::{cancel, claim, delete, expire, finish, list, query, release, started, submit, tasks};
use crate::error::StoreError;
use crate::store::{Applied, Cancelled, Claim, ClaimedBatch, Deleted, Query, Store, Submitted, TaskCounts};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    queue: Mutex<Queue>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn submit(&self, job: NewJob) -> Result<Submitted, StoreError> {
        Ok(submit::submit(&mut self.queue(), job))
    }

    async fn claim(&self, claim: Claim) -> Result<ClaimedBatch, StoreError> {
        claim::claim(&mut self.queue(), &claim)
    }

    async fn claimed_by(&self, node: &str) -> Result<Vec<(Claimed, [u8; 16])>, StoreError> {
        Ok(query::claimed_by(&self.queue(), node))
    }

    async fn started(
        &self,
        lease: Lease,
        at: Timestamp,
        containment: Containment,
    ) -> Result<Applied, StoreError> {
        Ok(started::started(&mut self.queue(), lease, at, containment))
    }

    async fn finish(&self, finished: Finished) -> Result<Applied, StoreError> {
        finish::finish(&mut self.queue(), finished)
    }

    async fn release(&self, lease: Lease, not_before: Option<Timestamp>) -> Result<Applied, StoreError> {
        release::release(&mut self.queue(), lease, not_before)
    }

    async fn cancel(&self, job: JobId, by: CancelledBy, at: Timestamp) -> Result<Cancelled, StoreError> {
        cancel::cancel(&mut self.queue(), job, by, at)
    }

    async fn expire(&self, now: Timestamp) -> Result<Vec<JobId>, StoreError> {
        expire::expire(&mut self.queue(), now)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(query::next_due(&self.queue()))
    }

    async fn put_tasks(&self, tasks: Vec<TaskName>) -> Result<(), StoreError> {
        tasks::put_tasks(&mut self.queue(), tasks);
        Ok(())
    }

    async fn pause(&self, task: &TaskName, paused: bool) -> Result<bool, StoreError> {
        Ok(tasks::pause(&mut self.queue(), task, paused))
    }

    async fn get(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        Ok(self.queue().jobs.get(&job).map(queue::Job::record))
    }

    async fn payload(&self, job: JobId) -> Result<Option<(StoredPayload, RequestValues)>, StoreError> {
        Ok(query::payload(&self.queue(), job))
    }

    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        Ok(query::attempts(&self.queue(), job))
    }

    async fn list(&self, query: Query) -> Result<Vec<JobRecord>, StoreError> {
        Ok(list::list(&self.queue(), &query))
    }

    async fn ids_ending(&self, suffix: &str, most: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(query::ids_ending(&self.queue(), suffix, most))
    }

    async fn position(&self, job: JobId) -> Result<Option<u64>, StoreError> {
        Ok(query::position(&self.queue(), job))
    }

    async fn delete(&self, job: JobId) -> Result<Deleted, StoreError> {
        Ok(delete::delete(&mut self.queue(), job))
    }

    async fn prune(&self, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(delete::prune(&mut self.queue(), before, most))
    }

    async fn stats(&self) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError> {
        Ok(tasks::stats(&self.queue()))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

//! The contract's verbs, each run under the one lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use procession_core::family::ChildEnd;
use procession_core::id::{JobId, TaskName};
use procession_core::job::{
    AttemptRecord, Claimed, FamilyEnd, Finished, JobRecord, Lease, NewJob, StoredPayload,
};
use procession_core::outbox::{Delivery, DeliveryId, Tried};
use procession_core::outcome::CancelledBy;
use procession_core::placeholder::RequestValues;
use procession_core::record::Containment;
use procession_core::schedule::ScheduleName;

use super::queue::Queue;
use super::{
    cancel, claim, delete, delivery, expire, family, finish, list, query, release, schedule, started, submit,
    tasks,
};
use crate::error::StoreError;
use crate::store::{
    Applied, Cancelled, Change, Claim, ClaimedBatch, Deleted, DeliveryQuery, Due, Effects, Fire, Fired,
    KnownSchedule, Query, ScheduleRow, ScheduleState, Standing, Store, Submitted, TaskCounts,
};

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
        submit::submit(&mut self.queue(), job)
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

    async fn finish(&self, finished: Finished) -> Result<Change, StoreError> {
        finish::finish(&mut self.queue(), finished)
    }

    async fn gather(&self, end: FamilyEnd) -> Result<Change, StoreError> {
        family::gather(&mut self.queue(), end)
    }

    async fn to_gather(&self, most: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(family::to_gather(&self.queue(), most))
    }

    async fn child_ends(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<ChildEnd>, StoreError> {
        Ok(family::child_ends(&self.queue(), parent, after, most))
    }

    async fn children(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        Ok(list::children(&self.queue(), parent, after, most))
    }

    async fn release(&self, lease: Lease, not_before: Option<Timestamp>) -> Result<Change, StoreError> {
        release::release(&mut self.queue(), lease, not_before)
    }

    async fn cancel(&self, job: JobId, by: CancelledBy, at: Timestamp) -> Result<Cancelled, StoreError> {
        cancel::cancel(&mut self.queue(), job, by, at)
    }

    async fn expire(&self, now: Timestamp) -> Result<Effects, StoreError> {
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
        let queue = self.queue();
        Ok(queue.jobs.get(&job).map(|job| queue.record(job)))
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

    async fn standing(&self, job: JobId) -> Result<Option<Standing>, StoreError> {
        Ok(query::standing(&self.queue(), job))
    }

    async fn delete(&self, job: JobId) -> Result<Deleted, StoreError> {
        Ok(delete::delete(&mut self.queue(), job))
    }

    async fn prune(&self, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(delete::prune(&mut self.queue(), before, most))
    }

    async fn take_deliveries(&self, ask: Due) -> Result<Vec<Delivery>, StoreError> {
        Ok(delivery::take(&self.queue(), &ask))
    }

    async fn next_delivery_due(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        Ok(delivery::next_due(&self.queue(), after))
    }

    async fn ack_delivery(&self, delivery: &Delivery, tried: Tried) -> Result<Applied, StoreError> {
        Ok(delivery::ack(&mut self.queue(), delivery, tried))
    }

    async fn follow(
        &self,
        delivery: &Delivery,
        job: NewJob,
        at: Timestamp,
    ) -> Result<Option<Submitted>, StoreError> {
        delivery::follow(&mut self.queue(), delivery, job, at)
    }

    async fn repeat_delivery(&self, delivery: DeliveryId, at: Timestamp) -> Result<bool, StoreError> {
        Ok(delivery::repeat(&mut self.queue(), delivery, at))
    }

    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        Ok(delivery::one(&self.queue(), delivery))
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
        Ok(delivery::list(&self.queue(), &query))
    }

    async fn stats(&self) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError> {
        Ok(tasks::stats(&self.queue()))
    }

    async fn put_schedules(&self, schedules: Vec<KnownSchedule>) -> Result<(), StoreError> {
        schedule::put_schedules(&mut self.queue(), schedules);
        Ok(())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        Ok(schedule::schedules(&self.queue()))
    }

    async fn fire(&self, fire: Fire) -> Result<Fired, StoreError> {
        schedule::fire(&mut self.queue(), fire)
    }

    async fn set_schedule(&self, name: &ScheduleName, state: ScheduleState) -> Result<bool, StoreError> {
        Ok(schedule::set_schedule(&mut self.queue(), name, state))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

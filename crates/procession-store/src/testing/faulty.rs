//! A store in front of a store: it counts the calls and, at the one it was told of, returns an
//! error or runs a hook, before the verb is done or after. After: the write is on the disk and
//! its answer is lost, as when a connection breaks behind a COMMIT.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

use super::verb::Verb;
use crate::error::StoreError;
use crate::store::{
    Applied, Cancelled, Change, Claim, ClaimedBatch, Deleted, DeliveryQuery, Due, Effects, Fire, Fired,
    KnownSchedule, Query, ScheduleRow, ScheduleState, Standing, Store, Submitted, TaskCounts,
};

/// On which side of a verb something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before: an error here means that nothing was done.
    Before,
    /// After: an error here means that it was done, and that the caller does not know.
    After,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

enum Act {
    Fail(StoreError),
    Run(Hook),
}

struct Fault {
    /// `None`: whichever verb it is.
    verb: Option<Verb>,
    /// Counted from 1.
    nth: u64,
    when: When,
    act: Act,
}

#[derive(Default)]
struct Plan {
    all: u64,
    by_verb: BTreeMap<Verb, u64>,
    faults: Vec<Fault>,
}

/// A store that fails where it is told to.
///
/// ```
/// use std::sync::Arc;
/// use procession_store::testing::{FaultyStore, Verb, When};
/// use procession_store::{MemoryStore, StoreError};
///
/// let store = FaultyStore::new(Arc::new(MemoryStore::new()));
/// store.fail(Verb::Finish, 2, When::After, StoreError::Full);
/// assert_eq!(store.calls(), 0);
/// ```
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
}

impl FaultyStore {
    /// One that does what `inner` does.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// Fails the `nth` call, from 1, of a verb; of any where none is named (`None`).
    pub fn fail(&self, verb: impl Into<Option<Verb>>, nth: u64, when: When, error: StoreError) {
        self.add(verb.into(), nth, when, Act::Fail(error));
    }

    /// Runs `hook` at the `nth` call, from 1, of a verb; of any where none is named (`None`).
    pub fn run(
        &self,
        verb: impl Into<Option<Verb>>,
        nth: u64,
        when: When,
        hook: impl Fn() + Send + Sync + 'static,
    ) {
        self.add(verb.into(), nth, when, Act::Run(Arc::new(hook)));
    }

    /// How many calls there were, of all verbs.
    pub fn calls(&self) -> u64 {
        self.plan().all
    }

    /// How many calls of one verb there were.
    pub fn calls_of(&self, verb: Verb) -> u64 {
        self.plan().by_verb.get(&verb).copied().unwrap_or(0)
    }

    fn add(&self, verb: Option<Verb>, nth: u64, when: When, act: Act) {
        self.plan().faults.push(Fault { verb, nth, when, act });
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; its number among all and among those of its verb.
    fn count(&self, verb: Verb) -> (u64, u64) {
        let mut plan = self.plan();
        plan.all += 1;
        let own = plan.by_verb.entry(verb).or_default();
        *own += 1;
        let own = *own;
        (plan.all, own)
    }

    fn meet(&self, verb: Verb, (all, own): (u64, u64), now: When) -> Result<(), StoreError> {
        let met = |fault: &&Fault| {
            let number = if fault.verb.is_none() { all } else { own };
            fault.when == now && fault.nth == number && fault.verb.is_none_or(|named| named == verb)
        };
        let mut hooks = Vec::new();
        let mut failed = Ok(());
        for fault in self.plan().faults.iter().filter(met) {
            match &fault.act {
                Act::Run(hook) => hooks.push(Arc::clone(hook)),
                Act::Fail(error) => failed = Err(error.clone()),
            }
        }
        // Without the lock: a hook may call the store.
        hooks.iter().for_each(|hook| hook());
        failed
    }

    async fn around<T>(
        &self,
        verb: Verb,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let number = self.count(verb);
        self.meet(verb, number, When::Before)?;
        let answer = call.await?;
        self.meet(verb, number, When::After)?;
        Ok(answer)
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn submit(&self, job: NewJob) -> Result<Submitted, StoreError> {
        self.around(Verb::Submit, self.inner.submit(job)).await
    }

    async fn claim(&self, claim: Claim) -> Result<ClaimedBatch, StoreError> {
        self.around(Verb::Claim, self.inner.claim(claim)).await
    }

    async fn claimed_by(&self, node: &str) -> Result<Vec<(Claimed, [u8; 16])>, StoreError> {
        self.around(Verb::ClaimedBy, self.inner.claimed_by(node)).await
    }

    async fn started(
        &self,
        lease: Lease,
        at: Timestamp,
        containment: Containment,
    ) -> Result<Applied, StoreError> {
        self.around(Verb::Started, self.inner.started(lease, at, containment)).await
    }

    async fn finish(&self, finished: Finished) -> Result<Change, StoreError> {
        self.around(Verb::Finish, self.inner.finish(finished)).await
    }

    async fn gather(&self, end: FamilyEnd) -> Result<Change, StoreError> {
        self.around(Verb::Gather, self.inner.gather(end)).await
    }

    async fn to_gather(&self, most: usize) -> Result<Vec<JobId>, StoreError> {
        self.around(Verb::ToGather, self.inner.to_gather(most)).await
    }

    async fn child_ends(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<ChildEnd>, StoreError> {
        self.around(Verb::ChildEnds, self.inner.child_ends(parent, after, most)).await
    }

    async fn children(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.around(Verb::Children, self.inner.children(parent, after, most)).await
    }

    async fn release(&self, lease: Lease, not_before: Option<Timestamp>) -> Result<Change, StoreError> {
        self.around(Verb::Release, self.inner.release(lease, not_before)).await
    }

    async fn cancel(&self, job: JobId, by: CancelledBy, at: Timestamp) -> Result<Cancelled, StoreError> {
        self.around(Verb::Cancel, self.inner.cancel(job, by, at)).await
    }

    async fn expire(&self, now: Timestamp) -> Result<Effects, StoreError> {
        self.around(Verb::Expire, self.inner.expire(now)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.around(Verb::NextDue, self.inner.next_due()).await
    }

    async fn put_tasks(&self, tasks: Vec<TaskName>) -> Result<(), StoreError> {
        self.around(Verb::PutTasks, self.inner.put_tasks(tasks)).await
    }

    async fn pause(&self, task: &TaskName, paused: bool) -> Result<bool, StoreError> {
        self.around(Verb::Pause, self.inner.pause(task, paused)).await
    }

    async fn get(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.around(Verb::Get, self.inner.get(job)).await
    }

    async fn payload(&self, job: JobId) -> Result<Option<(StoredPayload, RequestValues)>, StoreError> {
        self.around(Verb::Payload, self.inner.payload(job)).await
    }

    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        self.around(Verb::Attempts, self.inner.attempts(job)).await
    }

    async fn list(&self, query: Query) -> Result<Vec<JobRecord>, StoreError> {
        self.around(Verb::List, self.inner.list(query)).await
    }

    async fn ids_ending(&self, suffix: &str, most: usize) -> Result<Vec<JobId>, StoreError> {
        self.around(Verb::IdsEnding, self.inner.ids_ending(suffix, most)).await
    }

    async fn standing(&self, job: JobId) -> Result<Option<Standing>, StoreError> {
        self.around(Verb::Standing, self.inner.standing(job)).await
    }

    async fn delete(&self, job: JobId) -> Result<Deleted, StoreError> {
        self.around(Verb::Delete, self.inner.delete(job)).await
    }

    async fn prune(&self, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError> {
        self.around(Verb::Prune, self.inner.prune(before, most)).await
    }

    async fn take_deliveries(&self, ask: Due) -> Result<Vec<Delivery>, StoreError> {
        self.around(Verb::TakeDeliveries, self.inner.take_deliveries(ask)).await
    }

    async fn next_delivery_due(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.around(Verb::NextDeliveryDue, self.inner.next_delivery_due(after)).await
    }

    async fn ack_delivery(&self, delivery: &Delivery, tried: Tried) -> Result<Applied, StoreError> {
        self.around(Verb::AckDelivery, self.inner.ack_delivery(delivery, tried)).await
    }

    async fn follow(
        &self,
        delivery: &Delivery,
        job: NewJob,
        at: Timestamp,
    ) -> Result<Option<Submitted>, StoreError> {
        self.around(Verb::Follow, self.inner.follow(delivery, job, at)).await
    }

    async fn repeat_delivery(&self, delivery: DeliveryId, at: Timestamp) -> Result<bool, StoreError> {
        self.around(Verb::RepeatDelivery, self.inner.repeat_delivery(delivery, at)).await
    }

    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.around(Verb::Delivery, self.inner.delivery(delivery)).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
        self.around(Verb::Deliveries, self.inner.deliveries(query)).await
    }

    async fn stats(&self) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError> {
        self.around(Verb::Stats, self.inner.stats()).await
    }

    async fn put_schedules(&self, schedules: Vec<KnownSchedule>) -> Result<(), StoreError> {
        self.around(Verb::PutSchedules, self.inner.put_schedules(schedules)).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        self.around(Verb::Schedules, self.inner.schedules()).await
    }

    async fn fire(&self, fire: Fire) -> Result<Fired, StoreError> {
        self.around(Verb::Fire, self.inner.fire(fire)).await
    }

    async fn set_schedule(&self, name: &ScheduleName, state: ScheduleState) -> Result<bool, StoreError> {
        self.around(Verb::SetSchedule, self.inner.set_schedule(name, state)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.around(Verb::Probe, self.inner.probe()).await
    }
}

//! The contract's verbs, each sent to the thread that does it.

use std::collections::BTreeMap;
use std::path::Path;

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
use rusqlite::Connection;

use super::readers::Readers;
use super::record::{self, Extent};
use super::writer::{Sync, Writer};
use super::{
    cancel, claim, delete, delivery, expire, family, finish, list, open, probe, query, release, schedule,
    started, submit, tasks,
};
use crate::error::StoreError;
use crate::store::{
    Applied, Cancelled, Change, Claim, ClaimedBatch, Deleted, DeliveryQuery, Due, Effects, Fire, Fired,
    KnownSchedule, Query, ScheduleRow, ScheduleState, Standing, Store, Submitted, TaskCounts,
};

/// A store in a SQLite file. Dropping it waits for the writes under way and closes the file.
pub struct SqliteStore {
    // In this order: the last connection to close tidies the log away.
    readers: Readers,
    pub(super) writer: Writer,
}

impl SqliteStore {
    /// Opens the store at `path`, or makes an empty one where there is no file.
    ///
    /// A file that is empty, cut off, damaged, another program's or a newer version's is
    /// [`StoreError::Refused`] and left as it is. The caller holds the lock of its folder.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::with(open::writable(path)?, path)
    }

    /// On a connection that is ready to write to the file at `path`.
    pub(super) fn with(conn: Connection, path: &Path) -> Result<Self, StoreError> {
        let writer = Writer::start(conn, path)?;
        Ok(Self { readers: Readers::start(path)?, writer })
    }

    /// Looks at the store at `path` as [`SqliteStore::open`] would and changes nothing, also
    /// while another process writes to it. Gives the counts of its tasks; none without a file.
    pub fn check(path: &Path) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError> {
        open::as_it_is(path)?.map_or_else(|| Ok(BTreeMap::new()), |conn| tasks::stats(&conn))
    }

    /// Gives the store away: writes sent before are committed and answered, later ones are
    /// [`StoreError::Closed`], and another process may open the file. Reads go on and see
    /// what that one commits. Blocks until the last write is on the disk.
    pub fn stop_writing(&self) {
        self.writer.stop();
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn submit(&self, job: NewJob) -> Result<Submitted, StoreError> {
        self.writer.write(Sync::Full, move |tx| submit::submit(tx, &job)).await
    }

    async fn claim(&self, claim: Claim) -> Result<ClaimedBatch, StoreError> {
        self.writer.write(Sync::Full, move |tx| claim::claim(tx, &claim)).await
    }

    async fn claimed_by(&self, node: &str) -> Result<Vec<(Claimed, [u8; 16])>, StoreError> {
        let node = node.to_owned();
        self.readers.read(move |conn| query::claimed_by(conn, &node)).await
    }

    async fn started(
        &self,
        lease: Lease,
        at: Timestamp,
        containment: Containment,
    ) -> Result<Applied, StoreError> {
        self.writer.write(Sync::Lazy, move |tx| started::started(tx, lease, at, containment)).await
    }

    async fn finish(&self, finished: Finished) -> Result<Change, StoreError> {
        self.writer.write(Sync::Full, move |tx| finish::finish(tx, &finished)).await
    }

    async fn gather(&self, end: FamilyEnd) -> Result<Change, StoreError> {
        self.writer.write(Sync::Full, move |tx| family::gather(tx, &end)).await
    }

    async fn to_gather(&self, most: usize) -> Result<Vec<JobId>, StoreError> {
        self.readers.read(move |conn| family::to_gather(conn, most)).await
    }

    async fn child_ends(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<ChildEnd>, StoreError> {
        self.readers.read(move |conn| family::child_ends(conn, parent, after, most)).await
    }

    async fn children(
        &self,
        parent: JobId,
        after: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.readers.read(move |conn| list::children(conn, parent, after, most)).await
    }

    async fn release(&self, lease: Lease, not_before: Option<Timestamp>) -> Result<Change, StoreError> {
        self.writer.write(Sync::Full, move |tx| release::release(tx, lease, not_before)).await
    }

    async fn cancel(&self, job: JobId, by: CancelledBy, at: Timestamp) -> Result<Cancelled, StoreError> {
        self.writer.write(Sync::Full, move |tx| cancel::cancel(tx, job, by, at)).await
    }

    async fn expire(&self, now: Timestamp) -> Result<Effects, StoreError> {
        self.writer.write(Sync::Full, move |tx| expire::expire(tx, now)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.readers.read(query::next_due).await
    }

    async fn put_tasks(&self, tasks: Vec<TaskName>) -> Result<(), StoreError> {
        self.writer.write(Sync::Full, move |tx| tasks::put_tasks(tx, &tasks)).await
    }

    async fn pause(&self, task: &TaskName, paused: bool) -> Result<bool, StoreError> {
        let task = task.clone();
        self.writer.write(Sync::Full, move |tx| Ok(tx.ledger.pause(&task, paused))).await
    }

    async fn get(&self, job: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.readers.read(move |conn| record::job(conn, job, Extent::Whole)).await
    }

    async fn payload(&self, job: JobId) -> Result<Option<(StoredPayload, RequestValues)>, StoreError> {
        self.readers.read(move |conn| query::payload(conn, job)).await
    }

    async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        self.readers.read(move |conn| record::attempts(conn, job)).await
    }

    async fn list(&self, query: Query) -> Result<Vec<JobRecord>, StoreError> {
        self.readers.read(move |conn| list::list(conn, &query)).await
    }

    async fn ids_ending(&self, suffix: &str, most: usize) -> Result<Vec<JobId>, StoreError> {
        let suffix = suffix.to_owned();
        self.readers.read(move |conn| query::ids_ending(conn, &suffix, most)).await
    }

    async fn standing(&self, job: JobId) -> Result<Option<Standing>, StoreError> {
        self.readers.read(move |conn| query::standing(conn, job)).await
    }

    async fn delete(&self, job: JobId) -> Result<Deleted, StoreError> {
        self.writer.write(Sync::Full, move |tx| delete::delete(tx, job)).await
    }

    async fn prune(&self, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError> {
        self.writer.write(Sync::Full, move |tx| delete::prune(tx, before, most)).await
    }

    async fn take_deliveries(&self, ask: Due) -> Result<Vec<Delivery>, StoreError> {
        self.readers.read(move |conn| delivery::take(conn, &ask)).await
    }

    async fn next_delivery_due(&self, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.readers.read(move |conn| delivery::next_due(conn, after)).await
    }

    async fn ack_delivery(&self, delivery: &Delivery, tried: Tried) -> Result<Applied, StoreError> {
        let delivery = delivery.clone();
        self.writer.write(Sync::Full, move |tx| delivery::ack(tx, &delivery, &tried)).await
    }

    async fn follow(
        &self,
        delivery: &Delivery,
        job: NewJob,
        at: Timestamp,
    ) -> Result<Option<Submitted>, StoreError> {
        let delivery = delivery.clone();
        self.writer.write(Sync::Full, move |tx| delivery::follow(tx, &delivery, &job, at)).await
    }

    async fn repeat_delivery(&self, delivery: DeliveryId, at: Timestamp) -> Result<bool, StoreError> {
        self.writer.write(Sync::Full, move |tx| delivery::repeat(tx, delivery, at)).await
    }

    async fn delivery(&self, delivery: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.readers.read(move |conn| delivery::one(conn, delivery)).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
        self.readers.read(move |conn| delivery::list(conn, &query)).await
    }

    async fn stats(&self) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError> {
        self.readers.read(tasks::stats).await
    }

    async fn put_schedules(&self, schedules: Vec<KnownSchedule>) -> Result<(), StoreError> {
        self.writer.write(Sync::Full, move |tx| schedule::put_schedules(tx, &schedules)).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        self.readers.read(schedule::schedules).await
    }

    async fn fire(&self, fire: Fire) -> Result<Fired, StoreError> {
        self.writer.write(Sync::Full, move |tx| schedule::fire(tx, &fire)).await
    }

    async fn set_schedule(&self, name: &ScheduleName, state: ScheduleState) -> Result<bool, StoreError> {
        let name = name.clone();
        self.writer.write(Sync::Full, move |tx| schedule::set_schedule(tx, &name, state)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.writer.write(Sync::Full, probe::probe).await
    }
}

//! Giving slots to queued jobs: joins first, then tasks in turn, in each its lanes and families
//! in turn, within these in the order of the queue.
//!
//! A task that is paused, full, unknown to the caller or without a queue is passed over in
//! memory. Held slots are counted from rows, and only where a limit asks for it.

use std::collections::{HashMap, VecDeque};

use procession_core::id::{AttemptNumber, ClaimId, JobId, TaskName};
use procession_core::job::{Claimed, Lease, StoredPayload};
use procession_core::limits::Limit;
use procession_core::retry::History;
use procession_core::state::{JobState, Move};
use rusqlite::{Connection, Row, params};

use super::lanes::{Bound, Group};
use super::ledger::Place;
use super::writer::Tx;
use super::{column, family, statement};
use crate::error::StoreError;
use crate::store::{BEGUN_MOST, Claim, ClaimedBatch, Room};

/// The most scheduled jobs one claim promotes; the next one goes on where it ended.
const PROMOTE_MOST: i64 = 1_000;

pub(super) const DUE: &str = "
    SELECT job, task, lane, parent, joins, retrying FROM live
    WHERE state = 'scheduled' AND run_at <= ?1 ORDER BY run_at LIMIT ?2";
pub(super) const PROMOTE: &str = "UPDATE live SET state = 'queued', retrying = 0 WHERE job = ?1";
pub(super) const HELD: &str = "
    SELECT task, count(*) FROM live WHERE holds_slot = 1 AND begun_at IS NULL GROUP BY task
    UNION ALL SELECT task, count(*) FROM live WHERE begun_at IS NOT NULL GROUP BY task";
pub(super) const HELD_BY_LANE: &str = "
    SELECT (SELECT count(*) FROM live WHERE holds_slot = 1 AND begun_at IS NULL AND task = ?1 AND lane = ?2)
        + (SELECT count(*) FROM live WHERE begun_at IS NOT NULL AND task = ?1 AND lane = ?2)";
pub(super) const HELD_BY_FAMILY: &str = "
    SELECT above.begun_at IS NOT NULL, family.max_running,
        (SELECT count(*) FROM live
         WHERE parent = ?1 AND parent IS NOT NULL AND (holds_slot = 1 OR begun_at IS NOT NULL))
    FROM live AS above JOIN family ON family.job = above.job WHERE above.job = ?1";
pub(super) const NEXT: &str = "
    SELECT job, attempt, deferred, is_parent FROM live
    WHERE state = 'queued' AND joins = 0 AND task = ?1 AND lane IS ?2 AND parent IS ?3
        AND (expires_at IS NULL OR expires_at > ?4)
    ORDER BY priority DESC, run_at, job LIMIT ?5";
pub(super) const JOINS: &str = "
    SELECT live.job AS job, attempt, deferred, live.task AS task, task.name AS name, lane, parent
    FROM live JOIN task ON task.id = live.task
    WHERE state = 'queued' AND joins = 1 AND paused = 0 ORDER BY priority DESC, run_at, job";
pub(super) const GIVE: &str = "
    UPDATE live SET state = 'running', holds_slot = 1, attempt = attempt + 1, fence = ?2, claim_id = ?3,
        node = ?4, boot_id = ?5, claimed_at = ?6
    WHERE job = ?1";
pub(super) const SPEC: &str = "
    SELECT payload_len, payload, request, submitted_at, child_index, job.parent AS parent, begun_at
    FROM job JOIN live ON live.job = job.id WHERE id = ?1";
pub(super) const OUTCOMES: &str = "SELECT outcome FROM attempt WHERE job = ?1 ORDER BY attempt";
pub(super) const NEXT_SCHEDULED: &str = "SELECT min(run_at) FROM live WHERE state = 'scheduled'";

pub(super) fn claim(tx: &mut Tx<'_>, claim: &Claim) -> Result<ClaimedBatch, StoreError> {
    promote(tx, claim)?;
    if tx.ledger.asked.as_ref() != Some(&claim.tasks) {
        tx.ledger.asked = Some(claim.tasks.clone());
        tx.ledger.lanes.forget();
    }
    tx.ledger.lanes.read(tx.conn)?;
    let mut batch = ClaimedBatch::default();
    give_joins(tx, claim, &mut batch)?;
    let mut turns = Turns::new(tx, claim)?;
    while batch.jobs.len() < claim.free
        && batch.begun.len() < BEGUN_MOST
        && let Some((name, task, waiting)) = turns.next(tx, claim, batch.jobs.len())?
    {
        tx.ledger.turn = Some(name.clone());
        if waiting.is_parent {
            family::begin(tx, waiting.job, claim.now, &mut batch.effects)?;
            batch.begun.push(waiting.job);
            // Others have something to run now.
            turns = Turns::new(tx, claim)?;
            continue;
        }
        batch.jobs.push(give(tx, claim, batch.jobs.len(), &name, task, &waiting)?);
    }
    let next_due = statement::one(tx.conn, NEXT_SCHEDULED, [], |row| column::maybe_time(row.get(0)?))?;
    batch.next_due = next_due.flatten();
    Ok(batch)
}

fn promote(tx: &mut Tx<'_>, claim: &Claim) -> Result<(), StoreError> {
    let promoted = column::after(JobState::Scheduled, Move::Promote)?;
    let values = params![column::micros(claim.now), PROMOTE_MOST];
    let due = statement::all(tx.conn, DUE, values, |row| {
        let (job, task): (JobId, i64) = (column::id(row, "job")?, row.get("task")?);
        Ok((job, task, Group::of(row)?, row.get::<_, bool>("joins")?, row.get::<_, bool>("retrying")?))
    })?;
    for (job, task, group, joins, retrying) in due {
        statement::run(tx.conn, PROMOTE, [job.as_bytes().as_slice()])?;
        let from = Place { retrying, ..Place::new(JobState::Scheduled, group.parent) };
        tx.ledger.moved(task, from, from.to(promoted))?;
        if !joins {
            tx.ledger.lanes.waits(task, &group);
        }
    }
    Ok(())
}

/// How much of its limit each task holds, counted from rows: its attempts that hold a slot, and its
/// families that have begun, with or without their join.
pub(super) fn held(conn: &Connection) -> Result<HashMap<i64, u64>, StoreError> {
    let mut held = HashMap::new();
    for (task, many) in statement::all(conn, HELD, [], |row| Ok((row.get(0)?, column::count(row.get(1)?)?)))?
    {
        *held.entry(task).or_default() += many;
    }
    Ok(held)
}

/// Families end before others go on. Their joins have a place under every limit but the node's.
fn give_joins(tx: &mut Tx<'_>, claim: &Claim, batch: &mut ClaimedBatch) -> Result<(), StoreError> {
    let mut found = Vec::new();
    {
        let mut statement = tx.conn.prepare_cached(JOINS)?;
        let mut rows = statement.query([])?;
        while found.len() < claim.free
            && let Some(row) = rows.next()?
        {
            let name = column::task_name(&row.get::<_, String>("name")?)?;
            if claim.tasks.contains_key(&name) {
                found.push((name, row.get::<_, i64>("task")?, Waiting::read(row, Group::of(row)?)?));
            }
        }
    }
    for (name, task, waiting) in found {
        batch.jobs.push(give(tx, claim, batch.jobs.len(), &name, task, &waiting)?);
    }
    Ok(())
}

/// A queued row on its way to a slot.
struct Waiting {
    job: JobId,
    group: Group,
    attempt: u32,
    deferred: u32,
    is_parent: bool,
}

impl Waiting {
    fn read(row: &Row<'_>, group: Group) -> Result<Self, StoreError> {
        let (job, attempt, deferred) = (column::id(row, "job")?, row.get(1)?, row.get(2)?);
        Ok(Self { job, group, attempt, deferred, is_parent: false })
    }
}

/// The tasks that may be given a slot, in the order of their turns.
struct Turns {
    ring: VecDeque<Candidate>,
}

struct Candidate {
    name: TaskName,
    task: i64,
    room: u64,
    per_lane: Limit,
    /// Its next rows, read but not given yet.
    next: VecDeque<Waiting>,
}

impl Turns {
    fn new(tx: &Tx<'_>, claim: &Claim) -> Result<Self, StoreError> {
        let mut ring: Vec<Candidate> = Vec::new();
        let mut limited = false;
        for (name, Room { running, per_lane }) in &claim.tasks {
            let waits = tx.ledger.find(name).filter(|task| task.queued > 0 && !task.paused);
            if let Some(task) = waits.filter(|task| tx.ledger.lanes.ready(task.id) > 0) {
                limited |= *running != Limit::Unlimited;
                let (name, room, next) = (name.clone(), running.room(0), VecDeque::new());
                ring.push(Candidate { name, task: task.id, room, per_lane: *per_lane, next });
            }
        }
        if limited && claim.free > 0 {
            let held = held(tx.conn)?;
            for candidate in &mut ring {
                let running = held.get(&candidate.task).copied().unwrap_or(0);
                candidate.room = candidate.room.saturating_sub(running);
            }
            ring.retain(|candidate| candidate.room > 0);
        }
        if let Some(last) = &tx.ledger.turn {
            let first = ring.partition_point(|candidate| candidate.name <= *last);
            ring.rotate_left(first);
        }
        Ok(Self { ring: ring.into() })
    }

    /// The next job, of the task whose turn it is.
    fn next(
        &mut self,
        tx: &mut Tx<'_>,
        claim: &Claim,
        given: usize,
    ) -> Result<Option<(TaskName, i64, Waiting)>, StoreError> {
        while let Some(mut candidate) = self.ring.pop_front() {
            if candidate.next.is_empty() {
                // Its share of what is free: it is asked for more when others had less.
                let share = (claim.free - given) / (self.ring.len() + 1) + 1;
                candidate.fill(tx, claim, share as u64)?;
            }
            let Some(waiting) = candidate.next.pop_front() else { continue };
            tx.ledger.lanes.served(candidate.task, &waiting.group);
            let found = (candidate.name.clone(), candidate.task, waiting);
            candidate.room -= 1;
            if candidate.room > 0 {
                self.ring.push_back(candidate);
            }
            return Ok(Some(found));
        }
        Ok(None)
    }
}

impl Candidate {
    /// Reads the head of the queue of the group whose turn it is; rows given before are not in it
    /// any more.
    fn fill(&mut self, tx: &mut Tx<'_>, claim: &Claim, share: u64) -> Result<(), StoreError> {
        while self.next.is_empty()
            && let Some(group) = tx.ledger.lanes.next(self.task)
        {
            let (room, bound) = self.room(tx.conn, &group)?;
            if room == 0 {
                tx.ledger.lanes.put_aside(self.task, &group, bound);
                continue;
            }
            // Where several take turns, one row is given before the next is counted.
            let share = if tx.ledger.lanes.ready(self.task) > 1 { 1 } else { share };
            let most = share.min(room).min(self.room);
            let parent = group.parent.as_ref().map(|parent| parent.as_bytes().as_slice());
            let values = params![
                self.task,
                group.lane.as_deref(),
                parent,
                column::micros(claim.now),
                column::number(most)
            ];
            self.next = statement::all(tx.conn, NEXT, values, |row| {
                Ok(Waiting { is_parent: row.get(3)?, ..Waiting::read(row, group.clone())? })
            })?
            .into();
            // Fewer than asked for are not all there are: what was read may be read again.
            if self.next.is_empty() {
                tx.ledger.lanes.is_empty(self.task, &group);
            }
        }
        Ok(())
    }

    /// How many of the group may be given a slot, and by what it is bound.
    fn room(&self, conn: &Connection, group: &Group) -> Result<(u64, Bound), StoreError> {
        let mut room = (u64::MAX, Bound::Lane);
        if let (Limit::AtMost(most), Some(lane)) = (self.per_lane, &group.lane) {
            let held = statement::one(conn, HELD_BY_LANE, params![self.task, lane], |row| {
                column::count(row.get(0)?)
            })?;
            room.0 = most.saturating_sub(held.unwrap_or(0));
        }
        if let Some(parent) = group.parent {
            let family = family_room(conn, parent)?;
            if family < room.0 {
                room = (family, Bound::Family);
            }
        }
        Ok(room)
    }
}

/// How many more children of a parent may be given a slot; none before its family has begun.
fn family_room(conn: &Connection, parent: JobId) -> Result<u64, StoreError> {
    let room = statement::one(conn, HELD_BY_FAMILY, [parent.as_bytes().as_slice()], |row| {
        let (begun, most): (bool, Option<i64>) = (row.get(0)?, row.get(1)?);
        let limit = most.map(column::count).transpose()?.map_or(Limit::Unlimited, Limit::AtMost);
        Ok(if begun { limit.room(column::count(row.get(2)?)?) } else { 0 })
    })?;
    Ok(room.unwrap_or(0))
}

fn give(
    tx: &mut Tx<'_>,
    claim: &Claim,
    at: usize,
    name: &TaskName,
    task: i64,
    waiting: &Waiting,
) -> Result<Claimed, StoreError> {
    let lease = Lease {
        job: waiting.job,
        attempt: AttemptNumber(waiting.attempt + 1),
        fence: tx.ledger.next_fence(),
        claim_id: nth(claim.claim_id, at),
    };
    let id = lease.job.as_bytes().as_slice();
    let values = params![
        id,
        column::number(lease.fence.0),
        lease.claim_id.0,
        claim.node,
        claim.boot_id,
        column::micros(claim.now)
    ];
    statement::run(tx.conn, GIVE, values)?;
    let from = Place::new(JobState::Queued, waiting.group.parent);
    tx.ledger.moved(task, from, from.to(column::after(JobState::Queued, Move::Claim)?))?;
    let history = if waiting.attempt == 0 { History::default() } else { history(tx.conn, lease.job)? };
    statement::one(tx.conn, SPEC, [id], |row| {
        Ok(Claimed {
            lease,
            task: name.clone(),
            payload: payload(row)?,
            request: column::from_maybe_json(row.get::<_, Option<String>>("request")?.as_deref())?,
            submitted_at: column::time(row.get("submitted_at")?)?,
            index: row.get("child_index")?,
            parent: column::maybe_id(row, "parent")?,
            deferred: waiting.deferred,
            history,
            begun_at: column::maybe_time(row.get("begun_at")?)?,
            cancel_requested: None,
        })
    })?
    .ok_or_else(|| column::corrupt(format!("job {} without its spec", lease.job)))
}

/// What a job has behind it.
pub(super) fn history(conn: &Connection, job: JobId) -> Result<History, StoreError> {
    let outcomes = statement::all(conn, OUTCOMES, [job.as_bytes().as_slice()], |row| {
        column::from_json(&row.get::<_, String>(0)?)
    })?;
    Ok(History::of(&outcomes))
}

/// The body, from the columns `payload` and `payload_len`.
pub(super) fn payload(row: &Row<'_>) -> Result<StoredPayload, StoreError> {
    Ok(match row.get::<_, Option<Vec<u8>>>("payload")? {
        Some(bytes) => StoredPayload::Inline(bytes.into()),
        None => StoredPayload::File { len: column::count(row.get("payload_len")?)? },
    })
}

/// The claim id of the batch's job `at`: the batch's with `at` added to its last four bytes.
fn nth(ClaimId(mut bytes): ClaimId, at: usize) -> ClaimId {
    let last = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    bytes[12..].copy_from_slice(&last.wrapping_add(at as u32).to_be_bytes());
    ClaimId(bytes)
}

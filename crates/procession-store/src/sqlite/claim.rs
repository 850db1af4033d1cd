//! Giving slots to queued jobs: tasks in turn, within a task in the order of its queue.
//!
//! A task that is paused, full, unknown to the caller or without a queue is passed over in
//! memory and costs no query; of the others only as many rows are read as slots are free.

use std::collections::{HashMap, VecDeque};

use procession_core::id::{AttemptNumber, ClaimId, JobId, TaskName};
use procession_core::job::{Claimed, Lease, StoredPayload};
use procession_core::limits::Limit;
use procession_core::state::{JobState, Move};
use rusqlite::{Connection, Row, params};

use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::{Claim, ClaimedBatch};

/// The most scheduled jobs one claim promotes; the next one goes on where it ended.
const PROMOTE_MOST: i64 = 1_000;

pub(super) const PROMOTE: &str = "
    UPDATE live SET state = 'queued', retrying = 0 WHERE job IN (
        SELECT job FROM live WHERE state = 'scheduled' AND run_at <= ?1 ORDER BY run_at LIMIT ?2)
    RETURNING task";
pub(super) const HELD: &str = "SELECT task, count(*) FROM live WHERE holds_slot = 1 GROUP BY task";
pub(super) const NEXT: &str = "
    SELECT job, attempt, deferred FROM live
    WHERE state = 'queued' AND task = ?1 AND (expires_at IS NULL OR expires_at > ?2)
    ORDER BY priority DESC, run_at, job LIMIT ?3";
pub(super) const GIVE: &str = "
    UPDATE live SET state = 'running', holds_slot = 1, attempt = attempt + 1, fence = ?2, claim_id = ?3,
        node = ?4, boot_id = ?5, claimed_at = ?6
    WHERE job = ?1";
pub(super) const SPEC: &str = "
    SELECT payload_len, payload, request, submitted_at, child_index, parent FROM job WHERE id = ?1";
pub(super) const NEXT_SCHEDULED: &str = "SELECT min(run_at) FROM live WHERE state = 'scheduled'";

pub(super) fn claim(tx: &mut Tx<'_>, claim: &Claim) -> Result<ClaimedBatch, StoreError> {
    promote(tx, claim)?;
    if tx.ledger.asked.as_ref() != Some(&claim.tasks) {
        tx.ledger.asked = Some(claim.tasks.clone());
    }
    let mut turns = Turns::new(tx, claim)?;
    let mut jobs = Vec::new();
    while jobs.len() < claim.free
        && let Some((name, task, waiting)) = turns.next(tx.conn, claim, jobs.len())?
    {
        jobs.push(give(tx, claim, jobs.len(), &name, &waiting)?);
        tx.ledger.moved(task, JobState::Queued, column::after(JobState::Queued, Move::Claim)?)?;
        tx.ledger.turn = Some(name);
    }
    let next_due = statement::one(tx.conn, NEXT_SCHEDULED, [], |row| column::maybe_time(row.get(0)?))?;
    Ok(ClaimedBatch { jobs, next_due: next_due.flatten() })
}

fn promote(tx: &mut Tx<'_>, claim: &Claim) -> Result<(), StoreError> {
    let promoted = column::after(JobState::Scheduled, Move::Promote)?;
    let values = params![column::micros(claim.now), PROMOTE_MOST];
    for task in statement::all(tx.conn, PROMOTE, values, |row| Ok(row.get(0)?))? {
        tx.ledger.moved(task, JobState::Scheduled, promoted)?;
    }
    Ok(())
}

/// How many slots each task holds, counted from the rows that hold them.
pub(super) fn held_slots(conn: &Connection) -> Result<HashMap<i64, u64>, StoreError> {
    let held = statement::all(conn, HELD, [], |row| Ok((row.get(0)?, column::count(row.get(1)?)?)))?;
    Ok(held.into_iter().collect())
}

/// A queued row on its way to a slot.
struct Waiting {
    job: JobId,
    attempt: u32,
    deferred: u32,
}

/// The tasks that may be given a slot, in the order of their turns.
struct Turns {
    ring: VecDeque<Candidate>,
}

struct Candidate {
    name: TaskName,
    task: i64,
    room: u64,
    /// Its next rows, read but not given yet.
    next: VecDeque<Waiting>,
}

impl Turns {
    fn new(tx: &Tx<'_>, claim: &Claim) -> Result<Self, StoreError> {
        let mut ring: Vec<Candidate> = Vec::new();
        let mut limited = false;
        for (name, limit) in &claim.tasks {
            if let Some(task) = tx.ledger.find(name).filter(|task| task.queued > 0 && !task.paused) {
                limited |= *limit != Limit::Unlimited;
                let (name, room) = (name.clone(), limit.room(0));
                ring.push(Candidate { name, task: task.id, room, next: VecDeque::new() });
            }
        }
        if limited && claim.free > 0 {
            let held = held_slots(tx.conn)?;
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
        conn: &Connection,
        claim: &Claim,
        given: usize,
    ) -> Result<Option<(TaskName, i64, Waiting)>, StoreError> {
        while let Some(mut candidate) = self.ring.pop_front() {
            if candidate.next.is_empty() {
                // Its share of what is free: it is asked for more when others had less.
                let share = (claim.free - given) / (self.ring.len() + 1) + 1;
                candidate.fill(conn, claim, share as u64)?;
            }
            let Some(waiting) = candidate.next.pop_front() else { continue };
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
    /// Reads the head of its queue; rows given before are not in it any more.
    fn fill(&mut self, conn: &Connection, claim: &Claim, share: u64) -> Result<(), StoreError> {
        let most = column::number(share.min(self.room));
        let values = params![self.task, column::micros(claim.now), most];
        self.next = statement::all(conn, NEXT, values, |row| {
            Ok(Waiting { job: column::id(row, "job")?, attempt: row.get(1)?, deferred: row.get(2)? })
        })?
        .into();
        Ok(())
    }
}

fn give(
    tx: &mut Tx<'_>,
    claim: &Claim,
    at: usize,
    task: &TaskName,
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
    statement::one(tx.conn, SPEC, [id], |row| {
        Ok(Claimed {
            lease,
            task: task.clone(),
            payload: payload(row)?,
            request: column::from_maybe_json(row.get::<_, Option<String>>("request")?.as_deref())?,
            submitted_at: column::time(row.get("submitted_at")?)?,
            index: row.get("child_index")?,
            parent: column::maybe_id(row, "parent")?,
            deferred: waiting.deferred,
            cancel_requested: false,
        })
    })?
    .ok_or_else(|| column::corrupt(format!("job {} without its spec", lease.job)))
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

//! Ending a job that does not run, or marking one that does.

use jiff::Timestamp;
use procession_core::id::{AttemptNumber, ClaimId, Fence, JobId};
use procession_core::job::Lease;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::{JobState, Move};
use rusqlite::{Row, params};

use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Cancelled;

pub(super) const LIVE: &str = "SELECT task, state, attempt, fence, claim_id FROM live WHERE job = ?1";
pub(super) const OVER: &str = "SELECT 1 FROM done WHERE job = ?1";
pub(super) const MARK: &str = "
    UPDATE live SET cancel_at = ?2, cancel_by = ?3 WHERE job = ?1 AND cancel_at IS NULL";
pub(super) const DROP_LIVE: &str = "DELETE FROM live WHERE job = ?1";
pub(super) const INSERT_CANCELLED: &str = "
    INSERT INTO done (job, task, state, kind, outcome, attempt, finished_at, cancel_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

pub(super) fn cancel(
    tx: &mut Tx<'_>,
    job: JobId,
    by: CancelledBy,
    at: Timestamp,
) -> Result<Cancelled, StoreError> {
    let id = job.as_bytes().as_slice();
    let Some(live) = statement::one(tx.conn, LIVE, [id], Live::read)? else {
        let over = statement::one(tx.conn, OVER, [id], |_| Ok(()))?;
        return Ok(if over.is_some() { Cancelled::AlreadyOver } else { Cancelled::Unknown });
    };
    let Live { task, state, attempt, lease } = live;
    if state == JobState::Running {
        let (fence, claim_id) =
            lease.ok_or_else(|| column::corrupt(format!("job {job} runs without a lease")))?;
        statement::run(tx.conn, MARK, params![id, column::micros(at), column::cancelled_by(by)])?;
        return Ok(Cancelled::Running(Lease { job, attempt: AttemptNumber(attempt), fence, claim_id }));
    }
    end(tx, End { job, task, from: state, attempt, cancel_at: Some(at) }, at, &Outcome::cancelled(by))?;
    Ok(Cancelled::Ended)
}

struct Live {
    task: i64,
    state: JobState,
    attempt: u32,
    lease: Option<(Fence, ClaimId)>,
}

impl Live {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let fence = row.get::<_, Option<i64>>(3)?.map(column::count).transpose()?;
        let claim_id: Option<[u8; 16]> = row.get(4)?;
        Ok(Self {
            task: row.get(0)?,
            state: column::state(&row.get::<_, String>(1)?)?,
            attempt: row.get(2)?,
            lease: fence.zip(claim_id).map(|(fence, claim)| (Fence(fence), ClaimId(claim))),
        })
    }
}

/// A job that ends without an attempt that ended.
pub(super) struct End {
    pub job: JobId,
    pub task: i64,
    pub from: JobState,
    /// Attempts begun.
    pub attempt: u32,
    /// When a client asked for it.
    pub cancel_at: Option<Timestamp>,
}

/// Moves a job from `live` to `done` as cancelled.
pub(super) fn end(tx: &mut Tx<'_>, job: End, at: Timestamp, outcome: &Outcome) -> Result<(), StoreError> {
    // What gives its slot back first waits, as far as the table of moves goes.
    let from = if job.from == JobState::Running { column::after(job.from, Move::Release)? } else { job.from };
    let state = column::after(from, Move::Finish(outcome.state()))?;
    let id = job.job.as_bytes().as_slice();
    statement::run(tx.conn, DROP_LIVE, [id])?;
    let values = params![
        id,
        job.task,
        state.name(),
        column::kind(outcome),
        column::json(outcome),
        job.attempt,
        column::micros(at),
        job.cancel_at.map(column::micros),
    ];
    statement::run(tx.conn, INSERT_CANCELLED, values)?;
    tx.ledger.moved(job.task, job.from, state)
}

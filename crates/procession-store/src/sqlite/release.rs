//! Taking back a claim whose attempt never started.

use jiff::Timestamp;
use procession_core::job::Lease;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::{JobState, Move};
use rusqlite::{Row, params};

use super::cancel::{End, end};
use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Applied;

pub(super) const LEASED: &str = "
    SELECT task, state, attempt, cancel_at, cancel_by FROM live WHERE job = ?1 AND fence = ?2 AND claim_id = ?3";
pub(super) const RELEASE: &str = "
    UPDATE live SET state = ?2, attempt = attempt - 1, holds_slot = 0, started_at = NULL, containment = NULL,
        run_at = coalesce(?3, run_at), deferred = deferred + (?3 IS NOT NULL)
    WHERE job = ?1";

pub(super) fn release(
    tx: &mut Tx<'_>,
    lease: Lease,
    not_before: Option<Timestamp>,
) -> Result<Applied, StoreError> {
    let id = lease.job.as_bytes().as_slice();
    let values = params![id, column::number(lease.fence.0), lease.claim_id.0];
    let Some(leased) = statement::one(tx.conn, LEASED, values, Leased::read)? else {
        return Ok(Applied::Stale);
    };
    match leased.state {
        JobState::Running => {}
        // The row keeps the lease until its next claim: this release came before.
        JobState::Queued | JobState::Scheduled => return Ok(Applied::Already),
        _ => return Ok(Applied::Stale),
    }
    if let Some((at, by)) = leased.cancel {
        // Somebody asked for its end while it had the slot: it must not run after all.
        let outcome = Outcome::cancelled(by);
        let attempt = leased.attempt - 1;
        let job = lease.job;
        end(
            tx,
            End { job, task: leased.task, from: leased.state, attempt, cancel_at: Some(at) },
            at,
            &outcome,
        )?;
        return Ok(Applied::Applied);
    }
    let what = if not_before.is_some() { Move::Defer } else { Move::Release };
    let state = column::after(leased.state, what)?;
    let values = params![id, state.name(), not_before.map(column::micros)];
    statement::run(tx.conn, RELEASE, values)?;
    tx.ledger.moved(leased.task, leased.state, state)?;
    Ok(Applied::Applied)
}

struct Leased {
    task: i64,
    state: JobState,
    attempt: u32,
    cancel: Option<(Timestamp, CancelledBy)>,
}

impl Leased {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let at: Option<i64> = row.get(3)?;
        let by: Option<String> = row.get(4)?;
        let cancel = match (at, by) {
            (Some(at), Some(by)) => Some((column::time(at)?, column::canceller(&by)?)),
            _ => None,
        };
        let state = column::state(&row.get::<_, String>(1)?)?;
        Ok(Self { task: row.get(0)?, state, attempt: row.get(2)?, cancel })
    }
}

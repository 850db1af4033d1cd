//! Taking back a claim whose attempt never started.

use jiff::Timestamp;
use procession_core::job::Lease;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::{JobState, Move};
use rusqlite::{Row, params};

use super::ending::{Leaving, drop_and_end, leaving};
use super::writer::Tx;
use super::{column, family, statement};
use crate::error::StoreError;
use crate::store::{Applied, Change, Effects};

pub(super) const LEASED: &str = concat!(
    "SELECT ",
    leaving!(),
    ", cancel_by, joins FROM live WHERE job = ?1 AND fence = ?2 AND claim_id = ?3"
);
pub(super) const RELEASE: &str = "
    UPDATE live SET state = ?2, attempt = attempt - 1, holds_slot = 0, started_at = NULL, containment = NULL,
        run_at = coalesce(?3, run_at), deferred = deferred + (?3 IS NOT NULL)
    WHERE job = ?1";

pub(super) fn release(
    tx: &mut Tx<'_>,
    lease: Lease,
    not_before: Option<Timestamp>,
) -> Result<Change, StoreError> {
    let id = lease.job.as_bytes().as_slice();
    let values = params![id, column::number(lease.fence.0), lease.claim_id.0];
    let Some(leased) = statement::one(tx.conn, LEASED, values, Leased::read)? else {
        return Ok(Change::alone(Applied::Stale));
    };
    let leaving = &leased.leaving;
    match leaving.state {
        JobState::Running => {}
        // The row keeps the lease until its next claim: this release came before.
        JobState::Queued | JobState::Scheduled => return Ok(Change::alone(Applied::Already)),
        _ => return Ok(Change::alone(Applied::Stale)),
    }
    if let Some((at, by)) = leased.cancel {
        // Somebody asked for its end while it had the slot: it must not run after all.
        let mut effects = Effects::default();
        let outcome = Outcome::cancelled(by);
        let leaving = Leaving { attempt: leaving.attempt - 1, ..leaving.clone() };
        drop_and_end(tx, &leaving, &outcome, at, &mut effects)?;
        family::child_over(tx, leaving.group.parent, &outcome, at, &mut effects)?;
        return Ok(Change { applied: Applied::Applied, effects });
    }
    let what = if not_before.is_some() { Move::Defer } else { Move::Release };
    let state = column::after(leaving.state, what)?;
    let values = params![id, state.name(), not_before.map(column::micros)];
    statement::run(tx.conn, RELEASE, values)?;
    tx.ledger.moved(leaving.task, leaving.place(), leaving.place().to(state))?;
    tx.ledger.lanes.freed(leaving.task, &leaving.group);
    if state == JobState::Queued && !leased.joins {
        tx.ledger.lanes.waits(leaving.task, &leaving.group);
    }
    Ok(Change::alone(Applied::Applied))
}

struct Leased {
    leaving: Leaving,
    cancel: Option<(Timestamp, CancelledBy)>,
    joins: bool,
}

impl Leased {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let leaving = Leaving::of(row)?;
        let at = leaving.cancel_at.map(column::time).transpose()?;
        let cancel = at.zip(column::maybe_canceller(row)?);
        Ok(Self { leaving, cancel, joins: row.get("joins")? })
    }
}

//! Recording how an attempt ended: `attempt` gets its row, and the job's leaves `live`, or waits
//! there for its next attempt.

use procession_core::job::{Finished, Lease, Then};
use procession_core::state::Move;
use rusqlite::{Connection, Row, params};

use super::ending::{Estate, Leaving, end, leaving};
use super::ledger::Place;
use super::writer::Tx;
use super::{column, family, statement};
use crate::error::StoreError;
use crate::store::{Applied, Change, Effects};

pub(super) const LEAVE: &str = concat!(
    "DELETE FROM live WHERE job = ?1 AND fence = ?2 AND claim_id = ?3 AND state = 'running' RETURNING ",
    leaving!(),
    ", node, claimed_at, started_at, containment"
);
// Not one whose end was asked for meanwhile, or whose family's time is over.
pub(super) const MAY_GO_ON: &str = concat!(
    "SELECT ",
    leaving!(),
    ", node, claimed_at, started_at, containment FROM live
    WHERE job = ?1 AND fence = ?2 AND claim_id = ?3 AND state = 'running' AND cancel_at IS NULL AND late = 0"
);
pub(super) const AGAIN: &str = "
    UPDATE live SET state = 'scheduled', retrying = 1, holds_slot = 0, run_at = ?2, expires_at = ?3,
        started_at = NULL, containment = NULL
    WHERE job = ?1";
pub(super) const RECORDED: &str = "
    SELECT 1 FROM attempt WHERE job = ?1 AND attempt = ?2 AND fence = ?3 AND claim_id = ?4";
pub(super) const INSERT_ATTEMPT: &str = "
    INSERT INTO attempt (job, attempt, fence, claim_id, node, kind, outcome, claimed_at, started_at,
        finished_at, run_ms, user_us, system_us, max_rss_bytes, containment, leaked, config_revision,
        output_limit, stdout_total, stdout_written, stdout_place, stderr_total, stderr_written,
        stderr_place, stdout_tail, stderr_tail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
        ?21, ?22, ?23, ?24, ?25, ?26)";

pub(super) fn finish(tx: &mut Tx<'_>, finished: &Finished) -> Result<Change, StoreError> {
    let lease = finished.lease;
    let id = lease.job.as_bytes().as_slice();
    let values = params![id, column::number(lease.fence.0), lease.claim_id.0];
    if let Then::Retry { at, expires_at } = finished.then
        && let Some(left) = statement::one(tx.conn, MAY_GO_ON, values, Left::read)?
    {
        insert_attempt(tx.conn, finished, &left)?;
        let (at, expires_at) = (column::micros(at), expires_at.map(column::micros));
        statement::run(tx.conn, AGAIN, params![id, at, expires_at])?;
        let place = left.leaving.place();
        let waits = Place { retrying: true, ..place.to(column::after(place.state, Move::Retry)?) };
        tx.ledger.moved(left.leaving.task, place, waits)?;
        tx.ledger.lanes.freed(left.leaving.task, &left.leaving.group);
        return Ok(Change::alone(Applied::Applied));
    }
    let Some(left) = statement::one(tx.conn, LEAVE, values, Left::read)? else {
        return Ok(Change::alone(recorded(tx.conn, lease)?));
    };
    insert_attempt(tx.conn, finished, &left)?;
    let leaving = &left.leaving;
    let outcome = match leaving.is_parent {
        true => family::joined(tx.conn, leaving.job, &finished.outcome)?,
        false => finished.outcome.clone(),
    };
    let mut effects = Effects::default();
    end(tx, leaving, &outcome, finished.finished_at, Estate::of(finished), &mut effects)?;
    family::child_over(tx, leaving.group.parent, &outcome, finished.finished_at, &mut effects)?;
    Ok(Change { applied: Applied::Applied, effects })
}

/// What the row in `live` knew.
struct Left {
    leaving: Leaving,
    node: String,
    claimed_at: i64,
    started_at: Option<i64>,
    containment: Option<String>,
}

impl Left {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            leaving: Leaving::of(row)?,
            node: row.get("node")?,
            claimed_at: row.get("claimed_at")?,
            started_at: row.get("started_at")?,
            containment: row.get("containment")?,
        })
    }
}

fn recorded(conn: &Connection, lease: Lease) -> Result<Applied, StoreError> {
    let values = params![
        lease.job.as_bytes().as_slice(),
        lease.attempt.0,
        column::number(lease.fence.0),
        lease.claim_id.0
    ];
    let found = statement::one(conn, RECORDED, values, |_| Ok(()))?;
    Ok(if found.is_some() { Applied::Already } else { Applied::Stale })
}

fn insert_attempt(conn: &Connection, finished: &Finished, left: &Left) -> Result<(), StoreError> {
    let (lease, output, usage) = (finished.lease, &finished.output, finished.usage);
    let values = params![
        lease.job.as_bytes().as_slice(),
        left.leaving.attempt,
        column::number(lease.fence.0),
        lease.claim_id.0,
        left.node,
        finished.outcome.kind(),
        column::json(&finished.outcome),
        left.claimed_at,
        // One that was lost may have been seen running, which its finisher cannot know.
        finished.started_at.map(column::micros).or(left.started_at),
        column::micros(finished.finished_at),
        finished.run_ms.map(column::number),
        usage.map(|usage| column::number(usage.user_us)),
        usage.map(|usage| column::number(usage.system_us)),
        usage.map(|usage| column::number(usage.max_rss_bytes)),
        finished.containment.map(|how| how.name()).or(left.containment.as_deref()),
        finished.leaked,
        finished.config_revision,
        column::number(output.limit),
        column::number(output.stdout.total),
        column::number(output.stdout.written),
        column::place_name(output.stdout.place),
        column::number(output.stderr.total),
        column::number(output.stderr.written),
        column::place_name(output.stderr.place),
        output.stdout.tail.as_ref(),
        output.stderr.tail.as_ref(),
    ];
    statement::run(conn, INSERT_ATTEMPT, values)?;
    Ok(())
}

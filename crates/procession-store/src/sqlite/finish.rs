//! Recording how an attempt ended: its row leaves `live`, `attempt` and `done` get theirs.

use procession_core::job::{Finished, Lease, ResultSummary};
use procession_core::state::{JobState, Move};
use rusqlite::{Connection, Row, params};

use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Applied;

pub(super) const LEAVE: &str = "
    DELETE FROM live WHERE job = ?1 AND fence = ?2 AND claim_id = ?3 AND state = 'running'
    RETURNING task, attempt, node, claimed_at, started_at, containment, cancel_at";
pub(super) const RECORDED: &str = "
    SELECT 1 FROM attempt WHERE job = ?1 AND attempt = ?2 AND fence = ?3 AND claim_id = ?4";
pub(super) const INSERT_ATTEMPT: &str = "
    INSERT INTO attempt (job, attempt, fence, claim_id, node, kind, outcome, claimed_at, started_at,
        finished_at, run_ms, user_us, system_us, max_rss_bytes, containment, leaked, config_revision,
        output_limit, stdout_total, stdout_written, stdout_place, stderr_total, stderr_written,
        stderr_place, stdout_tail, stderr_tail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
        ?21, ?22, ?23, ?24, ?25, ?26)";
pub(super) const INSERT_DONE: &str = "
    INSERT INTO done (job, task, state, kind, outcome, attempt, finished_at, cancel_at, artifacts,
        progress, progress_message, result_json, result_len, result)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

pub(super) fn finish(tx: &mut Tx<'_>, finished: &Finished) -> Result<Applied, StoreError> {
    let lease = finished.lease;
    let values = params![lease.job.as_bytes().as_slice(), column::number(lease.fence.0), lease.claim_id.0];
    let Some(left) = statement::one(tx.conn, LEAVE, values, Left::read)? else {
        return recorded(tx.conn, lease);
    };
    let state = column::after(JobState::Running, Move::Finish(finished.outcome.state()))?;
    insert_attempt(tx.conn, finished, &left)?;
    insert_done(tx.conn, finished, &left, state)?;
    tx.ledger.moved(left.task, JobState::Running, state)?;
    Ok(Applied::Applied)
}

/// What the row in `live` knew.
struct Left {
    task: i64,
    attempt: u32,
    node: String,
    claimed_at: i64,
    started_at: Option<i64>,
    containment: Option<String>,
    cancel_at: Option<i64>,
}

impl Left {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            task: row.get(0)?,
            attempt: row.get(1)?,
            node: row.get(2)?,
            claimed_at: row.get(3)?,
            started_at: row.get(4)?,
            containment: row.get(5)?,
            cancel_at: row.get(6)?,
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
        left.attempt,
        column::number(lease.fence.0),
        lease.claim_id.0,
        left.node,
        column::kind(&finished.outcome),
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

fn insert_done(
    conn: &Connection,
    finished: &Finished,
    left: &Left,
    state: JobState,
) -> Result<(), StoreError> {
    let (json, len, bytes) = match &finished.result {
        ResultSummary::None => (None, None, None),
        ResultSummary::Inline { json, bytes } => {
            (Some(*json), Some(column::number(bytes.len() as u64)), Some(bytes.as_ref()))
        }
        ResultSummary::File { json, len } => (Some(*json), Some(column::number(*len)), None),
    };
    let values = params![
        finished.lease.job.as_bytes().as_slice(),
        left.task,
        state.name(),
        column::kind(&finished.outcome),
        column::json(&finished.outcome),
        left.attempt,
        column::micros(finished.finished_at),
        left.cancel_at,
        (!finished.artifacts.is_empty()).then(|| column::json(&finished.artifacts)),
        finished.progress.as_ref().map(|progress| progress.fraction),
        finished.progress.as_ref().map(|progress| &progress.message),
        json,
        len,
        bytes,
    ];
    statement::run(conn, INSERT_DONE, values)?;
    Ok(())
}

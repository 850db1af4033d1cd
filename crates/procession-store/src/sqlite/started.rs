//! Noting that an attempt's program runs.

use jiff::Timestamp;
use procession_core::job::Lease;
use procession_core::record::Containment;
use rusqlite::params;

use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Applied;

pub(super) const START: &str = "
    UPDATE live SET started_at = ?4, containment = ?5, deferred = 0
    WHERE job = ?1 AND fence = ?2 AND claim_id = ?3 AND state = 'running' AND started_at IS NULL";
pub(super) const RUNS: &str = "
    SELECT 1 FROM live WHERE job = ?1 AND fence = ?2 AND claim_id = ?3 AND state = 'running'";

pub(super) fn started(
    tx: &mut Tx<'_>,
    lease: Lease,
    at: Timestamp,
    containment: Containment,
) -> Result<Applied, StoreError> {
    let (job, fence) = (lease.job.as_bytes().as_slice(), column::number(lease.fence.0));
    let values = params![job, fence, lease.claim_id.0, column::micros(at), containment.name()];
    if statement::run(tx.conn, START, values)? > 0 {
        return Ok(Applied::Applied);
    }
    let runs = statement::one(tx.conn, RUNS, params![job, fence, lease.claim_id.0], |_| Ok(()))?;
    Ok(if runs.is_some() { Applied::Already } else { Applied::Stale })
}

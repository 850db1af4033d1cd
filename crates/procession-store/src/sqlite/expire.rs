//! Ending jobs that waited longer than they were allowed to, and families that took longer.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::{CancelledBy, Outcome};
use rusqlite::params;

use super::writer::Tx;
use super::{column, family, statement};
use crate::error::StoreError;
use crate::store::Effects;

/// The most jobs one call ends.
const MOST: i64 = 1_000;

pub(super) const EXPIRED: &str = "
    SELECT job FROM live
    WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'queued') AND expires_at <= ?1
    ORDER BY expires_at, job LIMIT ?2";
pub(super) const LATE: &str = "
    SELECT job FROM live WHERE deadline IS NOT NULL AND late = 0 AND deadline <= ?1
    ORDER BY deadline, job LIMIT ?2";

pub(super) fn expire(tx: &mut Tx<'_>, now: Timestamp) -> Result<Effects, StoreError> {
    let due = |sql: &str| -> Result<Vec<JobId>, StoreError> {
        statement::all(tx.conn, sql, params![column::micros(now), MOST], |row| column::id(row, "job"))
    };
    let (expired, late) = (due(EXPIRED)?, due(LATE)?);
    let mut effects = Effects::default();
    for job in expired {
        // One before it may have ended it.
        let Some(stands) = family::stands(tx.conn, job)? else { continue };
        if family::stop(tx, &stands, CancelledBy::Expired, now, &mut effects)? {
            effects.moved.push(job);
            let outcome = Outcome::cancelled(CancelledBy::Expired);
            family::child_over(tx, stands.leaving.group.parent, &outcome, now, &mut effects)?;
        }
    }
    for parent in late {
        family::time_is_over(tx, parent, now, &mut effects)?;
    }
    Ok(effects)
}

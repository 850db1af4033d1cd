//! Ending jobs that waited longer than they were allowed to.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::{CancelledBy, Outcome};
use rusqlite::params;

use super::cancel::{End, end};
use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;

/// The most jobs one call ends.
const MOST: i64 = 1_000;

pub(super) const EXPIRED: &str = "
    SELECT job, task, state, attempt FROM live
    WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'queued') AND expires_at <= ?1
    ORDER BY expires_at, job LIMIT ?2";

pub(super) fn expire(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<JobId>, StoreError> {
    let outcome = Outcome::cancelled(CancelledBy::Expired);
    let expired = statement::all(tx.conn, EXPIRED, params![column::micros(now), MOST], |row| {
        Ok(End {
            job: column::id(row, "job")?,
            task: row.get(1)?,
            from: column::state(&row.get::<_, String>(2)?)?,
            attempt: row.get(3)?,
            cancel_at: None,
        })
    })?;
    let mut ended = Vec::with_capacity(expired.len());
    for job in expired {
        ended.push(job.job);
        end(tx, job, now, &outcome)?;
    }
    Ok(ended)
}

//! Ending a job, and all below it, because somebody says so.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::{CancelledBy, Outcome};

use super::writer::Tx;
use super::{family, statement};
use crate::error::StoreError;
use crate::store::{Cancelled, Effects};

pub(super) const OVER: &str = "SELECT 1 FROM done WHERE job = ?1";

pub(super) fn cancel(
    tx: &mut Tx<'_>,
    job: JobId,
    by: CancelledBy,
    at: Timestamp,
) -> Result<Cancelled, StoreError> {
    let Some(stands) = family::stands(tx.conn, job)? else {
        let over = statement::one(tx.conn, OVER, [job.as_bytes().as_slice()], |_| Ok(()))?;
        return Ok(if over.is_some() { Cancelled::AlreadyOver } else { Cancelled::Unknown });
    };
    let mut effects = Effects::default();
    if !family::stop(tx, &stands, by, at, &mut effects)? {
        return Ok(Cancelled::Asked(effects));
    }
    family::child_over(tx, stands.leaving.group.parent, &Outcome::cancelled(by), at, &mut effects)?;
    Ok(Cancelled::Ended(effects))
}

//! What is to follow the ends of jobs: written with the end, in its transaction.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::{FollowUp, What};
use procession_core::outcome::Outcome;
use rusqlite::{Connection, params};

use super::{column, statement};
use crate::error::StoreError;

pub(super) const FOLLOW_UPS: &str = "SELECT follow_ups FROM job WHERE id = ?1";
pub(super) const INSERT_DELIVERY: &str = "
    INSERT INTO delivery (job, ordinal, kind, target, state, created_at, due_at)
    VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?5)";

/// Writes what this end brings about; whether that is anything.
pub(super) fn write(
    conn: &Connection,
    job: JobId,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let id = job.as_bytes().as_slice();
    let kept = statement::one(conn, FOLLOW_UPS, [id], |row| Ok(row.get::<_, Option<String>>(0)?))?.flatten();
    let follow_ups: Vec<FollowUp> = column::from_maybe_json(kept.as_deref())?;
    let mut any = false;
    for (ordinal, FollowUp { on, what }) in follow_ups.iter().enumerate() {
        if !on.iter().any(|condition| condition.matches(outcome)) {
            continue;
        }
        let (kind, target) = match what {
            What::Then(task) => ("then", task.as_str()),
            What::Callback(url) => ("callback", url.as_str()),
        };
        let values = params![id, ordinal as i64, kind, target, column::micros(at)];
        statement::run(conn, INSERT_DELIVERY, values)?;
        any = true;
    }
    Ok(any)
}

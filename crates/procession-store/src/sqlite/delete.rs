//! Removing finished jobs, one by name or many by age, each with all below it. Totals stay: they
//! count what was.

use jiff::Timestamp;
use procession_core::id::JobId;
use rusqlite::{Connection, params};

use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Deleted;

pub(super) const STANDING: &str = "
    SELECT EXISTS (SELECT 1 FROM done WHERE job = ?1), root FROM job WHERE id = ?1";
// A job has few deliveries, and many are pending: `+` keeps the index of states out of it.
pub(super) const OLD: &str = "
    SELECT job FROM done
    WHERE finished_at < ?1 AND parent IS NULL
        AND NOT EXISTS (
            WITH RECURSIVE below (id) AS (
                SELECT done.job
                UNION ALL SELECT job.id FROM below JOIN job ON job.parent = below.id AND job.parent IS NOT NULL)
            SELECT 1 FROM below CROSS JOIN delivery ON delivery.job = below.id AND +delivery.state = 'pending')
    ORDER BY finished_at, job LIMIT ?2";
pub(super) const AWAITED: &str = "
    WITH RECURSIVE below (id) AS (
        SELECT coalesce(root, id) FROM job WHERE id = ?1
        UNION ALL SELECT job.id FROM below JOIN job ON job.parent = below.id AND job.parent IS NOT NULL)
    SELECT EXISTS (
        SELECT 1 FROM below CROSS JOIN delivery ON delivery.job = below.id AND +delivery.state = 'pending')";
pub(super) const BELOW: &str = "
    WITH RECURSIVE below (id) AS (
        SELECT id FROM job WHERE parent = ?1 AND parent IS NOT NULL
        UNION ALL SELECT job.id FROM below JOIN job ON job.parent = below.id AND job.parent IS NOT NULL)
    SELECT id FROM below ORDER BY id";
pub(super) const LABELS: &str = "
    DELETE FROM label WHERE (name, value, job) IN (
        SELECT pair.key, pair.value, job.id FROM job, json_each(job.labels) AS pair WHERE job.id = ?1)";
pub(super) const KEYS: &str = "
    DELETE FROM idempotency WHERE (task, principal, key) IN (
        SELECT task, principal, idempotency_key FROM job WHERE id = ?1)";
pub(super) const PENDING: &str = "DELETE FROM delivery WHERE job = ?1 AND +state = 'pending'";
pub(super) const DELIVERIES: &str = "DELETE FROM delivery WHERE job = ?1";
pub(super) const FAMILY: &str = "DELETE FROM family WHERE job = ?1";
pub(super) const ATTEMPTS: &str = "DELETE FROM attempt WHERE job = ?1";
pub(super) const DONE: &str = "DELETE FROM done WHERE job = ?1";
pub(super) const JOB: &str = "DELETE FROM job WHERE id = ?1";

pub(super) fn delete(tx: &mut Tx<'_>, job: JobId) -> Result<Deleted, StoreError> {
    let id = job.as_bytes().as_slice();
    let standing = statement::one(tx.conn, STANDING, [id], |row| {
        Ok((row.get::<_, bool>(0)?, column::maybe_id(row, "root")?))
    })?;
    match standing {
        Some((true, None)) => {
            let mut removed = Vec::new();
            remove_family(tx, job, &mut removed)?;
            Ok(Deleted::Deleted(removed))
        }
        Some((_, Some(root))) => Ok(Deleted::OfFamily(root)),
        Some((false, None)) => Ok(Deleted::Unfinished),
        None => Ok(Deleted::Unknown),
    }
}

pub(super) fn is_awaited(conn: &Connection, job: JobId) -> Result<bool, StoreError> {
    let found = statement::one(conn, AWAITED, [job.as_bytes().as_slice()], |row| Ok(row.get(0)?))?;
    Ok(found.unwrap_or(false))
}

pub(super) fn prune(tx: &mut Tx<'_>, before: Timestamp, most: usize) -> Result<Vec<JobId>, StoreError> {
    let values = params![column::micros(before), column::number(most as u64)];
    let old = statement::all(tx.conn, OLD, values, |row| column::id(row, "job"))?;
    let mut removed = Vec::new();
    for job in old {
        // A family goes as a whole; the next call goes on where a large one filled this one.
        if removed.len() < most {
            remove_family(tx, job, &mut removed)?;
        }
    }
    Ok(removed)
}

/// Removes a job that is over, and all below it, which was over before it.
fn remove_family(tx: &mut Tx<'_>, root: JobId, removed: &mut Vec<JobId>) -> Result<(), StoreError> {
    let below = statement::all(tx.conn, BELOW, [root.as_bytes().as_slice()], |row| column::id(row, "id"))?;
    for job in below.into_iter().chain([root]) {
        tx.ledger.left_outbox(statement::run(tx.conn, PENDING, [job.as_bytes().as_slice()])?);
        remove(tx.conn, job)?;
        removed.push(job);
    }
    Ok(())
}

/// Removes a job that has no row in `live`.
pub(super) fn remove(conn: &Connection, job: JobId) -> Result<(), StoreError> {
    // The job's own row says which labels and key are its, so it goes last.
    for sql in [LABELS, KEYS, DELIVERIES, FAMILY, ATTEMPTS, DONE, JOB] {
        statement::run(conn, sql, [job.as_bytes().as_slice()])?;
    }
    Ok(())
}

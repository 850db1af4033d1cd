//! Questions about one job, or about what is due.

use jiff::Timestamp;
use procession_core::id::{JobId, TaskName};
use procession_core::job::{Claimed, StoredPayload};
use procession_core::placeholder::RequestValues;
use rusqlite::{Connection, Row, params};

use super::claim::{self, payload as body};
use super::lanes::Group;
use super::{column, family, statement};
use crate::error::StoreError;
use crate::store::Standing;

pub(super) const PAYLOAD: &str = "SELECT payload_len, payload, request FROM job WHERE id = ?1";
pub(super) const CLAIMED: &str = "
    SELECT live.job, live.attempt, live.fence, live.claim_id, live.boot_id, live.deferred,
        live.cancel_by, task.name AS task, job.payload_len, job.payload, job.request,
        job.submitted_at, job.child_index, job.parent, live.begun_at
    FROM live JOIN job ON job.id = live.job JOIN task ON task.id = live.task
    WHERE live.holds_slot = 1 AND live.node = ?1
    ORDER BY live.fence";
pub(super) const NEXT_DUE: &str = "
    SELECT (SELECT min(run_at) FROM live WHERE state = 'scheduled'),
        (SELECT min(expires_at) FROM live WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'queued')),
        (SELECT min(deadline) FROM live WHERE deadline IS NOT NULL AND late = 0)";
pub(super) const PLACE: &str = "
    SELECT task, lane, parent, priority, run_at, joins FROM live WHERE job = ?1 AND state = 'queued'";
pub(super) const AHEAD: &str = "
    SELECT (SELECT count(*) FROM live WHERE state = 'queued' AND joins = 0 AND task = ?1 AND lane IS ?5
            AND parent IS ?6 AND priority > ?2)
        + (SELECT count(*) FROM live WHERE state = 'queued' AND joins = 0 AND task = ?1 AND lane IS ?5
           AND parent IS ?6 AND priority = ?2 AND run_at < ?3)
        + (SELECT count(*) FROM live WHERE state = 'queued' AND joins = 0 AND task = ?1 AND lane IS ?5
           AND parent IS ?6 AND priority = ?2 AND run_at = ?3 AND job < ?4)";
pub(super) const JOINS_AHEAD: &str = "
    SELECT count(*) FROM live
    WHERE state = 'queued' AND joins = 1
        AND (priority > ?1 OR (priority = ?1 AND (run_at < ?2 OR (run_at = ?2 AND job < ?3))))";
// Ids sort by time, so an index by their ends would scatter every submission over its
// pages; walking the index of ids itself, newest first, takes 0.1 s for a million.
pub(super) const ENDING: &str = "SELECT id FROM job WHERE substr(id, 17 - ?1) = ?2 ORDER BY id DESC";

pub(super) fn payload(
    conn: &Connection,
    job: JobId,
) -> Result<Option<(StoredPayload, RequestValues)>, StoreError> {
    statement::one(conn, PAYLOAD, [job.as_bytes().as_slice()], |row| {
        let request: Option<String> = row.get("request")?;
        Ok((body(row)?, column::from_maybe_json(request.as_deref())?))
    })
}

pub(super) fn claimed_by(conn: &Connection, node: &str) -> Result<Vec<(Claimed, [u8; 16])>, StoreError> {
    statement::all(conn, CLAIMED, [node], |row| {
        let request: Option<String> = row.get("request")?;
        let claimed = Claimed {
            lease: column::lease(row)?,
            task: column::task_name(&row.get::<_, String>("task")?)?,
            payload: body(row)?,
            request: column::from_maybe_json(request.as_deref())?,
            submitted_at: column::time(row.get("submitted_at")?)?,
            index: row.get("child_index")?,
            parent: column::maybe_id(row, "parent")?,
            deferred: row.get("deferred")?,
            history: claim::history(conn, column::id(row, "job")?)?,
            begun_at: column::maybe_time(row.get("begun_at")?)?,
            cancel_requested: column::maybe_canceller(row)?,
        };
        Ok((claimed, row.get("boot_id")?))
    })
}

pub(super) fn next_due(conn: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let due = statement::one(conn, NEXT_DUE, [], |row| {
        let due: [Option<i64>; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        column::maybe_time(due.into_iter().flatten().min())
    })?;
    Ok(due.flatten())
}

pub(super) fn standing(conn: &Connection, job: JobId) -> Result<Option<Standing>, StoreError> {
    let id = job.as_bytes().as_slice();
    let place = statement::one(conn, PLACE, [id], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            Group::of(row)?,
            row.get::<_, i64>(3)?,
            row.get::<_, i64>(4)?,
            row.get(5)?,
        ))
    })?;
    let Some((task, Group { lane, parent }, priority, run_at, joins)) = place else { return Ok(None) };
    let count = |row: &Row<'_>| column::count(row.get(0)?);
    if joins {
        let ahead = statement::one(conn, JOINS_AHEAD, params![priority, run_at, id], count)?;
        return Ok(Some(Standing { ahead: ahead.unwrap_or(0), joins, ..Standing::default() }));
    }
    let above = column::maybe_bytes(&parent);
    let values = params![task, priority, run_at, id, lane.as_deref(), above];
    let ahead = statement::one(conn, AHEAD, values, count)?.unwrap_or(0);
    let lane_running = match &lane {
        Some(lane) => statement::one(conn, claim::HELD_BY_LANE, params![task, lane], count)?,
        None => None,
    };
    let family = parent.map(|parent| family::standing(conn, parent)).transpose()?;
    Ok(Some(Standing { ahead, lane_running, family, joins }))
}

pub(super) fn ids_ending(conn: &Connection, suffix: &str, most: usize) -> Result<Vec<JobId>, StoreError> {
    let suffix = suffix.to_ascii_lowercase();
    let Some(bytes) = whole_bytes(&suffix) else { return Ok(Vec::new()) };
    let mut statement = conn.prepare_cached(ENDING)?;
    let mut rows = statement.query(params![bytes.len() as i64, bytes])?;
    let mut found = Vec::new();
    while found.len() < most
        && let Some(row) = rows.next()?
    {
        let id = column::id(row, "id")?;
        // The database compares whole bytes; half of one is left over where the length is odd.
        if hexadecimal(id).ends_with(&suffix) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The bytes the last digits of `suffix` make; `None`: no id ends with it.
fn whole_bytes(suffix: &str) -> Option<Vec<u8>> {
    if suffix.len() > 32 || !suffix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let even = &suffix[suffix.len() % 2..];
    (0..even.len()).step_by(2).map(|at| u8::from_str_radix(&even[at..at + 2], 16).ok()).collect()
}

/// An id's digits without hyphens.
pub(crate) fn hexadecimal(id: JobId) -> String {
    id.to_string().replace('-', "")
}

/// A task's number in this database.
pub(super) fn task_id(conn: &Connection, name: &TaskName) -> Result<Option<i64>, StoreError> {
    statement::one(conn, TASK_ID, [name.as_str()], |row| Ok(row.get(0)?))
}

pub(super) const TASK_ID: &str = "SELECT id FROM task WHERE name = ?1";

//! What runs by the clock: which schedules there are, and a run that is submitted in the
//! transaction in which its moment passes, so that no moment runs twice.

use procession_core::schedule::ScheduleName;
use rusqlite::{Connection, Row, params};

use super::writer::Tx;
use super::{column, statement, submit};
use crate::error::StoreError;
use crate::store::{Fire, Fired, KnownSchedule, Occasion, ScheduleRow, ScheduleState};

pub(super) const SCHEDULES: &str =
    "SELECT name, paused, next_at, last_at, last_job FROM schedule ORDER BY name";
pub(super) const PUT_SCHEDULE: &str = "
    INSERT INTO schedule (name, rhythm, next_at) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET rhythm = excluded.rhythm, next_at = excluded.next_at
    WHERE rhythm <> excluded.rhythm";
pub(super) const FORGET_SCHEDULE: &str = "DELETE FROM schedule WHERE name = ?1";
pub(super) const STANDS: &str = "
    SELECT name, paused, next_at, last_at, last_job,
        (SELECT job FROM live WHERE job = last_job) AS unfinished
    FROM schedule WHERE name = ?1";
pub(super) const MOVE_ON: &str = "UPDATE schedule SET next_at = ?2 WHERE name = ?1";
pub(super) const RAN: &str = "UPDATE schedule SET last_at = ?2, last_job = ?3 WHERE name = ?1";
pub(super) const PAUSE: &str = "UPDATE schedule SET paused = 1 WHERE name = ?1";
pub(super) const RESUME: &str = "UPDATE schedule SET paused = 0, next_at = ?2 WHERE name = ?1 AND paused = 1";

pub(super) fn put_schedules(tx: &mut Tx<'_>, known: &[KnownSchedule]) -> Result<(), StoreError> {
    for row in schedules(tx.conn)? {
        if !known.iter().any(|schedule| schedule.name == row.name) {
            statement::run(tx.conn, FORGET_SCHEDULE, [row.name.as_str()])?;
        }
    }
    for schedule in known {
        let values = params![schedule.name.as_str(), schedule.rhythm, schedule.first.map(column::micros)];
        statement::run(tx.conn, PUT_SCHEDULE, values)?;
    }
    Ok(())
}

pub(super) fn schedules(conn: &Connection) -> Result<Vec<ScheduleRow>, StoreError> {
    statement::all(conn, SCHEDULES, [], row)
}

fn row(row: &Row<'_>) -> Result<ScheduleRow, StoreError> {
    let name: String = row.get("name")?;
    Ok(ScheduleRow {
        name: name.parse().map_err(|_| column::corrupt(format!("a schedule named {name:?}")))?,
        paused: row.get("paused")?,
        next_at: column::maybe_time(row.get("next_at")?)?,
        last_at: column::maybe_time(row.get("last_at")?)?,
        last_job: column::maybe_id(row, "last_job")?,
    })
}

pub(super) fn fire(tx: &mut Tx<'_>, fire: &Fire) -> Result<Fired, StoreError> {
    let name = fire.name.as_str();
    let stands = |found: &Row<'_>| Ok((row(found)?, column::maybe_id(found, "unfinished")?));
    let Some((row, unfinished)) = statement::one(tx.conn, STANDS, [name], stands)? else {
        return Ok(Fired::Unknown);
    };
    if let Occasion::Moment { due, next } = fire.occasion {
        if row.paused || row.next_at.map(column::micros) != Some(column::micros(due)) {
            return Ok(Fired::Stale);
        }
        statement::run(tx.conn, MOVE_ON, params![name, next.map(column::micros)])?;
    }
    let Some(job) = &fire.job else { return Ok(Fired::Passed) };
    if let Some(before) = unfinished.filter(|_| !fire.overlap.allows(true)) {
        return Ok(Fired::Skipped(before));
    }
    let submitted = submit::submit(tx, job)?;
    if let Some(ran) = submitted.job(job.id) {
        let values = params![name, column::micros(fire.at), ran.as_bytes().as_slice()];
        statement::run(tx.conn, RAN, values)?;
    }
    Ok(Fired::Submitted(submitted))
}

pub(super) fn set_schedule(
    tx: &mut Tx<'_>,
    name: &ScheduleName,
    state: ScheduleState,
) -> Result<bool, StoreError> {
    let known = statement::one(tx.conn, STANDS, [name.as_str()], |_| Ok(()))?.is_some();
    match state {
        ScheduleState::Paused => statement::run(tx.conn, PAUSE, [name.as_str()])?,
        ScheduleState::Open { next } => {
            statement::run(tx.conn, RESUME, params![name.as_str(), next.map(column::micros)])?
        }
    };
    Ok(known)
}

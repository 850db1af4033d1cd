//! What the store knows of tasks as such: that they exist, whether they are paused, and
//! how many jobs each has had.

use std::collections::BTreeMap;

use procession_core::id::TaskName;
use rusqlite::Connection;

use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::TaskCounts;

pub(super) const COUNTS: &str = "
    SELECT name, (SELECT count(*) FROM live WHERE live.task = task.id AND holds_slot = 1),
        queued + scheduled, finished, failed, paused,
        (SELECT count(*) FROM live WHERE live.task = task.id AND begun_at IS NOT NULL)
    FROM task";

pub(super) fn put_tasks(tx: &mut Tx<'_>, tasks: &[TaskName]) -> Result<(), StoreError> {
    for name in tasks {
        tx.ledger.ensure(tx.conn, name)?;
    }
    Ok(())
}

pub(super) fn stats(conn: &Connection) -> Result<BTreeMap<TaskName, TaskCounts>, StoreError> {
    let counts = statement::all(conn, COUNTS, [], |row| {
        let counts = TaskCounts {
            running: column::count(row.get(1)?)?,
            queued: column::count(row.get(2)?)?,
            finished: column::count(row.get(3)?)?,
            failed: column::count(row.get(4)?)?,
            paused: row.get(5)?,
            families: column::count(row.get(6)?)?,
        };
        Ok((column::task_name(&row.get::<_, String>(0)?)?, counts))
    })?;
    Ok(counts.into_iter().collect())
}

//! Saving what is left of a damaged store into a new one. The old file is only read; the new
//! one takes what its constraints accept and what loads as the contract says, is counted anew,
//! and is under its name only once it is whole. Called by `procession doctor --repair`, while
//! no server runs.
//!
//! A job whose row is left is never dropped because others of its rows are gone: how it ended
//! is taken from its attempt, and where nothing says what became of it, it is `lost`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::outcome::{LostReason, Outcome};
use rusqlite::{Connection, params};

use self::sweep::{Sweep, Table};
use super::ledger::Ledger;
use super::record::{self, Extent};
use super::{column, delete, delivery, open, statement};
use crate::error::StoreError;

mod sweep;

/// Fences that may have been given and were not found.
const EPOCH: i64 = 1 << 32;

/// More tasks than any config has: what names a higher number is damage.
const MOST_TASKS: i64 = 100_000;

const TASK_IDS: &str = "SELECT id FROM task ORDER BY id";
const FILL_TASK: &str = "INSERT INTO task (id, name) VALUES (?1, ?2)";
const NO_STANDING: &str = "
    SELECT id, task, (SELECT max(attempt) FROM attempt WHERE attempt.job = job.id) FROM job
    WHERE NOT EXISTS (SELECT 1 FROM live WHERE live.job = job.id)
        AND NOT EXISTS (SELECT 1 FROM done WHERE done.job = job.id)
        AND id > ?1 ORDER BY id LIMIT 1000";
const ATTEMPTS_END: &str = "SELECT outcome, finished_at FROM attempt WHERE job = ?1 AND attempt = ?2";
const INSERT_DONE: &str = "
    INSERT INTO done (job, task, state, kind, outcome, attempt, finished_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const LABELS: &str = "
    INSERT OR IGNORE INTO label (name, value, job)
    SELECT pair.key, pair.value, job.id FROM job, json_each(job.labels) AS pair
    WHERE json_valid(job.labels) AND pair.type = 'text'";
const KEYED: &str = "SELECT id, task, principal, idempotency_key FROM job WHERE principal IS NOT NULL";
const KEY: &str =
    "SELECT body_hash FROM idempotency WHERE task = ?1 AND principal = ?2 AND key = ?3 AND job = ?4";
const INSERT_KEY: &str = "
    INSERT OR IGNORE INTO idempotency (task, principal, key, body_hash, job) VALUES (?1, ?2, ?3, ?4, ?5)";
const BOTH: &str = "DELETE FROM live WHERE EXISTS (SELECT 1 FROM done WHERE done.job = live.job)";
// A child whose parent is not there is given a slot by nobody; it is lost. A parent whose rules are
// gone has none, and one whose children are gone waits for nobody.
const ORPHANS: &str = "
    DELETE FROM live WHERE parent IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM live AS above WHERE above.job = live.parent)";
const RULES: &str = "
    INSERT OR IGNORE INTO family (job, stops, joins, join_decides)
    SELECT job, 0, 0, 0 FROM live WHERE is_parent = 1";
const DESERTED: &str = "
    UPDATE live SET gathers = 1 WHERE state = 'waiting' AND gathers = 0
        AND NOT EXISTS (SELECT 1 FROM live AS below WHERE below.parent = live.job)";
const FORGET: &str = "DELETE FROM live WHERE job = ?1";
const IDS: &str = "SELECT id FROM job WHERE id > ?1 ORDER BY id LIMIT 1000";
const OLD_FENCE: &str = "SELECT fence FROM meta";
const FENCE: &str = "
    UPDATE meta SET fence = ?1 + max(?2, coalesce((SELECT max(fence) FROM live), 0),
        coalesce((SELECT max(fence) FROM attempt), 0))";
const TOTALS: &str = "
    UPDATE task SET finished = max(finished, (SELECT count(*) FROM done WHERE done.task = task.id)),
        failed = max(failed, (SELECT count(*) FROM done WHERE done.task = task.id AND state <> 'succeeded'))";

/// What became of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Which.
    pub table: &'static str,
    /// Rows that are in the new store.
    pub rows: u64,
    /// Rows that were read, but are not what a row of this table can be.
    pub refused: u64,
    /// Rows that could not be read. At most so many: a place that cannot be read may have
    /// been empty.
    pub unreadable: u64,
    /// There were more rows that are unreadable, and how many cannot be told: its last ones, or
    /// those between rows whose numbers cannot be believed.
    pub open_end: bool,
}

/// What was saved and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Table by table.
    pub tables: Vec<Saved>,
    /// Jobs whose end is known only from their attempt: without result and artifacts.
    pub ended_by_attempt: u64,
    /// Jobs of which nothing says what became of them: they are `lost`.
    pub lost: u64,
    /// Jobs whose rows did not make a job, and that were left out.
    pub dropped: u64,
}

/// Saves what can be read of the store at `from` into a new one at `to`.
///
/// # Errors
/// [`StoreError::Refused`] where there is something at `to`, or where `from` is no store or
/// one whose list of tables cannot be read: then nothing can be saved this way.
pub fn salvage(from: &Path, to: &Path) -> Result<Salvage, StoreError> {
    if to.exists() {
        return Err(open::refused(to, &"something is there already", "name a new file"));
    }
    super::check_place(to)?;
    let old = open::readable(from).map_err(|error| open::refused(from, &error, NOTHING_LEFT))?;
    let made = open::beside(to, ".new");
    let _ = fs::remove_file(&made);
    let new = open::empty(&made)?;
    let outcome = save(&old, &new).and_then(|saved| {
        new.close().map_err(|(_, error)| error)?;
        open::put_in_place(&made, to)?;
        Ok(saved)
    });
    if outcome.is_err() {
        let _ = fs::remove_file(&made);
    }
    outcome
}

const NOTHING_LEFT: &str = "nothing can be read of it; use a folder made by `procession backup` as data_dir";

fn save(old: &Connection, new: &Connection) -> Result<Salvage, StoreError> {
    // Synced once, as a whole, before it gets its name.
    new.pragma_update(None, "synchronous", "OFF")?;
    new.execute_batch("BEGIN")?;
    let mut salvage = Salvage::default();
    let sweep = Sweep { old, new };
    let tasks = sweep.all("task", "rowid", &mut |_| Ok(false))?;
    fill_tasks(new, 0)?;
    salvage.tables.push(tasks);
    // A job may name a task that is gone: it gets one without its name.
    let jobs = sweep.all("job", "rowid", &mut |row| fill_tasks(new, row.integer("task").unwrap_or(0)))?;
    salvage.tables.push(jobs);
    salvage.tables.push(sweep.all("attempt", "rowid", &mut |_| Ok(false))?);
    for table in ["done", "live", "family"] {
        salvage.tables.push(of_each_job(&sweep, table)?);
    }
    for sql in [BOTH, ORPHANS, RULES, DESERTED] {
        statement::run(new, sql, [])?;
    }
    salvage.tables.push(keys(old, new)?);
    let labels = statement::run(new, LABELS, [])? as u64;
    salvage.tables.push(Saved { table: "label", rows: labels, ..Saved::default() });
    for (table, order) in [("lane", "task, value"), ("node", "name"), ("schedule", "name")] {
        salvage.tables.push(sweep.all(table, order, &mut |_| Ok(false))?);
    }
    for (table, order) in [("delivery", "rowid"), ("gone", "target")] {
        salvage.tables.push(sweep.all(table, order, &mut |_| Ok(false))?);
    }
    give_standing(new, &mut salvage)?;
    salvage.dropped = drop_nonsense(new)?;
    count_anew(old, new)?;
    new.execute_batch("COMMIT")?;
    Ok(salvage)
}

/// Ids of tasks have no holes: fills them up to `most` with names nobody else has. `true`: it
/// made one.
fn fill_tasks(new: &Connection, most: i64) -> Result<bool, StoreError> {
    if most > MOST_TASKS {
        return Ok(false);
    }
    let there = statement::all(new, TASK_IDS, [], |row| Ok(row.get::<_, i64>(0)?))?;
    let most = most.max(there.last().copied().unwrap_or(0));
    let mut filled = false;
    for id in (1..=most).filter(|id| there.binary_search(id).is_err()) {
        statement::run(new, FILL_TASK, params![id, format!("recovered-{id}")])?;
        filled = true;
    }
    Ok(filled)
}

/// A table with at most one row for each job: from both ends, then by the id of each job that
/// is left.
fn of_each_job(sweep: &Sweep<'_>, table: &'static str) -> Result<Saved, StoreError> {
    let mut saved = sweep.ends(table, "job")?;
    if !saved.complete {
        let table = Table::of(sweep, table)?;
        each_job(sweep.new, |id| {
            // What it cannot read is found later, as a job without a standing.
            sweep.one(&table, "job", id, &mut saved.saved, &mut |_| Ok(false)).map(drop)
        })?;
    }
    Ok(saved.saved)
}

/// Runs `act` for every job that was saved, in pages: what it does may change what is read.
fn each_job(
    new: &Connection,
    mut act: impl FnMut(&[u8; 16]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut last = [0; 16];
    loop {
        let page = statement::all(new, IDS, [last], |row| Ok(row.get::<_, [u8; 16]>(0)?))?;
        let Some(end) = page.last() else { return Ok(()) };
        last = *end;
        page.iter().try_for_each(&mut act)?;
    }
}

/// Idempotency keys, each looked up by the job that says it has one.
fn keys(old: &Connection, new: &Connection) -> Result<Saved, StoreError> {
    let mut saved = Saved { table: "idempotency", ..Saved::default() };
    let keyed = statement::all(new, KEYED, [], |row| {
        Ok((
            row.get::<_, [u8; 16]>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
        ))
    })?;
    for (job, task, principal, key) in keyed {
        let hash =
            statement::one(
                old,
                KEY,
                params![task, principal, key, job],
                |row| Ok(row.get::<_, [u8; 32]>(0)?),
            );
        match hash {
            Ok(Some(hash)) => {
                statement::run(new, INSERT_KEY, params![task, principal, key, hash, job])?;
                saved.rows += 1;
            }
            Ok(None) | Err(_) => saved.unreadable += 1,
        }
    }
    Ok(saved)
}

/// Jobs that are neither queued, running nor over: from their attempt, else lost.
fn give_standing(new: &Connection, salvage: &mut Salvage) -> Result<(), StoreError> {
    let mut last = [0; 16];
    loop {
        let page = statement::all(new, NO_STANDING, [last], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
        })?;
        let Some((end, ..)) = page.last() else { return Ok(()) };
        last = *end;
        for (job, task, attempt) in page {
            let attempt = attempt.unwrap_or(0);
            let known = statement::one(new, ATTEMPTS_END, params![job, attempt], |row| {
                Ok((column::from_json::<Outcome>(&row.get::<_, String>(0)?)?, row.get::<_, i64>(1)?))
            });
            let (outcome, at) = match known {
                Ok(Some(known)) => {
                    salvage.ended_by_attempt += 1;
                    known
                }
                Ok(None) | Err(_) => {
                    salvage.lost += 1;
                    let outcome = Outcome::Lost { reason: LostReason::StoreDamaged };
                    (outcome, column::micros(Timestamp::now()))
                }
            };
            let values = params![
                job,
                task,
                outcome.state().name(),
                outcome.kind(),
                column::json(&outcome),
                attempt.max(1),
                at
            ];
            statement::run(new, INSERT_DONE, values)?;
        }
    }
}

/// Leaves out what the server could not load.
fn drop_nonsense(new: &Connection) -> Result<u64, StoreError> {
    let mut dropped = 0;
    each_job(new, |id| {
        let job = JobId::from_bytes(*id);
        let loads = record::job(new, job, Extent::Whole).and_then(|_| record::attempts(new, job));
        if loads.is_err() {
            statement::run(new, FORGET, [id])?;
            delete::remove(new, job)?;
            dropped += 1;
        } else if delivery::of_job(new, job).is_err() {
            // How it ended is worth more than whom it was to be told.
            statement::run(new, delete::DELIVERIES, [id])?;
        }
        Ok(())
    })?;
    Ok(dropped)
}

/// The last fence, totals and depths.
fn count_anew(old: &Connection, new: &Connection) -> Result<(), StoreError> {
    let fence = statement::one(old, OLD_FENCE, [], |row| Ok(row.get::<_, i64>(0)?));
    let fence = fence.ok().flatten().unwrap_or(0).clamp(0, i64::MAX / 2);
    statement::run(new, FENCE, [EPOCH, fence])?;
    statement::run(new, TOTALS, [])?;
    Ledger::open(new).map(drop)
}

/// Counts by table, for those who tell people.
impl Salvage {
    /// Rows saved, by table.
    pub fn rows(&self) -> BTreeMap<&'static str, u64> {
        self.tables.iter().map(|saved| (saved.table, saved.rows)).collect()
    }
}

//! The one way out: a job's row in `live` becomes one in `done`, whatever ended it.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::{Artifact, Finished, Progress, ResultSummary};
use procession_core::outcome::Outcome;
use procession_core::state::{JobState, Move};
use rusqlite::{Connection, Row, params};

use super::lanes::Group;
use super::ledger::Place;
use super::writer::Tx;
use super::{column, delivery, statement};
use crate::error::StoreError;
use crate::store::Effects;

pub(super) const DROP_LIVE: &str = "DELETE FROM live WHERE job = ?1";
pub(super) const INSERT_DONE: &str = "
    INSERT INTO done (job, task, state, kind, outcome, attempt, finished_at, cancel_at, artifacts,
        progress, progress_message, result_json, result_len, result, parent, begun_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

/// What of a row in `live` its end needs.
#[derive(Clone)]
pub(super) struct Leaving {
    pub job: JobId,
    pub task: i64,
    pub state: JobState,
    /// Attempts begun.
    pub attempt: u32,
    pub group: Group,
    pub retrying: bool,
    pub follows: bool,
    pub is_parent: bool,
    pub begun_at: Option<i64>,
    pub cancel_at: Option<i64>,
}

/// The columns [`Leaving::of`] reads.
macro_rules! leaving {
    () => {
        "job, task, state, attempt, lane, parent, retrying, follows, is_parent, begun_at, cancel_at"
    };
}
pub(super) use leaving;

impl Leaving {
    pub(super) fn of(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            job: column::id(row, "job")?,
            task: row.get("task")?,
            state: column::state(&row.get::<_, String>("state")?)?,
            attempt: row.get("attempt")?,
            group: Group::of(row)?,
            retrying: row.get("retrying")?,
            follows: row.get("follows")?,
            is_parent: row.get("is_parent")?,
            begun_at: row.get("begun_at")?,
            cancel_at: row.get("cancel_at")?,
        })
    }

    pub(super) fn place(&self) -> Place {
        Place { retrying: self.retrying, ..Place::new(self.state, self.group.parent) }
    }

    /// Whether it had a place under the limits of its task.
    fn held(&self) -> bool {
        self.state == JobState::Running || self.begun_at.is_some()
    }
}

/// What a job left behind.
#[derive(Default)]
pub(super) struct Estate<'a> {
    pub artifacts: &'a [Artifact],
    pub progress: Option<&'a Progress>,
    pub result: ResultSummary,
}

impl<'a> Estate<'a> {
    pub(super) fn of(finished: &'a Finished) -> Self {
        let (artifacts, progress) = (&finished.artifacts[..], finished.progress.as_ref());
        Self { artifacts, progress, result: finished.result.clone() }
    }
}

/// Ends a job whose row in `live` is gone. What its end means for the family it is part of is
/// `family::child_over`'s.
pub(super) fn end(
    tx: &mut Tx<'_>,
    leaving: &Leaving,
    outcome: &Outcome,
    at: Timestamp,
    estate: Estate<'_>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let state = column::after(leaving.state, Move::Finish(outcome.state()))?;
    insert_done(tx.conn, leaving, state, outcome, at, &estate)?;
    tx.ledger.moved(leaving.task, leaving.place(), leaving.place().to(state))?;
    if leaving.held() {
        tx.ledger.lanes.freed(leaving.task, &leaving.group);
    }
    if leaving.follows {
        effects.tells |= delivery::write(tx, leaving.job, outcome, at)?;
    }
    Ok(())
}

/// The same of a job whose row is still there, and that left nothing.
pub(super) fn drop_and_end(
    tx: &mut Tx<'_>,
    leaving: &Leaving,
    outcome: &Outcome,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    statement::run(tx.conn, DROP_LIVE, [leaving.job.as_bytes().as_slice()])?;
    end(tx, leaving, outcome, at, Estate::default(), effects)
}

fn insert_done(
    conn: &Connection,
    leaving: &Leaving,
    state: JobState,
    outcome: &Outcome,
    at: Timestamp,
    estate: &Estate<'_>,
) -> Result<(), StoreError> {
    let (json, len, bytes) = match &estate.result {
        ResultSummary::None => (None, None, None),
        ResultSummary::Inline { json, bytes } => {
            (Some(*json), Some(column::number(bytes.len() as u64)), Some(bytes.as_ref()))
        }
        ResultSummary::File { json, len } => (Some(*json), Some(column::number(*len)), None),
    };
    // A family without a join is its own and only attempt.
    let attempt = if leaving.begun_at.is_some() { leaving.attempt.max(1) } else { leaving.attempt };
    let values = params![
        leaving.job.as_bytes().as_slice(),
        leaving.task,
        state.name(),
        outcome.kind(),
        column::json(outcome),
        attempt,
        column::micros(at),
        leaving.cancel_at,
        (!estate.artifacts.is_empty()).then(|| column::json(&estate.artifacts)),
        estate.progress.map(|progress| progress.fraction),
        estate.progress.map(|progress| &progress.message),
        json,
        len,
        bytes,
        column::maybe_bytes(&leaving.group.parent),
        leaving.begun_at,
    ];
    statement::run(conn, INSERT_DONE, values)?;
    Ok(())
}

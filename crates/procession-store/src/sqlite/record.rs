//! Rows into the records of the contract. Each row passes the core's types: a state that is
//! none, an outcome that does not lead to its state, a job in both tables or in neither are
//! all seen here.

use std::collections::BTreeMap;

use bytes::Bytes;
use procession_core::id::{Fence, JobId};
use procession_core::job::{AttemptRecord, JobRecord, OutputSummary, Progress, ResultSummary, StreamSummary};
use procession_core::outcome::Outcome;
use procession_core::record::Usage;
use procession_core::state::JobState;
use rusqlite::{Connection, Row, params};

use super::{column, family, statement};
use crate::error::StoreError;

pub(super) const RECORD: &str = include_str!("record.sql");
pub(super) const ATTEMPTS: &str = include_str!("attempts.sql");

/// How much of a record is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// Without output tails and the result.
    Line,
}

pub(super) fn job(conn: &Connection, id: JobId, extent: Extent) -> Result<Option<JobRecord>, StoreError> {
    let values = params![id.as_bytes().as_slice(), extent == Extent::Whole];
    let found = statement::one(conn, RECORD, values, |row| Ok((record(row)?, row.get("is_parent")?)))?;
    let Some((mut record, is_parent)) = found else { return Ok(None) };
    if is_parent {
        record.children = Some(family::counts(conn, id)?);
    }
    Ok(Some(record))
}

pub(super) fn attempts(conn: &Connection, id: JobId) -> Result<Vec<AttemptRecord>, StoreError> {
    statement::all(conn, ATTEMPTS, [id.as_bytes().as_slice()], attempt)
}

fn record(row: &Row<'_>) -> Result<JobRecord, StoreError> {
    let (state, outcome) = standing(row)?;
    let text = |name: &str| row.get::<_, Option<String>>(name);
    Ok(JobRecord {
        id: column::id(row, "id")?,
        task: column::task_name(&row.get::<_, String>("task")?)?,
        state,
        attempt: row.get("attempt")?,
        max_attempts: row.get("max_attempts")?,
        outcome,
        submitted_at: column::time(row.get("submitted_at")?)?,
        run_at: column::maybe_time(row.get("run_at")?)?,
        expires_at: column::maybe_time(row.get("expires_at")?)?,
        started_at: column::maybe_time(row.get("started_at")?)?,
        finished_at: column::maybe_time(row.get("finished_at")?)?,
        run_ms: row.get::<_, Option<i64>>("run_ms")?.map(column::count).transpose()?,
        cancel_requested_at: column::maybe_time(row.get("cancel_at")?)?,
        usage: usage(row)?,
        output: output(row)?,
        result: result(row)?,
        artifacts: column::from_maybe_json(text("artifacts")?.as_deref())?,
        progress: progress(row)?,
        parent: column::maybe_id(row, "parent")?,
        index: row.get("child_index")?,
        children: None,
        retry_of: column::maybe_id(row, "retry_of")?,
        lane: row.get("lane")?,
        labels: column::from_maybe_json::<BTreeMap<_, _>>(text("labels")?.as_deref())?,
        priority: row.get("priority")?,
        submitted_by: row.get("submitted_by")?,
        node: row.get("node")?,
        config_revision: row.get("config_revision")?,
        containment: column::containment(text("containment")?.as_deref())?,
        leaked: row.get("leaked")?,
        payload_len: column::count(row.get("payload_len")?)?,
    })
}

/// Where a job stands: in exactly one of the two tables, and as its outcome says.
fn standing(row: &Row<'_>) -> Result<(JobState, Option<Outcome>), StoreError> {
    let id = column::id(row, "id")?;
    let live: Option<String> = row.get("live_state")?;
    let done: Option<String> = row.get("done_state")?;
    match (live, done) {
        (Some(live), None) => {
            let state = column::state(&live)?;
            if state.is_final() {
                return Err(column::corrupt(format!("job {id} is {state} and not over")));
            }
            Ok((state, None))
        }
        (None, Some(done)) => {
            let state = column::state(&done)?;
            let outcome: Outcome = column::from_json(&row.get::<_, String>("outcome")?)?;
            if outcome.state() != state {
                return Err(column::corrupt(format!("job {id} is {state} by {outcome:?}")));
            }
            Ok((state, Some(outcome)))
        }
        (Some(_), Some(_)) => Err(column::corrupt(format!("job {id} is over and is not"))),
        (None, None) => Err(column::corrupt(format!("job {id} is nowhere"))),
    }
}

fn attempt(row: &Row<'_>) -> Result<AttemptRecord, StoreError> {
    let outcome: Option<String> = row.get("outcome")?;
    let containment: Option<String> = row.get("containment")?;
    Ok(AttemptRecord {
        attempt: row.get("attempt")?,
        fence: Fence(column::count(row.get("fence")?)?),
        outcome: outcome.map(|text| column::from_json(&text)).transpose()?,
        claimed_at: column::time(row.get("claimed_at")?)?,
        started_at: column::maybe_time(row.get("started_at")?)?,
        finished_at: column::maybe_time(row.get("finished_at")?)?,
        run_ms: row.get::<_, Option<i64>>("run_ms")?.map(column::count).transpose()?,
        usage: usage(row)?,
        output: output(row)?,
        containment: column::containment(containment.as_deref())?,
        leaked: row.get("leaked")?,
        node: row.get("node")?,
        config_revision: row.get("config_revision")?,
    })
}

fn usage(row: &Row<'_>) -> Result<Option<Usage>, StoreError> {
    let Some(user_us) = row.get::<_, Option<i64>>("user_us")? else { return Ok(None) };
    Ok(Some(Usage {
        user_us: column::count(user_us)?,
        system_us: column::count(row.get("system_us")?)?,
        max_rss_bytes: column::count(row.get("max_rss_bytes")?)?,
    }))
}

fn output(row: &Row<'_>) -> Result<Option<OutputSummary>, StoreError> {
    let Some(limit) = row.get::<_, Option<i64>>("output_limit")? else { return Ok(None) };
    let stream = |total: &str, written: &str, place: &str, tail: &str| {
        Ok::<_, StoreError>(StreamSummary {
            total: column::count(row.get(total)?)?,
            written: column::count(row.get(written)?)?,
            place: column::place(&row.get::<_, String>(place)?)?,
            tail: Bytes::from(row.get::<_, Vec<u8>>(tail)?),
        })
    };
    Ok(Some(OutputSummary {
        stdout: stream("stdout_total", "stdout_written", "stdout_place", "stdout_tail")?,
        stderr: stream("stderr_total", "stderr_written", "stderr_place", "stderr_tail")?,
        limit: column::count(limit)?,
    }))
}

fn progress(row: &Row<'_>) -> Result<Option<Progress>, StoreError> {
    let Some(fraction) = row.get("progress")? else { return Ok(None) };
    Ok(Some(Progress { fraction, message: row.get("progress_message")? }))
}

pub(super) fn result(row: &Row<'_>) -> Result<ResultSummary, StoreError> {
    let Some(json) = row.get::<_, Option<bool>>("result_json")? else { return Ok(ResultSummary::None) };
    Ok(match row.get::<_, Option<Vec<u8>>>("result")? {
        Some(bytes) => ResultSummary::Inline { json, bytes: bytes.into() },
        None => ResultSummary::File { json, len: column::count(row.get("result_len")?)? },
    })
}

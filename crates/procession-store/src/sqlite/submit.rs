//! Recording a new job: replay, admission, rows, in the writer's transaction.

use procession_core::admission::{Usage, Verdict, decide};
use procession_core::id::JobId;
use procession_core::job::{Idempotency, NewJob, StoredPayload};
use procession_core::limits::Limit;
use procession_core::placeholder::RequestValues;
use procession_core::state::JobState;
use rusqlite::{Connection, params};

use super::claim::held_slots;
use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Submitted;

pub(super) const KEY: &str = "
    SELECT body_hash, job FROM idempotency WHERE task = ?1 AND principal = ?2 AND key = ?3";
pub(super) const INSERT_KEY: &str = "
    INSERT INTO idempotency (task, principal, key, body_hash, job) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const KNOWN: &str = "SELECT 1 FROM job WHERE id = ?1";
pub(super) const INSERT_JOB: &str = "
    INSERT INTO job (id, task, submitted_at, run_at, expires_at, priority, max_attempts, labels, retry_of,
                     submitted_by, config_revision, principal, idempotency_key, request, payload_len, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
    ON CONFLICT (id) DO NOTHING";
pub(super) const INSERT_LIVE: &str = "
    INSERT INTO live (job, task, state, priority, run_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const INSERT_LABEL: &str = "INSERT INTO label (name, value, job) VALUES (?1, ?2, ?3)";

pub(super) fn submit(tx: &mut Tx<'_>, job: &NewJob) -> Result<Submitted, StoreError> {
    let task = tx.ledger.ensure(tx.conn, &job.task)?.id;
    if let Some(key) = &job.idempotency
        && let Some(earlier) = earlier(tx.conn, task, key)?
    {
        return Ok(earlier);
    }
    if let Verdict::Busy(full) = decide(job.limits, usage(tx, job)?) {
        // A caller that asks again because it missed the answer is told of its job.
        let known = statement::one(tx.conn, KNOWN, [job.id.as_bytes().as_slice()], |_| Ok(()))?;
        return Ok(known.map_or(Submitted::Busy(full), |()| Submitted::Replay(job.id)));
    }
    if !insert(tx.conn, task, job)? {
        return Ok(Submitted::Replay(job.id));
    }
    let state = if job.run_at.is_some_and(|at| at > job.submitted_at) {
        JobState::Scheduled
    } else {
        JobState::Queued
    };
    let values = params![
        job.id.as_bytes().as_slice(),
        task,
        state.name(),
        job.priority,
        column::micros(job.run_at.unwrap_or(job.submitted_at)),
        job.expires_at.map(column::micros),
    ];
    statement::run(tx.conn, INSERT_LIVE, values)?;
    tx.ledger.entered(task, state)?;
    Ok(Submitted::New)
}

fn earlier(conn: &Connection, task: i64, key: &Idempotency) -> Result<Option<Submitted>, StoreError> {
    statement::one(conn, KEY, params![task, key.principal, key.key], |row| {
        let (hash, job): ([u8; 32], [u8; 16]) = (row.get(0)?, row.get(1)?);
        let job = JobId::from_bytes(job);
        Ok(if hash == key.body_hash { Submitted::Replay(job) } else { Submitted::Conflict(job) })
    })
}

/// The counts admission asks for. Those of the node cost a look at every task with a queue
/// and decide only where the task has no waiting room, so only there are they counted.
fn usage(tx: &Tx<'_>, job: &NewJob) -> Result<Usage, StoreError> {
    let unfinished = tx.ledger.find(&job.task).map_or(0, |task| task.unfinished);
    let mut usage = Usage {
        unfinished: column::count(unfinished)?,
        node_running: 0,
        node_queued: 0,
        node_slots: job.node_slots,
    };
    if job.limits.max_queued > 0 {
        return Ok(usage);
    }
    let held = held_slots(tx.conn)?;
    usage.node_running = held.values().sum();
    for task in tx.ledger.tasks().iter().filter(|task| task.queued > 0 && !task.paused) {
        let limit = match &tx.ledger.asked {
            _ if task.name == job.task => Some(job.limits.max_running),
            Some(asked) => asked.get(&task.name).copied(),
            None => Some(Limit::Unlimited),
        };
        let running = held.get(&task.id).copied().unwrap_or(0);
        let room = limit.map_or(0, |limit| limit.room(running));
        usage.node_queued += room.min(column::count(task.queued)?);
    }
    Ok(usage)
}

/// `false`: this very job is there already.
fn insert(conn: &Connection, task: i64, job: &NewJob) -> Result<bool, StoreError> {
    let id = job.id.as_bytes().as_slice();
    let (payload, payload_len) = match &job.payload {
        StoredPayload::Inline(bytes) => (Some(bytes.as_ref()), bytes.len() as u64),
        StoredPayload::File { len } => (None, *len),
    };
    let key = job.idempotency.as_ref();
    let values = params![
        id,
        task,
        column::micros(job.submitted_at),
        job.run_at.map(column::micros),
        job.expires_at.map(column::micros),
        job.priority,
        (!job.labels.is_empty()).then(|| column::json(&job.labels)),
        column::maybe_bytes(&job.retry_of),
        job.submitted_by,
        job.config_revision,
        key.map(|key| &key.principal),
        key.map(|key| &key.key),
        (job.request != RequestValues::default()).then(|| column::json(&job.request)),
        column::number(payload_len),
        payload,
    ];
    if statement::run(conn, INSERT_JOB, values)? == 0 {
        return Ok(false);
    }
    for (name, value) in &job.labels {
        statement::run(conn, INSERT_LABEL, params![name, value, id])?;
    }
    if let Some(key) = key {
        statement::run(conn, INSERT_KEY, params![task, key.principal, key.key, key.body_hash, id])?;
    }
    Ok(true)
}

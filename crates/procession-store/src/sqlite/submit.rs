//! Recording a new job and all below it: replay, what is unique, admission, rows, in the writer's
//! transaction.

use procession_core::admission::{Full, Usage, Verdict, decide};
use procession_core::family::OnFailure;
use procession_core::id::JobId;
use procession_core::job::{Admission, Family, Idempotency, NewJob, OnDuplicate, StoredPayload};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::placeholder::RequestValues;
use procession_core::state::JobState;
use rusqlite::{Connection, params};

use super::claim::held;
use super::family::{self, Stands};
use super::lanes::Group;
use super::ledger::Place;
use super::writer::Tx;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::{Effects, Submitted};

pub(super) const KEY: &str = "
    SELECT body_hash, job FROM idempotency WHERE task = ?1 AND principal = ?2 AND key = ?3";
pub(super) const INSERT_KEY: &str = "
    INSERT INTO idempotency (task, principal, key, body_hash, job) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const KNOWN: &str = "SELECT 1 FROM job WHERE id = ?1";
pub(super) const SAME: &str = "
    SELECT job FROM live WHERE task = ?1 AND unique_value = ?2 AND unique_value IS NOT NULL ORDER BY job";
pub(super) const INSERT_JOB: &str = "
    INSERT INTO job (id, task, submitted_at, run_at, expires_at, priority, max_attempts, labels, retry_of,
                     submitted_by, config_revision, principal, idempotency_key, request, payload_len, payload,
                     lane, parent, root, child_index, depth, follow_ups)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
    ON CONFLICT (id) DO NOTHING";
pub(super) const INSERT_LIVE: &str = "
    INSERT INTO live (job, task, state, priority, run_at, expires_at, lane, parent, unique_value, follows,
                      is_parent)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
pub(super) const INSERT_FAMILY: &str = "
    INSERT INTO family (job, max_running, stops, joins, join_decides, timeout_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const INSERT_LABEL: &str = "INSERT INTO label (name, value, job) VALUES (?1, ?2, ?3)";

pub(super) fn submit(tx: &mut Tx<'_>, job: &NewJob) -> Result<Submitted, StoreError> {
    let task = tx.ledger.ensure(tx.conn, &job.task)?.id;
    if let Some(key) = &job.idempotency
        && let Some(earlier) = earlier(tx.conn, task, key)?
    {
        return Ok(earlier);
    }
    let replaced = match replaced(tx, task, job)? {
        Ok(replaced) => replaced,
        Err(answer) => return Ok(answer),
    };
    if let Some(admission) = &job.admission
        && let Some(full) = admit(tx, task, job, admission, &replaced)?
    {
        // A caller that asks again because it missed the answer is told of its job.
        return Ok(if is_known(tx.conn, job.id)? {
            Submitted::Replay(job.id)
        } else {
            Submitted::Busy(full)
        });
    }
    if !insert(tx, task, job, None)? {
        return Ok(Submitted::Replay(job.id));
    }
    let mut effects = Effects::default();
    for stands in replaced {
        // The end of one may have been that of another.
        let Some(stands) = family::stands(tx.conn, stands.leaving.job)? else { continue };
        let (by, at) = (CancelledBy::Replaced, job.submitted_at);
        if family::stop(tx, &stands, by, at, &mut effects)? {
            effects.moved.push(stands.leaving.job);
            family::child_over(tx, stands.leaving.group.parent, &Outcome::cancelled(by), at, &mut effects)?;
        }
    }
    Ok(Submitted::New(effects))
}

fn earlier(conn: &Connection, task: i64, key: &Idempotency) -> Result<Option<Submitted>, StoreError> {
    statement::one(conn, KEY, params![task, key.principal, key.key], |row| {
        let (hash, job): ([u8; 32], [u8; 16]) = (row.get(0)?, row.get(1)?);
        let job = JobId::from_bytes(job);
        Ok(if hash == key.body_hash { Submitted::Replay(job) } else { Submitted::Conflict(job) })
    })
}

fn is_known(conn: &Connection, job: JobId) -> Result<bool, StoreError> {
    Ok(statement::one(conn, KNOWN, [job.as_bytes().as_slice()], |_| Ok(()))?.is_some())
}

/// The jobs whose place this one takes; or the answer, where it takes none.
fn replaced(tx: &Tx<'_>, task: i64, job: &NewJob) -> Result<Result<Vec<Stands>, Submitted>, StoreError> {
    let Some(unique) = &job.unique else { return Ok(Ok(Vec::new())) };
    if is_known(tx.conn, job.id)? {
        return Ok(Err(Submitted::Replay(job.id)));
    }
    let same = statement::all(tx.conn, SAME, params![task, unique.value], |row| column::id(row, "job"))?;
    let mut replaced = Vec::new();
    for other in same {
        if unique.on_duplicate == OnDuplicate::Return {
            return Ok(Err(Submitted::Duplicate(other)));
        }
        let Some(stands) = family::stands(tx.conn, other)? else { continue };
        if unique.on_duplicate == OnDuplicate::CancelRunning || waits(&stands) {
            replaced.push(stands);
        }
    }
    Ok(Ok(replaced))
}

/// Whether nothing of a job has begun. One that waits for another attempt has.
fn waits(stands: &Stands) -> bool {
    let leaving = &stands.leaving;
    matches!(leaving.state, JobState::Queued | JobState::Scheduled)
        && leaving.begun_at.is_none()
        && leaving.attempt == 0
}

/// Whether there is room beside the jobs that are `replaced`; what is full, where there is none.
fn admit(
    tx: &mut Tx<'_>,
    task: i64,
    job: &NewJob,
    admission: &Admission,
    replaced: &[Stands],
) -> Result<Option<Full>, StoreError> {
    let mut usage = usage(tx, job, admission)?;
    let places = replaced.iter().filter(|stands| waits(stands)).count() as u64;
    usage.unfinished = usage.unfinished.saturating_sub(places);
    if let Verdict::Busy(full) = decide(admission.limits, usage) {
        return Ok(Some(full));
    }
    let Some(rate) = admission.rate else { return Ok(None) };
    let paid = tx.ledger.find(&job.task).and_then(|task| task.paid_until);
    match rate.admit(paid.map(column::time).transpose()?, job.submitted_at) {
        // What is taken twice is not paid for twice.
        Ok(_) if is_known(tx.conn, job.id)? => Ok(None),
        Ok(until) => tx.ledger.paid(task, column::micros(until)).map(|()| None),
        Err(wait) => Ok(Some(Full::Rate(wait))),
    }
}

/// The counts admission asks for. Those of the node cost a look at every task with a queue
/// and decide only where the task has no waiting room, so only there are they counted.
fn usage(tx: &Tx<'_>, job: &NewJob, admission: &Admission) -> Result<Usage, StoreError> {
    let unfinished = tx.ledger.find(&job.task).map_or(0, |task| task.unfinished);
    let mut usage = Usage {
        unfinished: column::count(unfinished)?,
        node_running: 0,
        node_queued: 0,
        node_slots: admission.node_slots,
    };
    // A family asks for no slot of the node.
    if admission.limits.max_queued > 0 || job.family.is_some() {
        usage.node_slots = admission.node_slots.max(1);
        return Ok(usage);
    }
    let held = held(tx.conn)?;
    usage.node_running = running_slots(tx.conn)?;
    for task in tx.ledger.tasks().iter().filter(|task| task.queued > 0 && !task.paused) {
        let limit = match &tx.ledger.asked {
            _ if task.name == job.task => Some(admission.limits.max_running),
            Some(asked) => asked.get(&task.name).map(|room| room.running),
            None => Some(Limit::Unlimited),
        };
        let running = held.get(&task.id).copied().unwrap_or(0);
        let room = limit.map_or(0, |limit| limit.room(running));
        usage.node_queued += room.min(column::count(task.queued)?);
    }
    Ok(usage)
}

pub(super) const RUNNING: &str = "SELECT count(*) FROM live WHERE holds_slot = 1";

/// Slots of the node that are held.
fn running_slots(conn: &Connection) -> Result<u64, StoreError> {
    Ok(statement::one(conn, RUNNING, [], |row| column::count(row.get(0)?))?.unwrap_or(0))
}

/// Where a child stands among its kin.
#[derive(Clone, Copy)]
struct Kin {
    parent: JobId,
    root: JobId,
    index: u32,
    depth: u32,
}

/// A job, and all below it. `false`: this very job is there already.
fn insert(tx: &mut Tx<'_>, task: i64, job: &NewJob, kin: Option<Kin>) -> Result<bool, StoreError> {
    if !insert_job(tx.conn, task, job, kin)? {
        return Ok(false);
    }
    let waits = job.run_at.is_some_and(|at| at > job.submitted_at);
    let state = if waits { JobState::Scheduled } else { JobState::Queued };
    let parent = kin.map(|kin| kin.parent);
    let values = params![
        job.id.as_bytes().as_slice(),
        task,
        state.name(),
        job.priority,
        column::micros(job.run_at.unwrap_or(job.submitted_at)),
        job.expires_at.map(column::micros),
        job.lane,
        column::maybe_bytes(&parent),
        job.unique.as_ref().map(|unique| &unique.value),
        !job.follow_ups.is_empty(),
        job.family.is_some(),
    ];
    statement::run(tx.conn, INSERT_LIVE, values)?;
    tx.ledger.entered(task, Place::new(state, parent))?;
    // A child waits for its family to begin.
    if state == JobState::Queued && kin.is_none() {
        tx.ledger.lanes.waits(task, &Group { lane: job.lane.as_deref().map(Into::into), parent });
    }
    if let Some(family) = &job.family {
        insert_family(tx, job, family, kin)?;
    }
    Ok(true)
}

fn insert_family(tx: &mut Tx<'_>, job: &NewJob, family: &Family, kin: Option<Kin>) -> Result<(), StoreError> {
    let values = params![
        job.id.as_bytes().as_slice(),
        family.max_running.number().map(column::number),
        family.on_failure == OnFailure::Stop,
        family.join,
        family.join_decides,
        family.timeout.map(|limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)),
    ];
    statement::run(tx.conn, INSERT_FAMILY, values)?;
    let root = kin.map_or(job.id, |kin| kin.root);
    let depth = kin.map_or(0, |kin| kin.depth) + 1;
    for (index, child) in (0..).zip(&family.children) {
        let task = tx.ledger.ensure(tx.conn, &child.task)?.id;
        insert(tx, task, child, Some(Kin { parent: job.id, root, index, depth }))?;
    }
    Ok(())
}

fn insert_job(conn: &Connection, task: i64, job: &NewJob, kin: Option<Kin>) -> Result<bool, StoreError> {
    let id = job.id.as_bytes().as_slice();
    let (payload, payload_len) = match &job.payload {
        StoredPayload::Inline(bytes) => (Some(bytes.as_ref()), bytes.len() as u64),
        StoredPayload::File { len } => (None, *len),
    };
    let key = job.idempotency.as_ref();
    let (parent, root) = (kin.map(|kin| kin.parent), kin.map(|kin| kin.root));
    let values = params![
        id,
        task,
        column::micros(job.submitted_at),
        job.run_at.map(column::micros),
        job.expires_at.map(column::micros),
        job.priority,
        job.max_attempts,
        (!job.labels.is_empty()).then(|| column::json(&job.labels)),
        column::maybe_bytes(&job.retry_of),
        &*job.submitted_by,
        &*job.config_revision,
        key.map(|key| &key.principal),
        key.map(|key| &key.key),
        (job.request != RequestValues::default()).then(|| column::json(&job.request)),
        column::number(payload_len),
        payload,
        job.lane,
        column::maybe_bytes(&parent),
        column::maybe_bytes(&root),
        kin.map(|kin| kin.index),
        kin.map_or(0, |kin| kin.depth),
        (!job.follow_ups.is_empty()).then(|| column::json(&job.follow_ups)),
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

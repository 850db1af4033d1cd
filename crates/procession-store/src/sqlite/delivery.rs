//! What is to follow the ends of jobs: written with the end, in its transaction, and tried until
//! it arrives or nobody takes it.

use jiff::Timestamp;
use procession_core::delivery::Next;
use procession_core::id::JobId;
use procession_core::job::{FollowUp, NewJob, What};
use procession_core::outbox::{
    self, Delivery, DeliveryId, DeliveryState, FULL, MOST_PENDING, REMEMBERED, Tried, WANTS_NO_MORE,
};
use procession_core::outcome::Outcome;
use rusqlite::{Connection, Row, params};

use super::writer::Tx;
use super::{column, statement, submit};
use crate::error::StoreError;
use crate::store::{Applied, DeliveryQuery, Due, Submitted};

pub(super) const FOLLOW_UPS: &str = "SELECT follow_ups FROM job WHERE id = ?1";
pub(super) const IS_GONE: &str = "SELECT 1 FROM gone WHERE target = ?1";
pub(super) const INSERT_DELIVERY: &str = "
    INSERT INTO delivery (job, ordinal, kind, target, fixed, host, state, error, created_at, due_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)";

macro_rules! deliveries {
    ($rest:literal) => {
        concat!(
            "SELECT delivery.id, delivery.job, delivery.ordinal, task.name AS task, delivery.kind,
                delivery.target, delivery.fixed, delivery.state, delivery.tries, delivery.created_at,
                delivery.repeated_at, delivery.due_at, delivery.status, delivery.error,
                delivery.followed_by
            FROM delivery CROSS JOIN job ON job.id = delivery.job CROSS JOIN task ON task.id = job.task ",
            $rest
        )
    };
}

pub(super) const NEXT_HOST: &str = "
    SELECT host FROM delivery INDEXED BY delivery_by_host
    WHERE state = 'pending' AND host > ?1 AND due_at <= ?2 ORDER BY host LIMIT 1";
pub(super) const DUE_OF_HOST: &str = deliveries!(
    "WHERE delivery.state = 'pending' AND delivery.host = ?1 AND delivery.due_at <= ?2
    ORDER BY delivery.due_at, delivery.id LIMIT ?3"
);
pub(super) const NEXT_DUE: &str = "
    SELECT min(due_at) FROM delivery INDEXED BY delivery_due WHERE state = 'pending' AND due_at > ?1";
pub(super) const TRIED: &str = "
    UPDATE delivery SET state = ?5, tries = tries + 1, due_at = coalesce(?6, due_at), status = ?7, error = ?8
    WHERE job = ?1 AND ordinal = ?2 AND state = 'pending' AND tries = ?3
        AND coalesce(repeated_at, created_at) = ?4";
pub(super) const GIVE_UP: &str =
    "UPDATE delivery SET state = 'given_up', error = ?3 WHERE job = ?1 AND ordinal = ?2";
pub(super) const FOLLOWED_BY: &str = "UPDATE delivery SET followed_by = ?3 WHERE job = ?1 AND ordinal = ?2";
pub(super) const INSERT_GONE: &str =
    "INSERT INTO gone (target, since) VALUES (?1, ?2) ON CONFLICT (target) DO NOTHING";
pub(super) const FORGET_GONE: &str = "DELETE FROM gone WHERE since < ?1";
pub(super) const OTHERS_GONE: &str = "
    UPDATE delivery INDEXED BY delivery_by_target SET state = 'gone', error = ?2
    WHERE target = ?1 AND state = 'pending' AND kind = 'callback'";
pub(super) const BACK: &str = "DELETE FROM gone WHERE target = ?1";
pub(super) const STATE: &str = "SELECT state FROM delivery WHERE job = ?1 AND ordinal = ?2";
pub(super) const REPEAT: &str = "
    UPDATE delivery SET state = 'pending', tries = 0, due_at = ?3, repeated_at = ?3
    WHERE job = ?1 AND ordinal = ?2";
pub(super) const ONE: &str = deliveries!("WHERE delivery.job = ?1 AND delivery.ordinal = ?2");
pub(super) const OF_JOB: &str = deliveries!("WHERE delivery.job = ?1");
pub(super) const NEWEST: &str = deliveries!("WHERE delivery.id < ?1 ORDER BY delivery.id DESC LIMIT ?2");
pub(super) const NEWEST_IN_STATE: &str =
    deliveries!("WHERE delivery.state = ?3 AND delivery.id < ?1 ORDER BY delivery.id DESC LIMIT ?2");

/// Writes what this end brings about; whether that is anything.
pub(super) fn write(
    tx: &mut Tx<'_>,
    job: JobId,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let id = job.as_bytes().as_slice();
    let kept =
        statement::one(tx.conn, FOLLOW_UPS, [id], |row| Ok(row.get::<_, Option<String>>(0)?))?.flatten();
    let follow_ups: Vec<FollowUp> = column::from_maybe_json(kept.as_deref())?;
    let mut any = false;
    for (ordinal, FollowUp { on, what }) in follow_ups.iter().enumerate() {
        if !on.iter().any(|condition| condition.matches(outcome)) {
            continue;
        }
        let (kind, target, fixed) = match what {
            What::Then(task) => ("then", task.as_str(), false),
            What::Callback { url, fixed } => ("callback", url.as_str(), *fixed),
        };
        let (state, error) = first_state(tx, what, target)?;
        let (host, at) = (outbox::host(what), column::micros(at));
        let values = params![id, ordinal as i64, kind, target, fixed, host, state.name(), error, at];
        statement::run(tx.conn, INSERT_DELIVERY, values)?;
        any = true;
    }
    Ok(any)
}

/// Where a delivery stands as it is written, and why.
fn first_state(
    tx: &mut Tx<'_>,
    what: &What,
    target: &str,
) -> Result<(DeliveryState, Option<&'static str>), StoreError> {
    let called = matches!(what, What::Callback { .. });
    if called && statement::one(tx.conn, IS_GONE, [target], |_| Ok(()))?.is_some() {
        return Ok((DeliveryState::Gone, Some(WANTS_NO_MORE)));
    }
    if tx.ledger.pending >= MOST_PENDING {
        return Ok((DeliveryState::GivenUp, Some(FULL)));
    }
    tx.ledger.pending += 1;
    Ok((DeliveryState::Pending, None))
}

pub(super) fn take(conn: &Connection, ask: &Due) -> Result<Vec<Delivery>, StoreError> {
    let now = column::micros(ask.now);
    let last = ask.after.clone().unwrap_or_default();
    let (mut at, mut around) = (last.clone(), false);
    let mut found = Vec::new();
    for _ in 0..ask.hosts {
        let mut host = next_host(conn, &at, now)?;
        if host.is_none() && !around {
            around = true;
            host = next_host(conn, "", now)?;
        }
        // Past the one it began behind, it has seen all.
        let Some(host) = host.filter(|host| !around || *host <= last) else { break };
        let values = params![host, now, column::number(ask.per_host as u64)];
        found.extend(statement::all(conn, DUE_OF_HOST, values, delivery)?);
        at = host;
    }
    Ok(found)
}

fn next_host(conn: &Connection, after: &str, now: i64) -> Result<Option<String>, StoreError> {
    statement::one(conn, NEXT_HOST, params![after, now], |row| Ok(row.get(0)?))
}

pub(super) fn next_due(conn: &Connection, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let due =
        statement::one(conn, NEXT_DUE, [column::micros(after)], |row| Ok(row.get::<_, Option<i64>>(0)?))?;
    column::maybe_time(due.flatten())
}

pub(super) fn ack(tx: &mut Tx<'_>, delivery: &Delivery, tried: &Tried) -> Result<Applied, StoreError> {
    if !mark(tx, delivery, tried)? {
        return Ok(Applied::Stale);
    }
    if let What::Callback { url, .. } = &delivery.what {
        match tried.next {
            Next::Delivered => drop(statement::run(tx.conn, BACK, [url])?),
            Next::Gone => {
                let forgotten = tried.at.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
                statement::run(tx.conn, FORGET_GONE, [column::micros(forgotten)])?;
                statement::run(tx.conn, INSERT_GONE, params![url, column::micros(tried.at)])?;
                let others = statement::run(tx.conn, OTHERS_GONE, params![url, WANTS_NO_MORE])?;
                tx.ledger.left_outbox(others);
            }
            Next::Again(_) | Next::GivenUp => {}
        }
    }
    Ok(Applied::Applied)
}

/// Writes what came of a try. `false`: it is not this delivery's last.
fn mark(tx: &mut Tx<'_>, delivery: &Delivery, tried: &Tried) -> Result<bool, StoreError> {
    let (state, due_at) = match tried.next {
        Next::Delivered => (DeliveryState::Delivered, None),
        Next::Again(wait) => {
            (DeliveryState::Pending, Some(tried.at.checked_add(wait).unwrap_or(Timestamp::MAX)))
        }
        Next::Gone => (DeliveryState::Gone, None),
        Next::GivenUp => (DeliveryState::GivenUp, None),
    };
    let values = params![
        delivery.id.job.as_bytes().as_slice(),
        delivery.id.ordinal,
        delivery.tries,
        column::micros(delivery.since()),
        state.name(),
        due_at.map(column::micros),
        tried.status,
        tried.error,
    ];
    let marked = statement::run(tx.conn, TRIED, values)?;
    if state != DeliveryState::Pending {
        tx.ledger.left_outbox(marked);
    }
    Ok(marked > 0)
}

pub(super) fn follow(
    tx: &mut Tx<'_>,
    delivery: &Delivery,
    job: &NewJob,
    at: Timestamp,
) -> Result<Option<Submitted>, StoreError> {
    let arrived = Tried { next: Next::Delivered, at, status: None, error: None };
    if !mark(tx, delivery, &arrived)? {
        return Ok(None);
    }
    let submitted = submit::submit(tx, job)?;
    let (id, ordinal) = (delivery.id.job.as_bytes().as_slice(), delivery.id.ordinal);
    if let Some(job) = submitted.job(job.id) {
        statement::run(tx.conn, FOLLOWED_BY, params![id, ordinal, job.as_bytes().as_slice()])?;
    } else {
        statement::run(tx.conn, GIVE_UP, params![id, ordinal, submitted.refusal()])?;
    }
    Ok(Some(submitted))
}

pub(super) fn repeat(tx: &mut Tx<'_>, delivery: DeliveryId, at: Timestamp) -> Result<bool, StoreError> {
    let id = delivery.job.as_bytes().as_slice();
    let stands = statement::one(tx.conn, STATE, params![id, delivery.ordinal], state)?;
    let Some(stands) = stands else { return Ok(false) };
    if stands != DeliveryState::Pending {
        tx.ledger.pending += 1;
    }
    statement::run(tx.conn, REPEAT, params![id, delivery.ordinal, column::micros(at)])?;
    Ok(true)
}

pub(super) fn one(conn: &Connection, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    statement::one(conn, ONE, params![id.job.as_bytes().as_slice(), id.ordinal], delivery)
}

/// Those of one job, in the order of their rows.
pub(super) fn of_job(conn: &Connection, job: JobId) -> Result<Vec<Delivery>, StoreError> {
    statement::all(conn, OF_JOB, [job.as_bytes().as_slice()], delivery)
}

pub(super) fn list(conn: &Connection, query: &DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
    let (before, limit) = (query.before.map_or(i64::MAX, column::number), column::number(query.limit as u64));
    let mut found = Vec::new();
    match query.job {
        Some(job) => {
            found = of_job(conn, job)?;
            found.retain(|one| column::number(one.number) < before);
            found.retain(|one| query.states.is_empty() || query.states.contains(&one.state));
        }
        None if query.states.is_empty() => {
            return statement::all(conn, NEWEST, params![before, limit], delivery);
        }
        None => {
            for state in &query.states {
                let values = params![before, limit, state.name()];
                found.extend(statement::all(conn, NEWEST_IN_STATE, values, delivery)?);
            }
        }
    }
    found.sort_unstable_by_key(|one| std::cmp::Reverse(one.number));
    found.dedup_by_key(|one| one.number);
    found.truncate(query.limit);
    Ok(found)
}

fn delivery(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let target: String = row.get("target")?;
    let what = match row.get::<_, String>("kind")?.as_str() {
        "then" => What::Then(column::task_name(&target)?),
        "callback" => What::Callback { url: target, fixed: row.get("fixed")? },
        other => return Err(column::corrupt(format!("a delivery of kind {other:?}"))),
    };
    Ok(Delivery {
        id: DeliveryId { job: column::id(row, "job")?, ordinal: row.get("ordinal")? },
        number: column::count(row.get("id")?)?,
        task: column::task_name(&row.get::<_, String>("task")?)?,
        what,
        state: state(row)?,
        tries: row.get("tries")?,
        created_at: column::time(row.get("created_at")?)?,
        repeated_at: column::maybe_time(row.get("repeated_at")?)?,
        due_at: column::time(row.get("due_at")?)?,
        status: row.get("status")?,
        error: row.get("error")?,
        followed_by: column::maybe_id(row, "followed_by")?,
    })
}

fn state(row: &Row<'_>) -> Result<DeliveryState, StoreError> {
    row.get::<_, String>("state")?.parse().map_err(column::corrupt)
}

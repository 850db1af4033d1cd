//! Parents and their children: when a family begins, what a child's end means for it, and how all
//! below a job is ended. How many children are left is asked of their rows, never kept.

use jiff::Timestamp;
use procession_core::family::{Asked, ChildEnd, Counts, gathered, is_failure, outcome};
use procession_core::id::{AttemptNumber, ClaimId, Fence, JobId};
use procession_core::job::{FamilyEnd, Lease};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::state::{JobState, Move};
use rusqlite::{Connection, Row, params};

use super::ending::{Estate, Leaving, drop_and_end, end, leaving};
use super::lanes::Group;
use super::writer::Tx;
use super::{column, record, statement};
use crate::error::StoreError;
use crate::store::{Applied, Change, Effects, FamilyStanding};

pub(super) const RULES: &str = "
    SELECT max_running, stops, joins, join_decides, timeout_ms FROM family WHERE job = ?1";
pub(super) const BEGIN: &str = "
    UPDATE live SET state = 'waiting', begun_at = ?2, deadline = ?3, expires_at = NULL WHERE job = ?1";
pub(super) const GROUPS_BELOW: &str = "
    SELECT DISTINCT task, lane, parent FROM live WHERE parent = ?1 AND parent IS NOT NULL AND state = 'queued'";
pub(super) const STANDS: &str = concat!(
    "SELECT ",
    leaving!(),
    ", fence, claim_id, cancel_by, late, joins, gathers FROM live WHERE job = ?1"
);
pub(super) const BELOW: &str = "SELECT job FROM live WHERE parent = ?1 AND parent IS NOT NULL ORDER BY job";
pub(super) const ANY_BELOW: &str = "SELECT 1 FROM live WHERE parent = ?1 AND parent IS NOT NULL LIMIT 1";
pub(super) const MARK: &str = "
    UPDATE live SET cancel_at = ?2, cancel_by = ?3 WHERE job = ?1 AND cancel_at IS NULL";
pub(super) const FAILED: &str = "
    SELECT count(*) FROM done WHERE parent = ?1 AND parent IS NOT NULL AND state <> 'succeeded'
        AND NOT (state = 'cancelled' AND json_extract(outcome, '$.by') = 'parent')";
pub(super) const JOIN: &str = "UPDATE live SET state = 'queued', joins = 1, run_at = ?2 WHERE job = ?1";
pub(super) const GATHER: &str = "UPDATE live SET gathers = 1 WHERE job = ?1";
pub(super) const TO_GATHER: &str = "SELECT job FROM live WHERE gathers = 1 ORDER BY job LIMIT ?1";
pub(super) const LATE: &str = "UPDATE live SET late = 1 WHERE job = ?1";
pub(super) const ENDS: &str = "
    SELECT job.id AS id, child_index, attempt, outcome, result_json, result_len, result
    FROM job JOIN done ON done.job = job.id
    WHERE job.parent = ?1 AND job.parent IS NOT NULL AND job.id > ?2 ORDER BY job.id LIMIT ?3";
pub(super) const COUNTS: &str = "
    SELECT state, count(*) FROM live WHERE parent = ?1 AND parent IS NOT NULL GROUP BY state
    UNION ALL SELECT state, count(*) FROM done WHERE parent = ?1 AND parent IS NOT NULL GROUP BY state";
pub(super) const BUSY: &str = "
    SELECT count(*) FROM live
    WHERE parent = ?1 AND parent IS NOT NULL AND (holds_slot = 1 OR begun_at IS NOT NULL)";

/// What a parent was told of its family.
struct Rules {
    max_running: Limit,
    stops: bool,
    joins: bool,
    join_decides: bool,
    timeout_ms: Option<i64>,
}

fn rules(conn: &Connection, parent: JobId) -> Result<Rules, StoreError> {
    maybe_rules(conn, parent)?
        .ok_or_else(|| column::corrupt(format!("job {parent} has children and no family")))
}

fn maybe_rules(conn: &Connection, parent: JobId) -> Result<Option<Rules>, StoreError> {
    statement::one(conn, RULES, [parent.as_bytes().as_slice()], |row| {
        let most: Option<i64> = row.get(0)?;
        Ok(Rules {
            max_running: most.map(column::count).transpose()?.map_or(Limit::Unlimited, Limit::AtMost),
            stops: row.get(1)?,
            joins: row.get(2)?,
            join_decides: row.get(3)?,
            timeout_ms: row.get(4)?,
        })
    })
}

/// A row in `live`, and what else its end goes by.
pub(super) struct Stands {
    pub leaving: Leaving,
    lease: Option<(Fence, ClaimId)>,
    cancelled_by: Option<CancelledBy>,
    late: bool,
    gathers: bool,
}

impl Stands {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let fence = row.get::<_, Option<i64>>("fence")?.map(column::count).transpose()?;
        let claim_id: Option<[u8; 16]> = row.get("claim_id")?;
        Ok(Self {
            leaving: Leaving::of(row)?,
            lease: fence.zip(claim_id).map(|(fence, claim)| (Fence(fence), ClaimId(claim))),
            cancelled_by: column::maybe_canceller(row)?,
            late: row.get("late")?,
            gathers: row.get("gathers")?,
        })
    }

    fn lease(&self) -> Result<Lease, StoreError> {
        let job = self.leaving.job;
        let (fence, claim_id) =
            self.lease.ok_or_else(|| column::corrupt(format!("job {job} runs without a lease")))?;
        Ok(Lease { job, attempt: AttemptNumber(self.leaving.attempt), fence, claim_id })
    }
}

/// How an unfinished job stands.
pub(super) fn stands(conn: &Connection, job: JobId) -> Result<Option<Stands>, StoreError> {
    statement::one(conn, STANDS, [job.as_bytes().as_slice()], Stands::read)
}

/// A queued parent's family begins: its children may be given slots from now on.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    parent: JobId,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Some(Stands { leaving, .. }) = stands(tx.conn, parent)? else { return Ok(()) };
    let rules = rules(tx.conn, parent)?;
    let id = parent.as_bytes().as_slice();
    let begun = column::micros(now);
    let last = column::micros(Timestamp::MAX);
    let after = |limit: i64| begun.saturating_add(limit.saturating_mul(1_000)).min(last);
    let deadline = rules.timeout_ms.map(after);
    statement::run(tx.conn, BEGIN, params![id, begun, deadline])?;
    let waiting = column::after(leaving.state, Move::Wait)?;
    tx.ledger.moved(leaving.task, leaving.place(), leaving.place().to(waiting))?;
    let groups = statement::all(tx.conn, GROUPS_BELOW, [id], |row| Ok((row.get("task")?, Group::of(row)?)))?;
    for (task, group) in groups {
        tx.ledger.lanes.waits(task, &group);
    }
    complete(tx, parent, now, effects)
}

/// A child is over: what that means for its siblings and its parent.
pub(super) fn child_over(
    tx: &mut Tx<'_>,
    parent: Option<JobId>,
    child: &Outcome,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let Some(parent) = parent else { return Ok(()) };
    // Asked of few: most children succeed.
    if is_failure(child) && maybe_rules(tx.conn, parent)?.is_some_and(|rules| rules.stops) {
        stop_below(tx, parent, at, Asked::Once, effects)?;
    }
    complete(tx, parent, at, effects)
}

/// Goes on with a family of which no child is left; one that has some is left alone.
fn complete(tx: &mut Tx<'_>, parent: JobId, at: Timestamp, effects: &mut Effects) -> Result<(), StoreError> {
    let id = parent.as_bytes().as_slice();
    if is_any_below(tx.conn, parent)? {
        return Ok(());
    }
    let Some(stands) = stands(tx.conn, parent)?.filter(|stands| stands.leaving.state == JobState::Waiting)
    else {
        return Ok(());
    };
    let rules = rules(tx.conn, parent)?;
    let failed = failed(tx.conn, parent)?;
    let over = match (stands.cancelled_by, stands.late) {
        (Some(by), _) => Some(Outcome::cancelled(by)),
        (None, true) => Some(timed_out(&rules)),
        (None, false) => (rules.stops && failed > 0).then_some(Outcome::ChildrenFailed { failed }),
    };
    if let Some(over) = over {
        return end_parent(tx, &stands.leaving, &over, at, effects);
    }
    if rules.joins {
        statement::run(tx.conn, JOIN, params![id, column::micros(at)])?;
        let place = stands.leaving.place();
        tx.ledger.moved(stands.leaving.task, place, place.to(column::after(place.state, Move::Join)?))?;
        effects.moved.push(parent);
    } else {
        statement::run(tx.conn, GATHER, [id])?;
        effects.gather.push(parent);
    }
    Ok(())
}

fn end_parent(
    tx: &mut Tx<'_>,
    leaving: &Leaving,
    outcome: &Outcome,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    drop_and_end(tx, leaving, outcome, at, effects)?;
    effects.moved.push(leaving.job);
    child_over(tx, leaving.group.parent, outcome, at, effects)
}

fn timed_out(rules: &Rules) -> Outcome {
    let limit_ms = rules.timeout_ms.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0);
    Outcome::TimedOut { limit_ms, code: None, signal: None }
}

fn is_any_below(conn: &Connection, parent: JobId) -> Result<bool, StoreError> {
    let found = statement::one(conn, ANY_BELOW, [parent.as_bytes().as_slice()], |_| Ok(()))?;
    Ok(found.is_some())
}

fn failed(conn: &Connection, parent: JobId) -> Result<u64, StoreError> {
    let failed =
        statement::one(conn, FAILED, [parent.as_bytes().as_slice()], |row| column::count(row.get(0)?))?;
    Ok(failed.unwrap_or(0))
}

/// How a family's join ended, as the family ends by it.
pub(super) fn joined(conn: &Connection, parent: JobId, join: &Outcome) -> Result<Outcome, StoreError> {
    Ok(outcome(failed(conn, parent)?, Some(join.clone()), rules(conn, parent)?.join_decides))
}

/// Ends a job and all below it, as far as nothing of it runs; what runs is marked, and to be
/// stopped. `true`: it is over, and whoever is above it has to be told.
pub(super) fn stop(
    tx: &mut Tx<'_>,
    stands: &Stands,
    by: CancelledBy,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<bool, StoreError> {
    let leaving = &stands.leaving;
    let id = leaving.job.as_bytes().as_slice();
    let mark = params![id, column::micros(at), column::cancelled_by(by)];
    match leaving.state {
        JobState::Running => {
            statement::run(tx.conn, MARK, mark)?;
            effects.stops.push((stands.lease()?, stands.cancelled_by.unwrap_or(by)));
            return Ok(false);
        }
        JobState::Waiting if !stands.gathers => {
            statement::run(tx.conn, MARK, mark)?;
            stop_below(tx, leaving.job, at, Asked::Again, effects)?;
            if is_any_below(tx.conn, leaving.job)? {
                return Ok(false);
            }
        }
        // A family that has not begun.
        JobState::Queued | JobState::Scheduled if leaving.is_parent => {
            stop_below(tx, leaving.job, at, Asked::Again, effects)?;
        }
        _ => {}
    }
    // Nobody asked for the end of what waited too long.
    let asked = (by != CancelledBy::Expired).then(|| column::micros(at));
    let ended = Leaving { cancel_at: leaving.cancel_at.or(asked), ..leaving.clone() };
    drop_and_end(tx, &ended, &Outcome::cancelled(stands.cancelled_by.unwrap_or(by)), at, effects)?;
    Ok(true)
}

/// Ends all below a job with it.
fn stop_below(
    tx: &mut Tx<'_>,
    parent: JobId,
    at: Timestamp,
    asked: Asked,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let below = statement::all(tx.conn, BELOW, [parent.as_bytes().as_slice()], |row| column::id(row, "job"))?;
    for child in below {
        let Some(stands) = stands(tx.conn, child)? else { continue };
        let new = stands.cancelled_by.is_none();
        if (new || asked == Asked::Again) && stop(tx, &stands, CancelledBy::Parent, at, effects)? {
            effects.moved.push(child);
        }
    }
    Ok(())
}

/// A family's time is over.
pub(super) fn time_is_over(
    tx: &mut Tx<'_>,
    parent: JobId,
    at: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    statement::run(tx.conn, LATE, [parent.as_bytes().as_slice()])?;
    let Some(stands) = stands(tx.conn, parent)? else { return Ok(()) };
    match stands.leaving.state {
        // Its children are over: what they did is about to be its result.
        JobState::Waiting if stands.gathers => Ok(()),
        JobState::Waiting => {
            stop_below(tx, parent, at, Asked::Once, effects)?;
            complete(tx, parent, at, effects)
        }
        // Its join waits.
        JobState::Queued | JobState::Scheduled => {
            let outcome = timed_out(&rules(tx.conn, parent)?);
            end_parent(tx, &stands.leaving, &outcome, at, effects)
        }
        // The join's own time ends with the family's.
        _ => Ok(()),
    }
}

pub(super) fn gather(tx: &mut Tx<'_>, end_of: &FamilyEnd) -> Result<Change, StoreError> {
    let Some(stands) = stands(tx.conn, end_of.job)?.filter(|stands| stands.gathers) else {
        return Ok(Change::alone(Applied::Already));
    };
    let mut effects = Effects::default();
    let outcome = gathered(failed(tx.conn, end_of.job)?, end_of.bad_result.as_deref());
    let leaving = stands.leaving;
    statement::run(tx.conn, super::ending::DROP_LIVE, [leaving.job.as_bytes().as_slice()])?;
    let estate = Estate { result: end_of.result.clone(), ..Estate::default() };
    end(tx, &leaving, &outcome, end_of.at, estate, &mut effects)?;
    child_over(tx, leaving.group.parent, &outcome, end_of.at, &mut effects)?;
    Ok(Change { applied: Applied::Applied, effects })
}

pub(super) fn to_gather(conn: &Connection, most: usize) -> Result<Vec<JobId>, StoreError> {
    statement::all(conn, TO_GATHER, [column::number(most as u64)], |row| column::id(row, "job"))
}

pub(super) fn child_ends(
    conn: &Connection,
    parent: JobId,
    after: Option<JobId>,
    most: usize,
) -> Result<Vec<ChildEnd>, StoreError> {
    let values = params![parent.as_bytes().as_slice(), behind(&after), column::number(most as u64)];
    statement::all(conn, ENDS, values, |row| {
        Ok(ChildEnd {
            index: row.get("child_index")?,
            id: column::id(row, "id")?,
            attempt: row.get("attempt")?,
            outcome: column::from_json(&row.get::<_, String>("outcome")?)?,
            result: record::result(row)?,
        })
    })
}

/// Where a page of children begins.
pub(super) fn behind(after: &Option<JobId>) -> &[u8] {
    column::maybe_bytes(after).unwrap_or_default()
}

/// How many children of a parent stand where.
pub(super) fn counts(conn: &Connection, parent: JobId) -> Result<Counts, StoreError> {
    let counts = statement::all(conn, COUNTS, [parent.as_bytes().as_slice()], |row| {
        Ok((column::state(&row.get::<_, String>(0)?)?, column::count(row.get(1)?)?))
    })?;
    Ok(counts.into_iter().collect())
}

/// How the family of a child of `parent` stands.
pub(super) fn standing(conn: &Connection, parent: JobId) -> Result<FamilyStanding, StoreError> {
    let begun = stands(conn, parent)?.is_some_and(|stands| stands.leaving.begun_at.is_some());
    let busy = statement::one(conn, BUSY, [parent.as_bytes().as_slice()], |row| column::count(row.get(0)?))?;
    let limit = rules(conn, parent)?.max_running;
    Ok(FamilyStanding { parent, begun, running: busy.unwrap_or(0), limit })
}

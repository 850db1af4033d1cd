//! A page of jobs, newest first.
//!
//! One index drives each page, chosen by the query: that of a label, of a parent, of a lane,
//! of task and state, or of the ids themselves. It is walked from the page's upper edge
//! downwards, so a page costs what it shows, however many jobs there are. Where several
//! filters meet, the first of that list drives and the others are asked of each row passed.

use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::job::JobRecord;
use procession_core::state::JobState;
use rusqlite::{Connection, Params, params};

use super::record::{self, Extent};
use super::{column, family, query, statement};
use crate::error::StoreError;
use crate::store::Query;

/// How much earlier than its submission a job's id may have been made.
const ID_AGE_MS: i64 = 1_000;

/// A driver's tables and edges around the questions asked of every row; ?1 and ?2 are the
/// page's edges, ?3 is its size.
macro_rules! driven_by {
    ($from:literal, $edges:literal) => {
        concat!("SELECT job.id FROM ", $from, include_str!("list.sql"), $edges, " DESC LIMIT ?3")
    };
}

pub(super) const BY_ID: &str = driven_by!("job", "AND job.id < ?1 AND job.id >= ?2 ORDER BY job.id");
pub(super) const BY_PARENT: &str =
    driven_by!("job", "AND job.parent = ?7 AND job.id < ?1 AND job.id >= ?2 ORDER BY job.id");
pub(super) const BY_LANE: &str =
    driven_by!("job", "AND job.lane = ?6 AND job.id < ?1 AND job.id >= ?2 ORDER BY job.id");
pub(super) const BY_LABEL: &str = driven_by!(
    "label CROSS JOIN job ON job.id = label.job",
    "AND label.name = ?10 AND label.value = ?11 AND label.job < ?1 AND label.job >= ?2 ORDER BY label.job"
);
pub(super) const LIVE_IN_STATE: &str = "
    SELECT job FROM live WHERE task = ?1 AND state = ?2 AND job < ?3 AND job >= ?4 ORDER BY job DESC LIMIT ?5";
pub(super) const DONE_IN_STATE: &str = "
    SELECT job FROM done WHERE task = ?1 AND state = ?2 AND job < ?3 AND job >= ?4 ORDER BY job DESC LIMIT ?5";
pub(super) const CHILDREN: &str = "
    SELECT id FROM job WHERE parent = ?1 AND parent IS NOT NULL AND id > ?2 ORDER BY id LIMIT ?3";
pub(super) const TASK_IDS: &str = "SELECT id FROM task";

pub(super) fn list(conn: &Connection, query: &Query) -> Result<Vec<JobRecord>, StoreError> {
    let task = match &query.task {
        None => None,
        Some(name) => match query::task_id(conn, name)? {
            None => return Ok(Vec::new()),
            found => found,
        },
    };
    let mut found = lines(conn, Page::of(query).ids(conn, query, task)?)?;
    // Ids may be a little older than the jobs they name.
    if let Some(since) = query.since {
        found.retain(|job| job.submitted_at >= since);
    }
    Ok(found)
}

/// The children of a parent, by their index.
pub(super) fn children(
    conn: &Connection,
    parent: JobId,
    after: Option<JobId>,
    most: usize,
) -> Result<Vec<JobRecord>, StoreError> {
    let values = params![parent.as_bytes().as_slice(), family::behind(&after), column::number(most as u64)];
    lines(conn, ids(conn, CHILDREN, values)?)
}

fn lines(conn: &Connection, ids: Vec<JobId>) -> Result<Vec<JobRecord>, StoreError> {
    let line = |id| {
        let job = record::job(conn, id, Extent::Line)?;
        job.ok_or_else(|| column::corrupt(format!("job {id} is listed and not there")))
    };
    ids.into_iter().map(line).collect()
}

/// The stretch of ids a page is cut from.
struct Page {
    below: [u8; 16],
    from: [u8; 16],
    limit: i64,
}

impl Page {
    fn of(query: &Query) -> Self {
        let oldest = |since: Timestamp| {
            let ms = u64::try_from(since.as_millisecond() - ID_AGE_MS).unwrap_or(0);
            let mut id = [0; 16];
            id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
            id
        };
        Self {
            below: query.before.map_or([0xff; 16], |id| *id.as_bytes()),
            from: query.since.map_or([0; 16], oldest),
            limit: column::number(query.limit as u64),
        }
    }

    fn ids(&self, conn: &Connection, query: &Query, task: Option<i64>) -> Result<Vec<JobId>, StoreError> {
        let since = query.since.map_or(i64::MIN, column::micros);
        let states = (!query.states.is_empty()).then(|| column::json(&query.states));
        let (lane, parent) = (query.lane.as_ref(), column::maybe_bytes(&query.parent));
        let mut labels = query.labels.iter();
        if let Some((name, value)) = labels.next() {
            let others: std::collections::BTreeMap<_, _> = labels.collect();
            let others = (!others.is_empty()).then(|| column::json(&others));
            let values = params![
                self.below, self.from, self.limit, since, task, lane, parent, states, others, name, value
            ];
            return ids(conn, BY_LABEL, values);
        }
        let sql = match (parent, lane) {
            (Some(_), _) => BY_PARENT,
            (None, Some(_)) => BY_LANE,
            (None, None) if task.is_some() || states.is_some() => return self.in_states(conn, query, task),
            (None, None) => BY_ID,
        };
        let none: Option<String> = None;
        ids(conn, sql, params![self.below, self.from, self.limit, since, task, lane, parent, states, none])
    }

    /// The newest of every (task, state) asked for, then the newest of these.
    fn in_states(
        &self,
        conn: &Connection,
        query: &Query,
        task: Option<i64>,
    ) -> Result<Vec<JobId>, StoreError> {
        let tasks = match task {
            Some(task) => vec![task],
            None => statement::all(conn, TASK_IDS, [], |row| Ok(row.get(0)?))?,
        };
        let states = if query.states.is_empty() { &JobState::ALL[..] } else { &query.states };
        let mut found = Vec::new();
        for task in tasks {
            for state in states {
                let sql = if state.is_final() { DONE_IN_STATE } else { LIVE_IN_STATE };
                let values = params![task, state.name(), self.below, self.from, self.limit];
                found.extend(ids(conn, sql, values)?);
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        found.truncate(query.limit);
        Ok(found)
    }
}

fn ids(conn: &Connection, sql: &str, values: impl Params) -> Result<Vec<JobId>, StoreError> {
    statement::all(conn, sql, values, |row| Ok(JobId::from_bytes(row.get(0)?)))
}

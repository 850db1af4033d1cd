//! Which lanes and families of a task are worth a look when slots are given: those with queued
//! jobs that were not found full. One that is full is put aside until something in it ends, so a
//! thousand full lanes cost a claim nothing. Whether one has room is counted from rows each time:
//! what stands here may be wrong about who waits, never about who may run.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use procession_core::id::JobId;
use rusqlite::{Connection, Row};

use super::{column, statement};
use crate::error::StoreError;

/// The queued jobs of begun families and of nobody's, by their groups.
pub(super) const GROUPS: &str = "
    SELECT DISTINCT queued.task, queued.lane, queued.parent
    FROM live AS queued LEFT JOIN live AS above ON above.job = queued.parent
    WHERE queued.state = 'queued' AND queued.joins = 0
        AND (queued.parent IS NULL OR above.begun_at IS NOT NULL)
    ORDER BY 1, 2, 3";

/// Jobs of a task that share a lane and a parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    pub lane: Option<Arc<str>>,
    pub parent: Option<JobId>,
}

impl Group {
    /// From the columns `lane` and `parent`.
    pub(super) fn of(row: &Row<'_>) -> Result<Self, StoreError> {
        let lane: Option<String> = row.get("lane")?;
        Ok(Self { lane: lane.map(Into::into), parent: column::maybe_id(row, "parent")? })
    }
}

/// What a group has no room under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Lane,
    Family,
}

/// Those of all tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes {
    /// Whether it was read from the rows.
    read: bool,
    tasks: HashMap<i64, Ring>,
}

/// Those of one task.
#[derive(Clone, Debug, Default)]
struct Ring {
    /// The one served last; the one after it is next.
    turn: Option<Group>,
    ready: BTreeSet<Group>,
    aside: HashSet<Group>,
    by_lane: HashMap<Arc<str>, Vec<Group>>,
    by_parent: HashMap<JobId, Vec<Group>>,
}

impl Lanes {
    /// Reads them from the rows, unless that was done.
    pub(super) fn read(&mut self, conn: &Connection) -> Result<(), StoreError> {
        if self.read {
            return Ok(());
        }
        for ring in self.tasks.values_mut() {
            *ring = Ring { turn: ring.turn.take(), ..Ring::default() };
        }
        self.read = true;
        for (task, group) in statement::all(conn, GROUPS, [], |row| Ok((row.get(0)?, Group::of(row)?)))? {
            self.waits(task, &group);
        }
        Ok(())
    }

    /// Limits, or the rows themselves, have changed: all of them are worth a look.
    pub(super) fn forget(&mut self) {
        self.read = false;
    }

    /// A job of the group waits for a slot.
    pub(super) fn waits(&mut self, task: i64, group: &Group) {
        let ring = self.tasks.entry(task).or_default();
        if !ring.ready.contains(group) && !ring.aside.contains(group) {
            ring.ready.insert(group.clone());
        }
    }

    /// Something of the group gave back what it held.
    pub(super) fn freed(&mut self, task: i64, group: &Group) {
        if let (Some(lane), Some(ring)) = (&group.lane, self.tasks.get_mut(&task)) {
            let groups = ring.by_lane.remove(lane);
            ring.look_at(groups);
        }
        if let Some(parent) = group.parent {
            // A family's children may be of several tasks.
            for ring in self.tasks.values_mut() {
                let groups = ring.by_parent.remove(&parent);
                ring.look_at(groups);
            }
        }
    }

    /// How many there are to look at.
    pub(super) fn ready(&self, task: i64) -> usize {
        self.tasks.get(&task).map_or(0, |ring| ring.ready.len())
    }

    /// The one whose turn it is.
    pub(super) fn next(&self, task: i64) -> Option<Group> {
        let ring = self.tasks.get(&task)?;
        let after = match &ring.turn {
            Some(turn) => ring.ready.range((Excluded(turn), Unbounded)).next(),
            None => None,
        };
        after.or_else(|| ring.ready.first()).cloned()
    }

    /// A job of the group was given what it waited for.
    pub(super) fn served(&mut self, task: i64, group: &Group) {
        if let Some(ring) = self.tasks.get_mut(&task) {
            ring.turn = Some(group.clone());
        }
    }

    /// The group has no room until something under this bound ends.
    pub(super) fn put_aside(&mut self, task: i64, group: &Group, bound: Bound) {
        let Some(ring) = self.tasks.get_mut(&task) else { return };
        let aside = match (bound, &group.lane, group.parent) {
            (Bound::Lane, Some(lane), _) => ring.by_lane.entry(lane.clone()).or_default(),
            (Bound::Family, _, Some(parent)) => ring.by_parent.entry(parent).or_default(),
            _ => return,
        };
        aside.push(group.clone());
        ring.ready.remove(group);
        ring.aside.insert(group.clone());
    }

    /// Nobody of the group waits any more.
    pub(super) fn is_empty(&mut self, task: i64, group: &Group) {
        if let Some(ring) = self.tasks.get_mut(&task) {
            ring.ready.remove(group);
        }
    }
}

impl Ring {
    fn look_at(&mut self, groups: Option<Vec<Group>>) {
        for group in groups.into_iter().flatten() {
            self.aside.remove(&group);
            self.ready.insert(group);
        }
    }
}

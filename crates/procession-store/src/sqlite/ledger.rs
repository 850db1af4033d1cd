//! The `task` table and the last fence as the writer knows them: it is their only writer,
//! so it keeps them in memory, changes them there with every row that moves, and writes
//! what changed once, in the transaction of those rows.
//!
//! How many jobs run is not here: limits are counted from the rows that hold a slot. Which lanes
//! of a task are worth a look is ([`Lanes`]), but not whether they have room.

use std::collections::{BTreeMap, HashMap};

use procession_core::id::{Fence, JobId, TaskName};
use procession_core::state::JobState;
use rusqlite::{Connection, params};

use super::lanes::Lanes;
use super::{column, statement};
use crate::error::StoreError;
use crate::store::Room;

pub(super) const TASKS: &str = "
    SELECT id, name, paused, queued, scheduled, unfinished, finished, failed, paid_until FROM task ORDER BY id";
pub(super) const INSERT_TASK: &str = "INSERT INTO task (id, name) VALUES (?1, ?2)";
pub(super) const UPDATE_TASK: &str = "
    UPDATE task SET paused = ?2, queued = ?3, scheduled = ?4, unfinished = ?5, finished = ?6, failed = ?7,
        paid_until = ?8
    WHERE id = ?1";
pub(super) const FENCE: &str = "SELECT fence FROM meta";
pub(super) const UPDATE_FENCE: &str = "UPDATE meta SET fence = ?1";
pub(super) const RECOUNT: &str = "SELECT task, state, count(*) FROM live GROUP BY task, state";
pub(super) const PENDING: &str = "SELECT count(*) FROM delivery WHERE state = 'pending'";
pub(super) const NOT_COUNTED: &str = "
    SELECT task, count(*) FROM live
    WHERE parent IS NULL AND state = 'scheduled' AND retrying = 1 GROUP BY task
    UNION ALL
    SELECT task, count(*) FROM live
    WHERE parent IS NOT NULL AND state IN ('queued', 'scheduled') GROUP BY task";

/// Where a job stands, as its task counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub state: JobState,
    /// A family brought it: it asked for no place in the queue.
    pub child: bool,
    /// It waits for another attempt.
    pub retrying: bool,
}

impl Place {
    pub(super) fn new(state: JobState, parent: Option<JobId>) -> Self {
        Self { state, child: parent.is_some(), retrying: false }
    }

    /// The same job in another state.
    pub(super) fn to(self, state: JobState) -> Self {
        Self { state, retrying: false, ..self }
    }

    /// Whether admission counts it.
    fn is_counted(self) -> bool {
        match self.state {
            JobState::Running | JobState::Waiting => true,
            JobState::Queued => !self.child,
            JobState::Scheduled => !self.child && !self.retrying,
            _ => false,
        }
    }
}

/// A task's row.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub id: i64,
    pub name: TaskName,
    pub paused: bool,
    pub queued: i64,
    pub scheduled: i64,
    pub unfinished: i64,
    /// See [`procession_core::rate`].
    pub paid_until: Option<i64>,
    finished: i64,
    failed: i64,
    changed: bool,
}

/// All of them, the fence, and what only the next claim needs.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// The task with id n stands at n - 1: ids have no holes.
    tasks: Vec<Task>,
    by_name: HashMap<TaskName, usize>,
    fence: u64,
    fence_changed: bool,
    /// The task served last; the next claim begins with the one after it.
    pub turn: Option<TaskName>,
    /// The limits of the last claim: which queued jobs could take a slot.
    pub asked: Option<BTreeMap<TaskName, Room>>,
    /// Where there are jobs to be given.
    pub lanes: Lanes,
    /// Deliveries on their way.
    pub pending: u64,
}

impl Ledger {
    /// Reads the tables; corrects depths that do not agree with the rows, as after a
    /// repair by hand.
    pub(super) fn open(conn: &Connection) -> Result<Self, StoreError> {
        let mut ledger = Self {
            tasks: Vec::new(),
            by_name: HashMap::new(),
            fence: 0,
            fence_changed: false,
            turn: None,
            asked: None,
            lanes: Lanes::default(),
            pending: 0,
        };
        ledger.reload(conn)?;
        let counted = count(conn)?;
        for task in &mut ledger.tasks {
            let depth = counted.get(&task.id).copied().unwrap_or_default();
            if depth != (task.queued, task.scheduled, task.unfinished) {
                tracing::warn!(task = %task.name, "the depth of the queue was not that of its rows: corrected");
                (task.queued, task.scheduled, task.unfinished) = depth;
                task.changed = true;
            }
        }
        ledger.write(conn)?;
        Ok(ledger)
    }

    /// Reads the tables again, after a transaction that was rolled back.
    pub(super) fn reload(&mut self, conn: &Connection) -> Result<(), StoreError> {
        self.tasks = statement::all(conn, TASKS, [], |row| {
            Ok(Task {
                id: row.get(0)?,
                name: column::task_name(&row.get::<_, String>(1)?)?,
                paused: row.get(2)?,
                queued: row.get(3)?,
                scheduled: row.get(4)?,
                unfinished: row.get(5)?,
                finished: row.get(6)?,
                failed: row.get(7)?,
                paid_until: row.get(8)?,
                changed: false,
            })
        })?;
        if self.tasks.iter().zip(1..).any(|(task, id)| task.id != id) {
            return Err(column::corrupt("task ids with a hole"));
        }
        self.by_name = self.tasks.iter().enumerate().map(|(at, task)| (task.name.clone(), at)).collect();
        let fence = statement::one(conn, FENCE, [], |row| column::count(row.get(0)?))?;
        self.fence = fence.ok_or_else(|| column::corrupt("no row in meta"))?;
        self.fence_changed = false;
        self.lanes.forget();
        let pending = statement::one(conn, PENDING, [], |row| column::count(row.get(0)?))?;
        self.pending = pending.unwrap_or(0);
        Ok(())
    }

    /// Writes what changed; the last thing of a transaction.
    pub(super) fn write(&mut self, conn: &Connection) -> Result<(), StoreError> {
        for task in self.tasks.iter_mut().filter(|task| task.changed) {
            let values = params![
                task.id,
                task.paused,
                task.queued,
                task.scheduled,
                task.unfinished,
                task.finished,
                task.failed,
                task.paid_until
            ];
            statement::run(conn, UPDATE_TASK, values)?;
            task.changed = false;
        }
        if self.fence_changed {
            statement::run(conn, UPDATE_FENCE, [column::number(self.fence)])?;
            self.fence_changed = false;
        }
        Ok(())
    }

    pub(super) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    pub(super) fn find(&self, name: &TaskName) -> Option<&Task> {
        self.by_name.get(name).map(|at| &self.tasks[*at])
    }

    /// The task's row, made if there is none.
    pub(super) fn ensure(&mut self, conn: &Connection, name: &TaskName) -> Result<&Task, StoreError> {
        if let Some(at) = self.by_name.get(name) {
            return Ok(&self.tasks[*at]);
        }
        let (at, id) = (self.tasks.len(), self.tasks.len() as i64 + 1);
        statement::run(conn, INSERT_TASK, params![id, name.as_str()])?;
        self.by_name.insert(name.clone(), at);
        self.tasks.push(Task {
            id,
            name: name.clone(),
            paused: false,
            queued: 0,
            scheduled: 0,
            unfinished: 0,
            finished: 0,
            failed: 0,
            paid_until: None,
            changed: false,
        });
        Ok(&self.tasks[at])
    }

    /// Stops or resumes a task; `false`: there is none.
    pub(super) fn pause(&mut self, name: &TaskName, paused: bool) -> bool {
        let Some(at) = self.by_name.get(name) else { return false };
        let task = &mut self.tasks[*at];
        task.changed |= task.paused != paused;
        task.paused = paused;
        true
    }

    /// So many deliveries are on their way no more.
    pub(super) fn left_outbox(&mut self, many: usize) {
        self.pending = self.pending.saturating_sub(many as u64);
    }

    /// The fence of the next claim.
    pub(super) fn next_fence(&mut self) -> Fence {
        self.fence += 1;
        self.fence_changed = true;
        Fence(self.fence)
    }

    /// All that was taken of a task under its rate is paid for then.
    pub(super) fn paid(&mut self, task: i64, until: i64) -> Result<(), StoreError> {
        let task = self.at(task)?;
        task.paid_until = Some(until);
        task.changed = true;
        Ok(())
    }

    /// A job of `task` was submitted into `to`.
    pub(super) fn entered(&mut self, task: i64, to: Place) -> Result<(), StoreError> {
        self.at(task)?.count(to, 1);
        Ok(())
    }

    /// A job of `task` went from one place to another.
    pub(super) fn moved(&mut self, task: i64, from: Place, to: Place) -> Result<(), StoreError> {
        let task = self.at(task)?;
        task.count(from, -1);
        task.count(to, 1);
        Ok(())
    }

    fn at(&mut self, id: i64) -> Result<&mut Task, StoreError> {
        let at = usize::try_from(id - 1).ok();
        let task = at.and_then(|at| self.tasks.get_mut(at));
        task.ok_or_else(|| column::corrupt(format!("a job of task {id}")))
    }
}

/// Queued, scheduled and unfinished jobs of each task, counted from their rows: the walk of
/// one index, 0.1 s for a million.
pub(super) fn count(conn: &Connection) -> Result<HashMap<i64, (i64, i64, i64)>, StoreError> {
    let mut depths: HashMap<i64, (i64, i64, i64)> = HashMap::new();
    let states = statement::all(conn, RECOUNT, [], |row| {
        Ok((row.get::<_, i64>(0)?, column::state(&row.get::<_, String>(1)?)?, row.get::<_, i64>(2)?))
    })?;
    for (task, state, many) in states {
        let (queued, scheduled, unfinished) = depths.entry(task).or_default();
        match state {
            JobState::Queued => *queued += many,
            JobState::Scheduled => *scheduled += many,
            _ => {}
        }
        *unfinished += many;
    }
    let others =
        statement::all(conn, NOT_COUNTED, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    for (task, many) in others {
        depths.entry(task).or_default().2 -= many;
    }
    Ok(depths)
}

impl Task {
    fn count(&mut self, place: Place, by: i64) {
        self.changed = true;
        match place.state {
            JobState::Queued => self.queued += by,
            JobState::Scheduled => self.scheduled += by,
            JobState::Running | JobState::Waiting => {}
            over => {
                self.finished += by;
                self.failed += if over == JobState::Succeeded { 0 } else { by };
            }
        }
        if place.is_counted() {
            self.unfinished += by;
        }
    }
}

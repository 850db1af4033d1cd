//! That tasks exist, whether they are paused, and how many jobs each has had.

use std::collections::BTreeMap;

use procession_core::id::TaskName;

use super::queue::Queue;
use crate::store::TaskCounts;

pub(super) fn put_tasks(queue: &mut Queue, tasks: Vec<TaskName>) {
    for task in tasks {
        queue.tasks.entry(task).or_default();
    }
}

pub(super) fn pause(queue: &mut Queue, task: &TaskName, paused: bool) -> bool {
    let Some(task) = queue.tasks.get_mut(task) else { return false };
    task.paused = paused;
    true
}

pub(super) fn stats(queue: &Queue) -> BTreeMap<TaskName, TaskCounts> {
    let counts = queue.tasks.iter().map(|(name, task)| {
        let counts = TaskCounts {
            running: queue.running(name),
            queued: queue.of(name).filter(|job| job.waits()).count() as u64,
            finished: task.finished,
            failed: task.failed,
            paused: task.paused,
            families: queue.of(name).filter(|job| job.end.is_none() && job.begun_at.is_some()).count() as u64,
        };
        (name.clone(), counts)
    });
    counts.collect()
}

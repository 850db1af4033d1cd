//! Removing finished jobs, one by name or many by age.

use jiff::Timestamp;
use procession_core::id::JobId;

use super::queue::Queue;
use crate::store::Deleted;

pub(super) fn delete(queue: &mut Queue, job: JobId) -> Deleted {
    match queue.jobs.get(&job) {
        None => Deleted::Unknown,
        Some(found) if found.end.is_none() => Deleted::Unfinished,
        Some(_) => {
            queue.jobs.remove(&job);
            Deleted::Deleted
        }
    }
}

pub(super) fn prune(queue: &mut Queue, before: Timestamp, most: usize) -> Vec<JobId> {
    let over =
        queue.jobs.values().filter_map(|job| job.end.as_ref().map(|end| (end.finished_at, job.new.id)));
    let mut old: Vec<_> = over.filter(|(finished_at, _)| *finished_at < before).collect();
    old.sort_unstable();
    old.truncate(most);
    for (_, job) in &old {
        queue.jobs.remove(job);
    }
    old.into_iter().map(|(_, job)| job).collect()
}

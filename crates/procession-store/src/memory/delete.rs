//! Removing finished jobs, one by name or many by age, each with all below it.

use jiff::Timestamp;
use procession_core::id::JobId;

use super::queue::{Job, Queue};
use crate::store::Deleted;

pub(super) fn delete(queue: &mut Queue, job: JobId) -> Deleted {
    match queue.jobs.get(&job) {
        None => Deleted::Unknown,
        Some(found) if found.kin.is_some() => Deleted::OfFamily(found.kin.map_or(job, |kin| kin.root)),
        Some(found) if found.end.is_none() => Deleted::Unfinished,
        Some(_) => Deleted::Deleted(remove_family(queue, job)),
    }
}

pub(super) fn prune(queue: &mut Queue, before: Timestamp, most: usize) -> Vec<JobId> {
    let roots = queue.jobs.values().filter(|job| job.kin.is_none() && !awaits(queue, job.new.id));
    let over = roots.filter_map(|job| job.end.as_ref().map(|end| (end.finished_at, job.new.id)));
    let mut old: Vec<_> = over.filter(|(finished_at, _)| *finished_at < before).collect();
    old.sort_unstable();
    let mut removed = vec![];
    for (_, job) in old {
        if removed.len() < most {
            removed.append(&mut remove_family(queue, job));
        }
    }
    removed
}

/// Whether something that is to follow the end of a job, or of one below it, is on its way.
fn awaits(queue: &Queue, root: JobId) -> bool {
    let of_family = |job: &&Job| job.new.id == root || job.kin.is_some_and(|kin| kin.root == root);
    queue.jobs.values().filter(of_family).any(|job| queue.outbox.awaits(job.new.id))
}

fn remove_family(queue: &mut Queue, root: JobId) -> Vec<JobId> {
    let below = queue.jobs.values().filter(|job| job.kin.is_some_and(|kin| kin.root == root));
    let family: Vec<JobId> = below.map(|job| job.new.id).chain([root]).collect();
    for job in &family {
        queue.jobs.remove(job);
        queue.outbox.remove(*job);
    }
    family
}

//! A page of jobs, newest first.

use procession_core::id::JobId;
use procession_core::job::{JobRecord, ResultSummary};

use super::queue::Queue;
use crate::store::Query;

pub(super) fn list(queue: &Queue, query: &Query) -> Vec<JobRecord> {
    let newest_first = queue.jobs.values().rev().map(|job| queue.record(job));
    newest_first.filter(|job| matches(query, job)).take(query.limit).map(line).collect()
}

/// The children of a parent, by their index.
pub(super) fn children(queue: &Queue, parent: JobId, after: Option<JobId>, most: usize) -> Vec<JobRecord> {
    let children = queue.children(parent).filter(|child| Some(child.new.id) > after);
    children.take(most).map(|child| line(queue.record(child))).collect()
}

fn matches(query: &Query, job: &JobRecord) -> bool {
    query.task.as_ref().is_none_or(|task| job.task == *task)
        && (query.states.is_empty() || query.states.contains(&job.state))
        && query.parent.is_none_or(|parent| job.parent == Some(parent))
        && query.lane.as_ref().is_none_or(|lane| job.lane.as_ref() == Some(lane))
        && query.labels.iter().all(|(name, value)| job.labels.get(name) == Some(value))
        && query.since.is_none_or(|since| job.submitted_at >= since)
        && query.before.is_none_or(|before| job.id < before)
}

/// A record as a list shows it.
fn line(mut job: JobRecord) -> JobRecord {
    job.result = ResultSummary::None;
    if let Some(output) = &mut job.output {
        output.stdout.tail.clear();
        output.stderr.tail.clear();
    }
    job
}

//! How many, how long, how gently: what bounds a task and its attempts.

use procession_core::limits::Limit;
use procession_core::task::Task;

use super::super::section::Section;

/// More processes than a kernel has ids for is a number nobody means.
const MOST_RUNNING: u64 = 1 << 22;
/// Beyond this no queue is a waiting room any more.
const MOST_QUEUED: u64 = 100_000_000;

pub(super) fn read(section: &Section<'_>, task: &mut Task) {
    if let Some(most) = section.count("max_running", 1..=MOST_RUNNING) {
        task.limits.max_running = Limit::AtMost(most);
    } else if !section.has("max_running") {
        section.report.advice(
            &section.span,
            format!("task `{}` has no limit of its own", task.name),
            "give it one: max_running = 10; without it it may take every slot of the node",
        );
    }
    if let Some(most) = section.count("max_queued", 0..=MOST_QUEUED) {
        task.limits.max_queued = most;
    }
    if let Some(timeout) = section.bound("timeout") {
        task.timeout = timeout;
    }
    if let Some(grace) = section.duration("grace") {
        task.grace = grace;
    }
    if let Some(queue_timeout) = section.bound("queue_timeout") {
        task.queue_timeout = queue_timeout;
    }
    if let Some(leave) = section.flag("leave_children") {
        task.leave_children = leave;
    }
}

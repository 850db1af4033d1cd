//! Children that are ours only by default: descendants of jobs that fell to us as their
//! subreaper, and, as PID 1, everybody's. The dead are reaped; the living are left alone but
//! for those whose monitor died, and those that moved out of their attempt's cgroup.

use std::collections::HashSet;

use rustix::process::{Pid, Signal, getpid};

use crate::sys::process::{first_dead_child, reap_if_ended, stat};
use crate::tree::cgroup::Cgroups;
use crate::tree::descendants::{Row, living, signal_row, table};

/// Our children, dead or alive; `None` on a kernel that does not list them.
pub(crate) fn children() -> Option<Vec<Pid>> {
    let path = format!("/proc/self/task/{}/children", getpid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect())
}

/// Reaps every dead child that is not `own`.
pub(crate) fn reap(own: &HashSet<Pid>) {
    match children() {
        Some(children) => {
            for orphan in children.into_iter().filter(|pid| !own.contains(pid)) {
                let _ = reap_if_ended(orphan);
            }
        }
        None => reap_those_in_front(own),
    }
}

/// Kills what fell to us when a monitor died: every child that is neither `own` nor
/// `spared`, and all below. Whether there was any.
pub(crate) fn end_strays(own: &HashSet<Pid>, spared: &mut HashSet<Pid>) -> bool {
    let table = table();
    let us = getpid().as_raw_nonzero().get();
    let is_child =
        |pid: Pid| table.iter().any(|row| row.parent == us && row.pid == pid.as_raw_nonzero().get());
    spared.retain(|pid| is_child(*pid));
    let known =
        |row: &Row| Pid::from_raw(row.pid).is_some_and(|pid| own.contains(&pid) || spared.contains(&pid));
    let mut found = false;
    for stray in table.iter().filter(|row| row.parent == us && !known(row)) {
        found |= end_with_all_below(&table, *stray);
    }
    found
}

fn end_with_all_below(table: &[Row], stray: Row) -> bool {
    let below = living(table, stray.pid);
    let all = below.into_iter().chain(Some(stray).filter(|stray| !stray.zombie));
    all.map(|row| signal_row(row, &[Signal::KILL])).count() > 0
}

/// A living child that has moved out of the cgroup it was born in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Escaped {
    pub(crate) pid: Pid,
    /// The leader of an attempt, unless it left that too.
    pub(crate) session: i32,
}

/// Those of our children that are neither `own` nor `spared`, nor in any cgroup of attempts.
pub(crate) fn escaped(own: &HashSet<Pid>, spared: &mut HashSet<Pid>, cgroups: &Cgroups) -> Vec<Escaped> {
    let children = children().unwrap_or_default();
    spared.retain(|pid| children.contains(pid));
    let unknown = children.into_iter().filter(|pid| !own.contains(pid) && !spared.contains(pid));
    let living = unknown.filter_map(|pid| Some((pid, stat(pid).filter(|stat| !stat.zombie)?)));
    let left = living.filter(|(pid, _)| cgroups.was_left_by(*pid));
    left.map(|(pid, stat)| Escaped { pid, session: stat.session }).collect()
}

/// Kills them and all below. Who is below and not seen in time falls to us in turn.
pub(crate) fn end_escaped(escaped: &[Escaped]) {
    if escaped.is_empty() {
        return;
    }
    let table = table();
    for gone in escaped {
        let row = table.iter().find(|row| row.pid == gone.pid.as_raw_nonzero().get());
        row.map(|row| end_with_all_below(&table, *row));
    }
}

/// Without the list of children only the first dead one can be seen: one of our own in
/// front hides the others until it is reaped.
fn reap_those_in_front(own: &HashSet<Pid>) {
    while let Some(pid) = first_dead_child() {
        if own.contains(&pid) || reap_if_ended(pid).is_err() {
            return;
        }
    }
}

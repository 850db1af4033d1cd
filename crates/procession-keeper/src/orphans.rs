//! Children that are ours only by default: descendants of jobs that fell to us as their
//! subreaper, and, as PID 1, everybody's. The dead are reaped; the living are left alone but
//! for those whose monitor died.

use std::collections::HashSet;

use rustix::process::{Pid, Signal, getpid};

use crate::sys::process::{first_dead_child, reap_if_ended};
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
        let below = living(&table, stray.pid);
        for row in below.into_iter().chain(Some(*stray).filter(|stray| !stray.zombie)) {
            signal_row(row, &[Signal::KILL]);
            found = true;
        }
    }
    found
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

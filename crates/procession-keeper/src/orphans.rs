//! Zombies that nobody waits for: descendants of jobs that fell to us as their subreaper,
//! and, as PID 1, everybody's.

use std::collections::HashSet;

use rustix::process::{Pid, getpid};

use crate::sys::process::{first_dead_child, reap_if_ended};

/// Reaps every dead child that is not `own`.
pub(crate) fn reap(own: &HashSet<Pid>) {
    let pid = getpid().as_raw_nonzero();
    match std::fs::read_to_string(format!("/proc/self/task/{pid}/children")) {
        Ok(children) => {
            let pids =
                children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw));
            for orphan in pids.filter(|pid| !own.contains(pid)) {
                let _ = reap_if_ended(orphan);
            }
        }
        Err(_) => reap_those_in_front(own),
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

//! Whom a monitor ends: the living descendants of a process.
//!
//! [`living`] is a pure function of a table; [`table`] reads one from `/proc`, row by row, so
//! it may mix moments. A row whose pid went to a stranger in between is recognised by its
//! age, and checked once more through its handle before it is signalled.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::sys::process::{signal, stat};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) start_ticks: u64,
    pub(crate) zombie: bool,
}

/// The living descendants of `root`, nearest first. A child is never older than its parent:
/// where it seems so, the parent's number is another's.
pub(crate) fn living(table: &[Row], root: i32) -> Vec<Row> {
    let Some(root) = table.iter().find(|row| row.pid == root) else { return vec![] };
    let mut children: HashMap<i32, Vec<&Row>> = HashMap::new();
    table.iter().for_each(|row| children.entry(row.parent).or_default().push(row));
    let mut found: Vec<Row> = vec![*root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let below = children.remove(&parent.pid).unwrap_or_default();
        found.extend(
            below.into_iter().filter(|row| row.start_ticks >= parent.start_ticks && row.pid != parent.pid),
        );
        at += 1;
    }
    found.into_iter().skip(1).filter(|row| !row.zombie).collect()
}

/// Every process there is.
pub(crate) fn table() -> Vec<Row> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![] };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let stat = stat(Pid::from_raw(pid)?)?;
        Some(Row { pid, parent: stat.parent, start_ticks: stat.start_ticks, zombie: stat.zombie })
    })
    .collect()
}

/// Sends signals to exactly this process, or to none.
pub(crate) fn signal_row(row: Row, signals: &[Signal]) {
    let Some(pid) = Pid::from_raw(row.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // The handle is of whoever has the number now: of the one in the table only if it is
    // as old.
    if stat(pid).is_some_and(|stat| stat.start_ticks == row.start_ticks) {
        signals.iter().for_each(|which| signal(handle.as_fd(), *which));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: i32, parent: i32, start_ticks: u64) -> Row {
        Row { pid, parent, start_ticks, zombie: false }
    }

    fn pids(table: &[Row], root: i32) -> Vec<i32> {
        living(table, root).iter().map(|row| row.pid).collect()
    }

    #[test]
    fn children_of_children_and_nobody_else() {
        let table =
            [row(1, 0, 0), row(10, 1, 5), row(11, 10, 6), row(12, 11, 7), row(20, 1, 5), row(21, 20, 9)];
        assert_eq!(pids(&table, 10), [11, 12]);
        assert_eq!(pids(&table, 12), [0; 0]);
        assert_eq!(pids(&table, 99), [0; 0]);
    }

    #[test]
    fn below_a_zombie_the_living_count() {
        let mut table = [row(10, 1, 5), row(11, 10, 6), row(12, 11, 7)];
        table[1].zombie = true;
        assert_eq!(pids(&table, 10), [12]);
    }

    #[test]
    fn a_reused_number_has_no_children_older_than_itself() {
        // 11 died and its number went to a child of ours; 12 was the old 11's child.
        let table = [row(10, 1, 5), row(11, 10, 50), row(12, 11, 7)];
        assert_eq!(pids(&table, 10), [11]);
    }

    #[test]
    fn rows_of_different_moments_may_form_a_ring() {
        let table = [row(10, 12, 5), row(11, 10, 5), row(12, 11, 5), row(13, 13, 5)];
        assert_eq!(pids(&table, 10), [11, 12, 10]);
        assert_eq!(pids(&table, 13), [0; 0]);
    }
}

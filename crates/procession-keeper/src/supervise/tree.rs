//! The tree of one attempt, whichever way it is held together: what the machine's actions
//! mean there.

use std::os::fd::AsFd;

use procession_core::attempt::Input;
use procession_core::record::Usage;
use rustix::event::epoll::EventFlags;
use rustix::process::{Pid, Signal};

use crate::events::{AttemptId, Part, Source};
use crate::spawn::Process;
use crate::sys::process::{reap, signal};
use crate::tree::cgroup::Slot;
use crate::tree::watch::{Order, Report, Wire};
use crate::world::{Alarm, STRAYS_EVERY, Trees, World};

/// With more children than this their list is read at intervals, not at the end of each.
const FEW: usize = 256;

/// See the module.
pub(super) enum Tree {
    /// In a cgroup, the leader our own child.
    Cgroup { slot: Slot, leaked: u32 },
    /// Below a monitor.
    Monitor(Watch),
}

/// A monitor, as far as it has reported.
pub(super) struct Watch {
    pub(super) wire: Wire,
    pub(super) wait_status: Option<i32>,
    pub(super) usage: Usage,
    pub(super) leaked: u32,
    pub(super) left: bool,
    pub(super) swept: bool,
}

impl Watch {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, wait_status: None, usage: Usage::default(), leaked: 0, left: false, swept: false }
    }

    /// Its job may have stopped the monitor.
    pub(super) fn order(&self, order: Order, monitor: &Process) {
        self.wire.order(order);
        signal(monitor.pidfd.as_fd(), Signal::CONT);
    }

    /// Keeps what the record will need.
    pub(super) fn heed(&mut self, report: Report) {
        match report {
            Report::Ended { wait_status, .. } => self.wait_status = Some(wait_status),
            Report::Swept { wait_status, usage, leaked } => {
                (self.wait_status, self.usage, self.leaked) = (Some(wait_status), usage, leaked);
                self.swept = true;
            }
            Report::Started { .. } | Report::Failed { .. } | Report::Located { .. } => {}
        }
    }
}

impl Tree {
    /// The leader first, through the handle at hand: the shorter the time since we looked
    /// whether it had ended, the fewer exits are mistaken for our doing.
    pub(super) fn terminate(&self, leader: &Process) {
        match self {
            Tree::Cgroup { slot, .. } => {
                signal(leader.pidfd.as_fd(), Signal::TERM);
                signal(leader.pidfd.as_fd(), Signal::CONT);
                slot.terminate(leader.pid);
            }
            Tree::Monitor(watch) => watch.order(Order::Terminate, leader),
        }
    }

    /// The leader by its handle too: it may have moved out of its cgroup.
    pub(super) fn kill(&mut self, leader: &Process) {
        self.count(leader.pid);
        match self {
            Tree::Cgroup { slot, .. } => {
                slot.kill();
                signal(leader.pidfd.as_fd(), Signal::KILL);
            }
            Tree::Monitor(watch) => watch.order(Order::Kill, leader),
        }
    }

    /// Who lives beside the leader; the most ever found is what is told.
    fn count(&mut self, leader: Pid) -> usize {
        let Tree::Cgroup { slot, leaked } = self else { return 0 };
        let members = slot.members(leader).len();
        *leaked = (*leaked).max(u32::try_from(members).unwrap_or(u32::MAX));
        members
    }

    pub(super) fn sweep(
        &mut self,
        leave: bool,
        (id, leader): (AttemptId, &Process),
        world: &mut World,
    ) -> Option<Input> {
        if let Tree::Monitor(watch) = self {
            watch.left = leave;
            watch.order(if leave { Order::Leave } else { Order::Sweep }, leader);
            return None;
        }
        let answer = self.sweep_cgroup(leave, (id, leader.pid), world);
        self.end_escaped(leave, leader.pid, world);
        answer
    }

    fn sweep_cgroup(
        &mut self,
        leave: bool,
        (id, leader): (AttemptId, Pid),
        world: &mut World,
    ) -> Option<Input> {
        let populated = matches!(self, Tree::Cgroup { slot, .. } if slot.is_populated());
        if !populated || self.count(leader) == 0 {
            return Some(Input::TreeEmpty);
        }
        let Tree::Cgroup { slot, .. } = self else { return None };
        if leave {
            slot.leave();
            return Some(Input::TreeEmpty);
        }
        slot.kill();
        // The parents of some that moved out may be among them: these fall to us only now.
        world.timers.arm(Alarm::EndStrays, world.now.after(STRAYS_EVERY));
        let source = Source::Attempt(id, Part::Tree);
        let watched = world.events.add_for(slot.events(), source, EventFlags::PRI);
        // Only after the watch is set: a change before it would not wake us. Unwatched, the
        // drain's bound ends the wait.
        let gone = watched.is_ok() && !slot.is_populated();
        gone.then_some(Input::TreeEmpty)
    }

    /// What moved out of the cgroup and lost its parent has fallen to the keeper. Looked for at
    /// each end as long as that is cheap.
    fn end_escaped(&mut self, leave: bool, leader: Pid, world: &mut World) {
        let Tree::Cgroup { leaked, .. } = self else { return };
        if leave || world.own.len() <= FEW {
            *leaked = leaked.saturating_add(world.end_escaped(Some(leader), leave));
        } else if !world.timers.is_armed(Alarm::EndStrays) {
            world.timers.arm(Alarm::EndStrays, world.now.after(STRAYS_EVERY));
        }
    }

    /// The leader's raw status and usage, as far as they are known.
    pub(super) fn reap(&mut self, process: Pid, world: &mut World) -> Option<(i32, Usage)> {
        // A monitor ends by itself, a little later: it is reaped like an orphan.
        world.own.remove(&process);
        match self {
            Tree::Cgroup { .. } => reap(process).ok(),
            Tree::Monitor(watch) => {
                if watch.left {
                    world.spared.insert(process);
                }
                watch.wait_status.map(|status| (status, watch.usage))
            }
        }
    }

    /// Whether there is a monitor that has not told that it is done.
    pub(super) fn is_overdue(&self) -> bool {
        matches!(self, Tree::Monitor(watch) if !watch.swept && !watch.left)
    }

    pub(super) fn leaked(&self) -> u32 {
        match self {
            Tree::Cgroup { leaked, .. } => *leaked,
            Tree::Monitor(watch) => watch.leaked,
        }
    }

    /// The attempt is over. What a server holds too is never lent again: it may take whoever is in
    /// it for this one.
    pub(super) fn give_back(self, held: bool, world: &mut World) {
        match (self, &mut world.trees) {
            (Tree::Cgroup { slot, .. }, Trees::Cgroups(cgroups)) => {
                world.events.remove(slot.events());
                match held {
                    true => cgroups.retire(slot),
                    false => cgroups.give_back(slot),
                }
                if cgroups.needs_tending() && !world.timers.is_armed(Alarm::TendCgroups) {
                    world.timers.arm(Alarm::TendCgroups, world.now.after(super::WRITE_OUT_AFTER));
                }
            }
            (Tree::Monitor(watch), _) => world.events.remove(watch.wire.descriptor()),
            (Tree::Cgroup { .. }, Trees::Monitors) => {}
        }
    }
}

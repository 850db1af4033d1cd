//! Duplicates of an attempt's descriptors for the server, so that a keeper's death breaks no
//! pipe and loses no exit code: once it has run for a while, for a server that is to hold
//! them. Only in a cgroup: a monitor ends its tree when the keeper dies.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use procession_core::frame::{Held, ToServer};
use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::Attempt;
use super::tree::Tree;
use crate::events::{AttemptId, Part, Source};
use crate::output::Stream;
use crate::world::{Alarm, World};

/// What is over sooner pays nothing for this.
const AFTER: Duration = Duration::from_millis(100);

/// How the pipe of a patient stream is waited for: bytes that stay in it are heard of once.
pub(super) const NEWS: EventFlags = EventFlags::IN.union(EventFlags::ET);

/// The part of an attempt that a stream is.
pub(super) fn part(index: usize) -> Part {
    if index == 0 { Part::Stdout } else { Part::Stderr }
}

/// It is patient no more.
pub(super) fn wait_for_bytes(stream: &Stream, (id, index): (AttemptId, usize), world: &World) {
    let _ = world.events.modify(stream.pipe(), Source::Attempt(id, part(index)), EventFlags::IN);
}

impl Attempt {
    /// Its program runs.
    pub(super) fn hold_later(&self, world: &mut World) {
        if matches!(self.tree, Tree::Cgroup { .. }) {
            world.timers.arm(Alarm::Hold(self.id), world.now.after(AFTER));
        }
    }

    /// It has run for a while.
    pub(crate) fn hold(&mut self, world: &mut World) {
        self.held = true;
        for (index, stream) in self.output.streams() {
            stream.be_patient();
            if stream.is_patient() && self.open[index] {
                let source = Source::Attempt(self.id, part(index));
                let _ = world.events.modify(stream.pipe(), source, NEWS);
            }
        }
        self.tell_of_output(world);
        self.hand_out(world);
    }

    /// A server that is new may hold them too.
    pub(crate) fn hold_again(&mut self, world: &mut World) {
        if self.held {
            self.hand_out(world);
        }
    }

    fn hand_out(&mut self, world: &mut World) {
        let Tree::Cgroup { slot, .. } = &self.tree else { return };
        let mut held = Held {
            key: self.key,
            stdout: false,
            stderr: false,
            cgroup: slot.path_bytes(),
            started_us: self.started_us,
            cookie: self.cookie.clone(),
        };
        let mut lent: Vec<BorrowedFd<'_>> = vec![self.process.pidfd.as_fd()];
        for (index, stream) in self.output.streams() {
            if self.open[index] {
                lent.push(stream.pipe());
                *(if index == 0 { &mut held.stdout } else { &mut held.stderr }) = true;
            }
        }
        let copies = lent.into_iter().map(|fd| fcntl_dupfd_cloexec(fd, 3));
        // Without descriptors to spare the attempt runs on as it did; only the keeper's own
        // death would then cost its code.
        if let Ok(copies) = copies.collect::<Result<Vec<OwnedFd>, Errno>>() {
            world.outbox.say_with(&ToServer::Held(held), copies);
        }
    }
}

//! What the keeper waits for: descriptors, and whose they are.
//!
//! A name carries the generation of its attempt: children between clone and exec hold
//! copies of our descriptors, so an event may come for one that is closed and whose place
//! is taken. Every descriptor is removed before it is closed, for the same reason.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// An attempt in the keeper's table; never means another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The descriptors of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Did the child reach its program?
    Status,
    /// The pidfd of the leader, or of its monitor.
    Process,
    /// Its first stream.
    Stdout,
    /// Its second stream.
    Stderr,
    /// Its cgroup's `populated`.
    Tree,
    /// What its monitor says.
    Monitor,
}

/// A server of this keeper: its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServerId(pub(crate) u32);

/// The descriptors of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ServerPart {
    /// Did it reach its program?
    Status,
    /// Its pidfd.
    Process,
    /// Its socket.
    Socket,
}

/// A connection to the control socket; never means another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Whose descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Signals,
    Children,
    Timers,
    /// Somebody connects to the control socket.
    Askers,
    Asker(ConnectionId),
    Server(ServerId, ServerPart),
    Attempt(AttemptId, Part),
}

const PARTS: [Part; 6] = [Part::Status, Part::Process, Part::Stdout, Part::Stderr, Part::Tree, Part::Monitor];
const SERVER_PARTS: [ServerPart; 3] = [ServerPart::Status, ServerPart::Process, ServerPart::Socket];

/// The kind in the low byte, 24 bits of index, 32 of generation; a server has no index, an
/// asker only a number.
impl Source {
    const FIRST_SERVER: u64 = 3;
    const ASKERS: u64 = 14;
    const ASKER: u64 = 15;
    const FIRST_ATTEMPT: u64 = 16;

    fn to_number(self) -> u64 {
        match self {
            Source::Signals => 0,
            Source::Children => 1,
            Source::Timers => 2,
            Source::Askers => Self::ASKERS,
            Source::Asker(id) => Self::ASKER | id.0 << 8,
            Source::Server(id, part) => (Self::FIRST_SERVER + part as u64) | u64::from(id.0) << 32,
            Source::Attempt(id, part) => {
                let kind = Self::FIRST_ATTEMPT + part as u64;
                kind | u64::from(id.index & 0xff_ffff) << 8 | u64::from(id.generation) << 32
            }
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        let kind = number & 0xff;
        match kind {
            0 => Some(Source::Signals),
            1 => Some(Source::Children),
            2 => Some(Source::Timers),
            Self::ASKERS => Some(Source::Askers),
            Self::ASKER => Some(Source::Asker(ConnectionId(number >> 8))),
            Self::FIRST_SERVER..Self::ASKERS => {
                let part = *SERVER_PARTS.get((kind - Self::FIRST_SERVER) as usize)?;
                Some(Source::Server(ServerId((number >> 32) as u32), part))
            }
            _ => {
                let part = *PARTS.get((kind - Self::FIRST_ATTEMPT) as usize)?;
                let index = (number >> 8 & 0xff_ffff) as u32;
                Some(Source::Attempt(AttemptId { index, generation: (number >> 32) as u32 }, part))
            }
        }
    }
}

/// The wait set.
pub(crate) struct Events {
    epoll: OwnedFd,
    buffer: Vec<Event>,
}

impl Events {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, buffer: Vec::with_capacity(256) })
    }

    /// Wakes when the descriptor is readable or hung up.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, source: Source) -> Result<(), Errno> {
        self.add_for(fd, source, EventFlags::IN)
    }

    pub(crate) fn add_for(&self, fd: BorrowedFd<'_>, source: Source, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(source.to_number()), flags)
    }

    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, source: Source, flags: EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(source.to_number()), flags)
    }

    /// Before the descriptor is closed. One that is not in the set is no error.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for something to happen and says to whom. A process that was stopped, or a machine that
    /// slept, has slept through deadlines: what happened meanwhile is said before they are met.
    pub(crate) fn wait(&mut self) -> Result<Vec<(Source, EventFlags)>, Errno> {
        self.buffer.clear();
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut self.buffer), None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let known = |event: &Event| Some((Source::from_number(event.data.u64())?, event.flags));
        Ok(self.buffer.iter().filter_map(known).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_kernel() {
        let id = AttemptId { index: 0xab_cdef, generation: u32::MAX };
        let attempts = PARTS.map(|part| Source::Attempt(id, part));
        let servers = SERVER_PARTS.map(|part| Source::Server(ServerId(u32::MAX), part));
        let asker = Source::Asker(ConnectionId(1 << 40));
        let plain = [Source::Signals, Source::Children, Source::Timers, Source::Askers, asker];
        for source in attempts.iter().chain(&servers).chain(&plain) {
            assert_eq!(Source::from_number(source.to_number()), Some(*source));
        }
        assert_eq!(Source::from_number(0xff), None);
    }
}

//! What every attempt needs from outside itself: the wait set, timers, cgroups, records,
//! words for the server.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use procession_core::attempt::{Instant, Timer};
use procession_core::frame::{OutputNotice, ToServer};
use procession_core::id::AttemptKey;
use procession_core::record::{Containment, ExitRecord};
use rustix::process::{Pid, Signal};

use crate::events::{AttemptId, Events, ServerId};
use crate::journal::Journal;
use crate::orphans::{self, Escaped};
use crate::outbox::Words;
use crate::spawn::Process;
use crate::startup::Inherited;
use crate::sys::clone::Method;
use crate::sys::process::{has_ended, signal};
use crate::sys::stack::Stacks;
use crate::timers::Timers;
use crate::tree::cgroup::Cgroups;
use crate::unacknowledged::Unacknowledged;
use crate::{ContainmentChoice, Setup};

/// Between two passes over what fell to us and is to end.
pub(crate) const STRAYS_EVERY: Duration = Duration::from_millis(10);

/// Everything that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Alarm {
    /// Of the attempt's machine.
    Attempt(AttemptId, Timer),
    /// Small output becomes old.
    WriteOut(AttemptId),
    /// The server may hear of output again.
    Notice(AttemptId),
    /// A monitor owes an answer.
    Answer(AttemptId),
    /// The server is to hold duplicates of its descriptors.
    Hold(AttemptId),
    /// Monitors whose attempts did not wait for them are ended.
    EndOverdue,
    /// The server is started again.
    StartServer,
    /// A server that hung up without ending is ended.
    KillServer(ServerId),
    /// A handover takes too long.
    Handover,
    /// So does a start.
    ReadyLate,
    /// Cgroups that were not empty are removed.
    TendCgroups,
    /// Orphans are reaped.
    ReapOrphans,
    /// What a dead monitor left behind is ended, and what left its cgroup.
    EndStrays,
    /// A renewal waits no longer than this.
    Renew,
    /// Askers who say nothing are sent away, and others let in again.
    TendAskers,
    /// The service manager is told that the server is well, if it is.
    Watchdog,
    /// The keeper was asked to end and waits for a server no longer than this.
    LookForTheEnd,
    /// Nor does it wait for ever for what it has killed.
    GiveUp,
}

/// How trees are held together.
#[derive(Debug)]
pub(crate) enum Trees {
    Cgroups(Cgroups),
    Monitors,
}

/// What makes this keeper the one of its data directory.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) state_dir: PathBuf,
    pub(crate) label: String,
    pub(crate) containment: ContainmentChoice,
}

impl Origin {
    pub(crate) fn of(setup: &Setup) -> Self {
        let Setup { state_dir, label, containment, .. } = setup;
        Self { state_dir: state_dir.clone(), label: label.clone(), containment: *containment }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) origin: Origin,
    /// The kernel's name for this boot.
    pub(crate) boot_id: [u8; 16],
    pub(crate) events: Events,
    pub(crate) timers: Timers<Alarm>,
    /// When the last event was taken up.
    pub(crate) now: Instant,
    pub(crate) inherited: Inherited,
    pub(crate) method: Method,
    pub(crate) stacks: Stacks,
    pub(crate) trees: Trees,
    pub(crate) null: Rc<OwnedFd>,
    /// See the module `monitors`; every monitor has a copy.
    pub(crate) monitors: OwnedFd,
    /// Children that are ours to reap; all others are orphans.
    pub(crate) own: HashSet<Pid>,
    /// What may run on though its attempt is over: monitors of what was left running, and
    /// what left its cgroup and was then left alone.
    pub(crate) spared: HashSet<Pid>,
    /// Monitors that still swept when their attempts were over, and till when they may.
    pub(crate) overdue: Vec<(Instant, Process)>,
    pub(crate) journal: Journal,
    pub(crate) left: Unacknowledged,
    pub(crate) outbox: Outbox,
}

impl World {
    pub(crate) fn containment(&self) -> Containment {
        match self.trees {
            Trees::Cgroups(_) => Containment::Cgroup,
            Trees::Monitors => Containment::Monitor,
        }
    }

    /// The folder of attempts' cgroups; empty where there is none.
    pub(crate) fn cgroups_folder(&self) -> Bytes {
        match &self.trees {
            Trees::Cgroups(cgroups) => Bytes::copy_from_slice(cgroups.folder().as_os_str().as_bytes()),
            Trees::Monitors => Bytes::new(),
        }
    }

    /// Ends what has left its cgroup and fallen to us, or `spare`s it for good; says how many
    /// of it were of the `leader`'s session. Where strangers fall to us too, only these are
    /// known to be anyone's.
    pub(crate) fn end_escaped(&mut self, leader: Option<Pid>, spare: bool) -> u32 {
        let Trees::Cgroups(cgroups) = &self.trees else { return 0 };
        let of_leader =
            |gone: &Escaped| leader.is_some_and(|leader| gone.session == leader.as_raw_nonzero().get());
        let mut escaped = orphans::escaped(&self.own, &mut self.spared, cgroups);
        if self.inherited.strangers {
            escaped.retain(of_leader);
        }
        if spare {
            self.spared.extend(escaped.iter().map(|gone| gone.pid));
        } else if !escaped.is_empty() {
            orphans::end_escaped(&escaped);
            self.timers.arm(Alarm::EndStrays, self.now.after(STRAYS_EVERY));
        }
        u32::try_from(escaped.iter().filter(|gone| of_leader(gone)).count()).unwrap_or(u32::MAX)
    }

    /// Ends monitors that took too long; what they leave falls to us.
    pub(crate) fn end_overdue(&mut self) {
        let now = self.now;
        for (_, monitor) in self.overdue.extract_if(.., |(until, _)| *until <= now) {
            if !has_ended(monitor.pidfd.as_fd()) {
                signal(monitor.pidfd.as_fd(), Signal::KILL);
                self.timers.arm(Alarm::EndStrays, now.after(STRAYS_EVERY));
            }
        }
        if let Some((next, _)) = self.overdue.first() {
            self.timers.arm(Alarm::EndOverdue, *next);
        }
    }

    /// An attempt is over: into the journal, then to the server.
    pub(crate) fn record(&mut self, record: ExitRecord) {
        self.journal.record(&record);
        self.outbox.say(&ToServer::Exited(record.clone()));
        self.left.insert(record);
    }

    pub(crate) fn acknowledge(&mut self, key: AttemptKey) {
        if self.left.acknowledge(key).is_some() {
            self.journal.acknowledge(key);
        }
    }
}

/// Beyond this, notices of output are dropped: the next one says all that it said.
const ENOUGH: usize = 256 * 1024;

/// News for the server that serves. Without a server nothing is kept: a new one asks LIST.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) open: bool,
    pub(crate) news: Words,
    /// Bytes before these that its socket has not taken yet.
    pub(crate) backlog: usize,
}

impl Outbox {
    /// Bounded by what can be said at all: one start and one end an attempt, and answers.
    pub(crate) fn say(&mut self, message: &ToServer) {
        if self.open {
            self.news.say(message);
        }
    }

    /// With these descriptors.
    pub(crate) fn say_with(&mut self, message: &ToServer, fds: Vec<OwnedFd>) {
        if self.open {
            self.news.say_with(message, fds);
        }
    }

    pub(crate) fn mention(&mut self, notice: OutputNotice) {
        if self.backlog + self.news.len() < ENOUGH {
            self.say(&ToServer::Output(notice));
        }
    }

    /// For the next server.
    pub(crate) fn reset(&mut self, open: bool) {
        *self = Self { open, ..Self::default() };
    }
}

//! What server and keeper say to each other, and how it is written on their socket.
//!
//! A frame is `u32` length (little endian, of what follows), `u8` type, body. Bodies are
//! fields in a fixed order; a newer side may append fields, an older one skips what it
//! does not know and reads what is missing as its default: versions N and N-1 understand
//! each other. Descriptors travel beside a frame where its doc says so.

pub mod admin;
mod codec;
mod fields;
pub mod image;
pub mod journal;
#[cfg(test)]
mod tests;
mod values;

pub use codec::{BadFrame, Decoder, Message};

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use crate::id::AttemptKey;
use crate::launch::Launch;
use crate::outcome::CancelledBy;
use crate::record::{Containment, ExitRecord};
use crate::recovery::Claimant;

/// This side's protocol version, in HELLO and READY. Version 2 brought standby servers
/// (PREPARED, PROCEED, RETIRE), HELD, RENEW and PING; a version 1 side skips these frames.
pub const VERSION: u32 = 2;

/// The largest frame: argv and environment of 2 MiB, paths and an inline payload beside them.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

/// From the keeper to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToServer {
    /// The first frame. The listening sockets travel with it, in the order of `listeners`.
    Hello(Hello),
    /// The program runs.
    Started(Started),
    /// More of an attempt's output has reached its files: sent at most every 20 ms an attempt,
    /// and only once output has outgrown memory or is older than 100 ms.
    Output(OutputNotice),
    /// An attempt is over; its record stays in the journal until ACK.
    Exited(ExitRecord),
    /// Answers LIST: every attempt the keeper owns, running or over and not acknowledged;
    /// in several frames where one would be too long.
    Attempts {
        /// Running, or being started.
        running: Vec<Started>,
        /// Over.
        over: Vec<ExitRecord>,
        /// The answer goes on in the next frame of this type.
        more: bool,
    },
    /// The operator asked for an end: drain. A second one (`now`): end the jobs.
    Shutdown(Shutdown),
    /// To a standby that is PREPARED: the server before has released the store. Open it, say
    /// LIST, recover, serve, say READY.
    Proceed,
    /// Another server is PREPARED and takes over: accept and start nothing more, finish what
    /// changes the store, release it, say RETIRED; then answer what is open and end.
    Retire,
    /// Duplicates to hold, so that a keeper's death breaks no pipe and loses no exit code.
    /// Comes once for an attempt that has run for a while; after EXITED they are of no use.
    /// The descriptors travel with the frame, in the order of [`Held::descriptors`].
    Held(Held),
    /// Is anybody there? Answered by PONG.
    Ping,
    /// Open the log file anew: whoever rotates logs has moved it away.
    ReopenLog,
}

/// How the server is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Do not wait for jobs.
    pub now: bool,
    /// Wait for jobs at most this long; `None`: as the config says.
    pub timeout: Option<Duration>,
    /// Leave what runs to the keeper: say GOODBYE without waiting for it.
    pub keep_jobs: bool,
}

/// An attempt whose descriptors the server holds duplicates of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub key: AttemptKey,
    /// The read end of stdout's pipe is among them.
    pub stdout: bool,
    /// The read end of stderr's pipe is among them.
    pub stderr: bool,
    /// The folder of its cgroup: what is left in it can be ended without the keeper.
    pub cgroup: Bytes,
    /// Wall clock at the exec, Unix microseconds.
    pub started_us: i64,
    /// The launch's own note.
    pub cookie: Bytes,
}

impl Held {
    /// How many descriptors travel with the frame: the leader's pidfd, then the pipes.
    pub fn descriptors(&self) -> usize {
        1 + usize::from(self.stdout) + usize::from(self.stderr)
    }
}

/// From the server to the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToKeeper {
    /// The server answers HTTP.
    Ready {
        /// Its protocol version.
        version: u32,
    },
    /// Start an attempt. A key the keeper knows already is ignored: it is never run twice.
    Spawn(Box<Launch>),
    /// End an attempt: TERM to the tree, KILL after its grace. Unknown or over: ignored.
    Stop {
        /// Which.
        key: AttemptKey,
        /// For whom; kept in the record.
        by: CancelledBy,
        /// KILL at once.
        now: bool,
    },
    /// The record of this attempt is committed: drop it.
    Ack {
        /// Which.
        key: AttemptKey,
    },
    /// What do you own?
    List,
    /// The server has drained: end with this exit status once nothing runs.
    Goodbye {
        /// The exit status of `procession serve`.
        status: u8,
    },
    /// A standby can take over: its config and the store's schema are good. It has changed
    /// nothing yet.
    Prepared,
    /// A standby cannot take over, and is about to exit; the server before stays.
    Refused {
        /// Why, for people; several lines.
        message: String,
    },
    /// The store is released: the next server may open it.
    Retired,
    /// Answers PING.
    Pong,
    /// Execute your program anew, keeping all you own: said by the first server of a new
    /// version once it serves.
    Renew,
    /// What a keeper before left without an end is recorded as lost: from here on rows that the
    /// keeper does not know were claimed by its own servers. None is claimed before.
    Settled,
}

/// What a new server learns first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The keeper's protocol version.
    pub version: u32,
    /// Which server this is, from 1; frames of another generation are never read.
    pub generation: u64,
    /// The kernel's boot id: running rows of another boot are lost.
    pub boot_id: [u8; 16],
    /// The keeper's process id.
    pub keeper_pid: u32,
    /// How trees are held together on this machine.
    pub containment: Containment,
    /// What each listening socket is, as the config names it: `127.0.0.1:8080`, `unix:/path`.
    pub listeners: Vec<Bytes>,
    /// Descriptors that travel behind the listeners and are only to be kept open: the lock of
    /// the data directory, which then lasts as long as keeper or server.
    pub held: u32,
    /// Another server serves: check all that can be checked, say PREPARED or REFUSED, and
    /// touch nothing before PROCEED.
    pub standby: bool,
    /// This server is the first of a new binary: say RENEW once READY.
    pub renew: bool,
    /// The operator agrees that unfinished jobs of tasks that left the config are cancelled.
    pub force: bool,
    /// The folder of the attempts' cgroups; empty where there is none.
    pub cgroups: Bytes,
    /// A server of this keeper has said SETTLED.
    pub settled: bool,
    /// A service manager watches the keeper: it starts the service again.
    pub managed: bool,
}

impl Hello {
    /// [`Hello::listeners`] as text.
    pub fn listener_names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.listeners.iter().map(|name| String::from_utf8_lossy(name))
    }

    /// By whom an attempt was claimed under `boot_id`, as far as the keeper can tell.
    pub fn claimant(&self, boot_id: [u8; 16]) -> Claimant {
        let settled = if self.version == 1 { self.generation > 1 } else { self.settled };
        match (boot_id == self.boot_id, settled) {
            (false, _) => Claimant::BootBefore,
            (true, false) => Claimant::KeeperBefore,
            (true, true) => Claimant::OurKeepers,
        }
    }
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Which.
    pub key: AttemptKey,
    /// The leader's process id; 0 while it is being started.
    pub pid: u32,
    /// The leader's start time in clock ticks since boot: with the pid and the boot id it
    /// names one process for good.
    pub start_ticks: u64,
    /// Wall clock at the exec, Unix microseconds.
    pub started_us: i64,
    /// How its tree is held together.
    pub containment: Containment,
    /// The launch's own note.
    pub cookie: Bytes,
}

/// How far an attempt's output has come; both counts are of bytes written by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputNotice {
    /// Whose.
    pub key: AttemptKey,
    /// Bytes of stdout (of both, where merged) that readers of its file will find.
    pub stdout: u64,
    /// Bytes of stderr.
    pub stderr: u64,
}

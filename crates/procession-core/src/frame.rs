//! What server and keeper say to each other, and how it is written on their socket.
//!
//! A frame is `u32` length (little endian, of what follows), `u8` type, body. Bodies are
//! fields in a fixed order; a newer side may append fields, an older one skips what it
//! does not know and reads what is missing as its default: versions N and N-1 understand
//! each other. Descriptors travel beside a frame where its doc says so.

mod codec;
mod fields;
pub mod journal;
#[cfg(test)]
mod tests;
mod values;

pub use codec::{BadFrame, Decoder, Message};

use bytes::Bytes;

use crate::id::AttemptKey;
use crate::launch::Launch;
use crate::outcome::CancelledBy;
use crate::record::{Containment, ExitRecord};

/// This side's protocol version, in HELLO and READY.
pub const VERSION: u32 = 1;

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
    Shutdown {
        /// Do not wait for jobs.
        now: bool,
    },
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

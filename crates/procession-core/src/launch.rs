//! One attempt made ready to run: what the server hands to the keeper. Everything
//! is resolved; the keeper looks nothing up and decides nothing about a task.

use std::time::Duration;

use bytes::Bytes;

use crate::id::AttemptKey;

/// What to run and how to bound it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// What both sides call it by.
    pub key: AttemptKey,
    /// Absolute path of the program: never looked up in a `PATH` of the job's.
    pub program: Bytes,
    /// `argv`, the name the program sees first. No element holds a NUL.
    pub argv: Vec<Bytes>,
    /// `KEY=value`, the whole environment. No element holds a NUL.
    pub env: Vec<Bytes>,
    /// Absolute working directory.
    pub directory: Bytes,
    /// What the program reads.
    pub stdin: Stdin,
    /// Where its output goes.
    pub output: OutputPlan,
    /// Ends the attempt this long after its start; `None`: never.
    pub timeout: Option<Duration>,
    /// Between asking (TERM) and ending (KILL).
    pub grace: Duration,
    /// Leaves what the leader left running alone.
    pub leave_children: bool,
    /// The user to become; `None`: stay as the keeper is.
    pub credentials: Option<Credentials>,
    /// Resource limits set before exec, beside the keeper's own (no core dumps).
    pub rlimits: Vec<ResourceLimit>,
    /// The server's own note, given back unread with every message about the attempt.
    pub cookie: Bytes,
}

/// What the program finds on descriptor 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// A pipe that holds these bytes and ends: at most [`crate::limits::INLINE_PAYLOAD`].
    Bytes(Bytes),
    /// The file at this absolute path, opened read-only.
    File(Bytes),
}

/// Where output goes and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPlan {
    /// How the two streams are caught.
    pub mode: OutputMode,
    /// Bytes kept of each stream; beyond it the middle is dropped (see [`crate::output`]).
    pub limit: u64,
    /// Absolute path of stdout's file, made only when output outgrows memory. Its folder
    /// is made with it.
    pub stdout: Bytes,
    /// The same for stderr; unused when merged.
    pub stderr: Bytes,
}

/// How the two streams are caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// A pipe each.
    #[default]
    Separate,
    /// One pipe for both: their order is exact, all of it is stdout.
    Merged,
    /// Straight to the files: for heavy writers; the limit is not enforced.
    File,
}

/// A user to become, in the order groups, gid, uid; verified afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, replacing all inherited ones.
    pub groups: Vec<u32>,
}

/// One `setrlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// `RLIMIT_*` as the kernel numbers it.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

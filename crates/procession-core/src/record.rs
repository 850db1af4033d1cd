//! What the keeper knows of an attempt that is over: written to its journal, sent to
//! the server as EXITED, turned into an [`crate::outcome::Outcome`] there.
//!
//! The journal has to outlive processes, not power: records are not fsynced, and a torn
//! one is seen by its checksum.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::AttemptKey;
use crate::outcome::CancelledBy;

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Whose.
    pub key: AttemptKey,
    /// How.
    pub ending: Ending,
    /// Wall clock at the start (the exec, or the failure to), Unix microseconds.
    pub started_us: i64,
    /// Wall clock at the leader's end, Unix microseconds.
    pub finished_us: i64,
    /// Between the two on a clock that nobody sets, microseconds.
    pub run_us: u64,
    /// What it used; of the leader and the descendants it waited for.
    pub usage: Usage,
    /// Processes found alive beside the leader when it ended.
    pub leaked: u32,
    /// Standard output; everything, where both streams were merged.
    pub stdout: StreamRecord,
    /// Standard error.
    pub stderr: StreamRecord,
    /// How the process tree was held together.
    pub containment: Containment,
    /// The launch's own note.
    pub cookie: Bytes,
}

/// How an attempt ended, as far as the keeper saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program never ran.
    NotStarted {
        /// The step that failed.
        phase: Phase,
        /// The kernel's error number.
        errno: i32,
        /// For people.
        message: String,
    },
    /// It ran and was reaped.
    Ended {
        /// The raw status of `wait4`.
        wait_status: i32,
        /// Set where the keeper asked it to stop before it ended by itself.
        stopped: Option<StopCause>,
    },
    /// Its monitor died before telling: something killed it (its own job, as the same user,
    /// can), or the keeper did because its job kept it stopped. An outcome has no name of
    /// its own for that: it is `lost` with the reason `keeper_died`.
    Vanished,
}

/// Why the keeper ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Its time was up.
    Deadline {
        /// The limit that passed.
        limit_ms: u64,
    },
    /// The server said so.
    Cancelled {
        /// For whom.
        by: CancelledBy,
    },
}

/// The steps between "start it" and the program's first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Pipes, files, stdin.
    Prepare = 1,
    /// The cgroup, made or joined.
    Cgroup = 2,
    /// clone3 or fork.
    Fork = 3,
    /// The child's own session.
    Session = 4,
    /// Descriptors 0 to 2.
    Stdio = 5,
    /// The working directory.
    Directory = 6,
    /// Resource limits, priority.
    Limits = 7,
    /// Groups, gid, uid.
    Credentials = 8,
    /// execve.
    Exec = 9,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Phase; 9] = [
        Phase::Prepare,
        Phase::Cgroup,
        Phase::Fork,
        Phase::Session,
        Phase::Stdio,
        Phase::Directory,
        Phase::Limits,
        Phase::Credentials,
        Phase::Exec,
    ];

    /// As an outcome shows it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Cgroup => "cgroup",
            Phase::Fork => "fork",
            Phase::Session => "session",
            Phase::Stdio => "stdio",
            Phase::Directory => "directory",
            Phase::Limits => "limits",
            Phase::Credentials => "credentials",
            Phase::Exec => "exec",
        }
    }

    /// The phase with this number.
    pub fn from_number(number: u8) -> Option<Phase> {
        Self::ALL.into_iter().find(|phase| *phase as u8 == number)
    }
}

/// What an attempt used, from `wait4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in the program, microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, microseconds.
    pub system_us: u64,
    /// Largest resident set, bytes.
    pub max_rss_bytes: u64,
}

/// One output stream at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRecord {
    /// Bytes the attempt wrote.
    pub total: u64,
    /// Bytes taken before writing to the file failed (a full disk): `total` where it never
    /// did. What came after was counted and dropped; what the limit dropped of these is
    /// [`crate::output::Layout::dropped`] of this number.
    pub written: u64,
    /// Where the kept bytes are.
    pub place: OutputPlace,
    /// The last bytes, at most [`crate::limits::INLINE_OUTPUT`]: the whole stream where
    /// `place` is `Inline`.
    pub tail: Bytes,
}

/// Where a stream's bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputPlace {
    /// All of them travel in the record: no file was made.
    #[default]
    Inline,
    /// In the file of the launch's output plan.
    File,
}

/// How a process tree is held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// A cgroup of its own: complete.
    Cgroup,
    /// A monitor process that is the tree's subreaper.
    Monitor,
}

impl Containment {
    /// As the job shows it.
    pub fn name(self) -> &'static str {
        match self {
            Containment::Cgroup => "cgroup",
            Containment::Monitor => "monitor",
        }
    }
}

impl ExitRecord {
    /// An attempt that exited with 0 and wrote nothing.
    pub fn for_testing() -> Self {
        use crate::id::{Fence, JobId};
        Self {
            key: AttemptKey { job: JobId::new(0, [0; 10]), fence: Fence(1) },
            ending: Ending::Ended { wait_status: 0, stopped: None },
            started_us: 0,
            finished_us: 0,
            run_us: 0,
            usage: Usage::default(),
            leaked: 0,
            stdout: StreamRecord::default(),
            stderr: StreamRecord::default(),
            containment: Containment::Cgroup,
            cookie: Bytes::new(),
        }
    }
}

//! How much of something is allowed.

use serde::{Deserialize, Serialize};

/// A count that may be unbounded; never a sentinel number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// No limit of its own.
    #[default]
    Unlimited,
    /// At most this many.
    AtMost(u64),
}

impl Limit {
    /// How many more fit beside `used`.
    pub fn room(self, used: u64) -> u64 {
        match self {
            Limit::Unlimited => u64::MAX,
            Limit::AtMost(most) => most.saturating_sub(used),
        }
    }

    /// The number, where there is one: what JSON shows (`null` for unlimited).
    pub fn number(self) -> Option<u64> {
        match self {
            Limit::Unlimited => None,
            Limit::AtMost(most) => Some(most),
        }
    }
}

/// What bounds a task before its attempts start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLimits {
    /// Attempts of the task at once, across nodes; of a task that fans out, families.
    pub max_running: Limit,
    /// Of these, in one lane.
    pub per_lane: Limit,
    /// Jobs that may wait; 0 refuses when all slots are taken.
    pub max_queued: u64,
}

/// The most the kernel takes for one argv or environment string, its NUL included
/// (`MAX_ARG_STRLEN`, 32 pages).
pub const MAX_ARGUMENT: usize = 128 * 1024;

/// The most the kernel takes for argv and environment together: strings, NULs and
/// pointers (a quarter of the 8 MiB stack limit).
pub const MAX_ARGUMENTS: usize = 2 * 1024 * 1024;

/// A body up to this size is kept in the store and fits a fresh pipe whole; a larger
/// one is a file.
pub const INLINE_PAYLOAD: usize = 64 * 1024;

/// Output up to this size stays in the keeper's memory, travels in the exit record
/// and makes no file; it is also the tail kept with a finished job.
pub const INLINE_OUTPUT: usize = 16 * 1024;

/// A result up to this size is kept in the store.
pub const INLINE_RESULT: usize = 64 * 1024;

/// The longest name of a lane, in bytes.
pub const MAX_LANE: usize = 200;

/// The longest value of `unique`, in bytes: each stands in an index.
pub const MAX_UNIQUE: usize = 1_000;

/// The deepest JSON nesting accepted from a client.
pub const MAX_JSON_DEPTH: usize = 64;

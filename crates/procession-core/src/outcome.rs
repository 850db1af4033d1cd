//! How an attempt ended: exactly what the kernel said, never invented, never flattened.

use serde::{Deserialize, Serialize};

use crate::record::{Ending, ExitRecord, StopCause};
use crate::state::JobState;

/// The end of one attempt, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The program called `exit`.
    Exited {
        /// 0-255.
        code: u8,
    },
    /// A signal ended the program, and none of ours.
    Signaled {
        /// The signal's number.
        signal: u8,
        /// Its name, `SIGKILL`.
        name: String,
        /// Whether a core was dumped.
        core: bool,
    },
    /// The kernel ended it for want of memory.
    OomKilled,
    /// The program never ran.
    SpawnFailed {
        /// The error's name, `ENOENT`.
        errno: String,
        /// The step that failed: `exec`, `directory`, `cgroup`, …
        phase: String,
        /// For people.
        message: String,
    },
    /// A family's parent with failed children.
    ChildrenFailed {
        /// How many did not succeed.
        failed: u64,
    },
    /// Exit 0 without the result the task requires.
    ResultMissing,
    /// The result is not what `result_schema` demands, or too large.
    BadResult {
        /// What is wrong with it.
        message: String,
    },
    /// It ran longer than its `timeout`.
    TimedOut {
        /// The limit.
        limit_ms: u64,
        /// What it exited with after being asked to stop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u8>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<u8>,
    },
    /// It was ended, or never started, because somebody said so.
    Cancelled {
        /// Who.
        by: CancelledBy,
        /// What it exited with after being asked to stop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u8>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<u8>,
    },
    /// What became of it cannot be known.
    Lost {
        /// Why.
        reason: LostReason,
    },
}

/// Who ended a cancelled job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelledBy {
    /// A request.
    Client,
    /// Its parent job ended.
    Parent,
    /// A newer job took its place.
    Replaced,
    /// It waited longer than `queue_timeout`.
    Expired,
    /// The server stopped.
    Shutdown,
    /// Its task left the config.
    TaskRemoved,
}

/// Why an attempt's end is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// The machine was restarted.
    Reboot,
    /// The process that owned it died.
    KeeperDied,
    /// Its node went away.
    NodeLost,
    /// It was lost too often.
    Quarantined,
    /// The store was damaged, and what was saved of it does not say.
    StoreDamaged,
}

impl Outcome {
    /// The kinds, as the wire names them.
    pub const KINDS: [&'static str; 10] = [
        "exited",
        "signaled",
        "oom_killed",
        "spawn_failed",
        "children_failed",
        "result_missing",
        "bad_result",
        "timed_out",
        "cancelled",
        "lost",
    ];

    /// Which kind it is, as the wire names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Exited { .. } => "exited",
            Outcome::Signaled { .. } => "signaled",
            Outcome::OomKilled => "oom_killed",
            Outcome::SpawnFailed { .. } => "spawn_failed",
            Outcome::ChildrenFailed { .. } => "children_failed",
            Outcome::ResultMissing => "result_missing",
            Outcome::BadResult { .. } => "bad_result",
            Outcome::TimedOut { .. } => "timed_out",
            Outcome::Cancelled { .. } => "cancelled",
            Outcome::Lost { .. } => "lost",
        }
    }

    /// What the record of an attempt's end means.
    pub fn of(record: &ExitRecord) -> Outcome {
        match &record.ending {
            Ending::NotStarted { phase, errno, message } => Outcome::SpawnFailed {
                errno: errno_name(*errno),
                phase: phase.name().into(),
                message: message.clone(),
            },
            Ending::Vanished => Outcome::Lost { reason: LostReason::KeeperDied },
            Ending::Ended { wait_status, stopped } => of_status(WaitStatus(*wait_status), *stopped),
        }
    }

    /// The state a job with this outcome ends in.
    pub fn state(&self) -> JobState {
        match self {
            Outcome::Exited { code: 0 } => JobState::Succeeded,
            Outcome::Exited { .. }
            | Outcome::Signaled { .. }
            | Outcome::OomKilled
            | Outcome::SpawnFailed { .. }
            | Outcome::ChildrenFailed { .. }
            | Outcome::ResultMissing
            | Outcome::BadResult { .. } => JobState::Failed,
            Outcome::TimedOut { .. } => JobState::TimedOut,
            Outcome::Cancelled { .. } => JobState::Cancelled,
            Outcome::Lost { .. } => JobState::Lost,
        }
    }

    /// The exit code, where the program exited; never made up from a signal.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Outcome::Exited { code } => Some(*code),
            Outcome::TimedOut { code, .. } | Outcome::Cancelled { code, .. } => *code,
            // These two replace an exit with 0 whose result was not good.
            Outcome::ResultMissing | Outcome::BadResult { .. } => Some(0),
            _ => None,
        }
    }

    /// The signal, where one ended the program.
    pub fn signal(&self) -> Option<u8> {
        match self {
            Outcome::Signaled { signal, .. } => Some(*signal),
            Outcome::TimedOut { signal, .. } | Outcome::Cancelled { signal, .. } => *signal,
            _ => None,
        }
    }

    /// A cancellation before any attempt ran.
    pub fn cancelled(by: CancelledBy) -> Outcome {
        Outcome::Cancelled { by, code: None, signal: None }
    }
}

fn of_status(status: WaitStatus, stopped: Option<StopCause>) -> Outcome {
    let (code, signal) = (status.code(), status.signal());
    match (stopped, code, signal) {
        (Some(StopCause::Deadline { limit_ms }), ..) => Outcome::TimedOut { limit_ms, code, signal },
        (Some(StopCause::Cancelled { by }), ..) => Outcome::Cancelled { by, code, signal },
        (None, Some(code), _) => Outcome::Exited { code },
        (None, None, Some(signal)) => {
            Outcome::Signaled { signal, name: signal_name(signal), core: status.core() }
        }
        // Neither exited nor signalled is not an end; wait4 without WUNTRACED never says it.
        (None, None, None) => Outcome::Lost { reason: LostReason::KeeperDied },
    }
}

/// The raw status of `wait4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// The exit code, if the process exited.
    pub fn code(self) -> Option<u8> {
        (self.0 & 0x7f == 0).then_some(((self.0 >> 8) & 0xff) as u8)
    }

    /// The signal, if one ended the process.
    pub fn signal(self) -> Option<u8> {
        let low = self.0 & 0x7f;
        (low != 0 && low != 0x7f).then_some(low as u8)
    }

    /// Whether it dumped core.
    pub fn core(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// `SIGKILL` for 9; `SIG40` for those without a name.
pub fn signal_name(signal: u8) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match NAMES.get(usize::from(signal).wrapping_sub(1)) {
        Some(name) => format!("SIG{name}"),
        None => format!("SIG{signal}"),
    }
}

/// `ENOENT` for 2; `E123` for those a spawn does not meet.
pub fn errno_name(errno: i32) -> String {
    const NAMES: [(i32, &str); 24] = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (4, "EINTR"),
        (5, "EIO"),
        (7, "E2BIG"),
        (8, "ENOEXEC"),
        (9, "EBADF"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (20, "ENOTDIR"),
        (21, "EISDIR"),
        (22, "EINVAL"),
        (23, "ENFILE"),
        (24, "EMFILE"),
        (26, "ETXTBSY"),
        (28, "ENOSPC"),
        (36, "ENAMETOOLONG"),
        (40, "ELOOP"),
        (80, "ELIBBAD"),
        (110, "ETIMEDOUT"),
    ];
    NAMES.iter().find(|(n, _)| *n == errno).map_or_else(|| format!("E{errno}"), |(_, name)| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_signal_is_kept_apart() {
        for code in 0..=255u8 {
            assert_eq!(of_status(WaitStatus(i32::from(code) << 8), None), Outcome::Exited { code });
        }
        for signal in 1..=31u8 {
            let outcome = of_status(WaitStatus(i32::from(signal) | 0x80), None);
            let name = signal_name(signal);
            assert_eq!(outcome, Outcome::Signaled { signal, name, core: true });
            assert_eq!((outcome.exit_code(), outcome.signal()), (None, Some(signal)));
        }
        assert_eq!(of_status(WaitStatus(137 << 8), None).exit_code(), Some(137));
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(31), "SIGSYS");
    }

    #[test]
    fn the_wire_form_is_the_contracts() {
        let json = |o: &Outcome| serde_json::to_string(o).expect("plain data");
        assert_eq!(json(&Outcome::Exited { code: 3 }), r#"{"kind":"exited","code":3}"#);
        let timed_out = of_status(WaitStatus(9), Some(StopCause::Deadline { limit_ms: 10 }));
        assert_eq!(json(&timed_out), r#"{"kind":"timed_out","limit_ms":10,"signal":9}"#);
        assert_eq!(
            json(&Outcome::cancelled(CancelledBy::TaskRemoved)),
            r#"{"kind":"cancelled","by":"task_removed"}"#
        );
    }
}

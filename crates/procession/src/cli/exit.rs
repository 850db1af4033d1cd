//! What this process exits with: as the job did where a verb waits for one, else 0 or 1.
//!
//! The only place where an outcome becomes a number that means less than it did; the JSON
//! keeps them apart. `docs/cli.md` has the table.

use std::process::ExitCode;

use procession_core::api::Job;
use procession_core::outcome::Outcome;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit(pub(super) u8);

impl Exit {
    pub(super) const OK: Exit = Exit(0);
    /// The server said no, or there is none.
    pub(super) const REFUSED: Exit = Exit(1);
    /// Of `status`: nothing runs; as init scripts say it.
    pub(super) const NOT_RUNNING: Exit = Exit(3);
    /// Of `status`: something runs, and does not serve.
    pub(super) const NOT_READY: Exit = Exit(4);
    /// The job timed out, or the wait for it did; as `timeout(1)` says it.
    pub(super) const TIMED_OUT: Exit = Exit(124);
    /// No fault of the job's; as `docker run` says it.
    pub(super) const PROCESSION_FAILED: Exit = Exit(125);
    const CANNOT_RUN: Exit = Exit(126);
    const NOT_FOUND: Exit = Exit(127);
    /// As after Ctrl-C.
    pub(super) const INTERRUPTED: Exit = Exit(130);

    /// As the job ended: its own code, 128 + n for a signal, and a shell's codes else.
    pub(super) fn of(job: &Job) -> Exit {
        match &job.outcome {
            Some(Outcome::Exited { code }) => Exit(*code),
            Some(Outcome::Signaled { signal, .. }) => Exit(128 + (signal & 0x7f)),
            Some(Outcome::OomKilled) => Exit(128 + 9),
            Some(Outcome::SpawnFailed { errno, phase, .. }) => of_spawn(phase, errno),
            Some(Outcome::ChildrenFailed { .. } | Outcome::ResultMissing | Outcome::BadResult { .. }) => {
                Exit(1)
            }
            Some(Outcome::TimedOut { .. }) => Exit::TIMED_OUT,
            Some(Outcome::Cancelled { .. }) => Exit::INTERRUPTED,
            Some(Outcome::Lost { .. }) | None => Exit::PROCESSION_FAILED,
        }
    }

    /// The first that is not 0.
    pub(super) fn or(self, later: Exit) -> Exit {
        if self == Exit::OK { later } else { self }
    }
}

/// Only the program itself can be missing or not executable; a missing working
/// directory is `ENOENT` too, and no fault of the program's.
fn of_spawn(phase: &str, errno: &str) -> Exit {
    match (phase, errno) {
        ("exec", "ENOENT") => Exit::NOT_FOUND,
        ("exec", _) => Exit::CANNOT_RUN,
        _ => Exit::PROCESSION_FAILED,
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use procession_core::outcome::{CancelledBy, LostReason};

    use super::*;
    use crate::cli::job;

    #[test]
    fn every_outcome_has_its_code() {
        let spawn = |phase: &str, errno: &str| Outcome::SpawnFailed {
            errno: errno.into(),
            phase: phase.into(),
            message: String::new(),
        };
        let signaled = |signal| Outcome::Signaled { signal, name: String::new(), core: false };
        let table = [
            (Outcome::Exited { code: 0 }, 0),
            (Outcome::Exited { code: 3 }, 3),
            (Outcome::Exited { code: 255 }, 255),
            (signaled(9), 137),
            (signaled(15), 143),
            (Outcome::OomKilled, 137),
            (spawn("exec", "ENOENT"), 127),
            (spawn("exec", "EACCES"), 126),
            (spawn("directory", "ENOENT"), 125),
            (Outcome::ChildrenFailed { failed: 2 }, 1),
            (Outcome::ResultMissing, 1),
            (Outcome::BadResult { message: String::new() }, 1),
            (Outcome::TimedOut { limit_ms: 1, code: None, signal: Some(9) }, 124),
            (Outcome::cancelled(CancelledBy::Client), 130),
            (Outcome::Lost { reason: LostReason::Reboot }, 125),
        ];
        for (outcome, code) in table {
            let job = job::ended(outcome.clone());
            assert_eq!(Exit::of(&job), Exit(code), "{outcome:?}");
        }
    }

    #[test]
    fn the_first_failure_counts() {
        assert_eq!(Exit::OK.or(Exit(3)).or(Exit(4)), Exit(3));
    }
}

//! What becomes of a job when an attempt is over: it ends, or it waits because the
//! attempt never began.

use std::time::Duration;

use crate::outcome::Outcome;
use crate::record::{Ending, ExitRecord, Phase};

/// The next thing for the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Finish(Outcome),
    /// The machine had no process or descriptor to give: nothing of the job ran, nothing
    /// is consumed, and it waits this long before it asks again.
    Defer(Duration),
}

/// `EAGAIN`, `ENOMEM`, `ENFILE`, `EMFILE`.
const PRESSURE: [i32; 4] = [11, 12, 23, 24];

/// Whether this error number says that the machine was short of something that comes back by
/// itself: its pressure, not the job's fault.
pub fn is_pressure(errno: i32) -> bool {
    PRESSURE.contains(&errno)
}

/// Decides from the record of an attempt that is over. `deferred` is how often in a row
/// this job was deferred before; `salt` spreads the waits of many jobs (any number).
pub fn next(record: &ExitRecord, deferred: u32, salt: u64) -> Next {
    match &record.ending {
        Ending::NotStarted { phase, errno, .. } if is_ours(*phase) && is_pressure(*errno) => {
            Next::Defer(backoff(deferred, salt))
        }
        _ => Next::Finish(Outcome::of(record)),
    }
}

/// Only in the steps that are the keeper's: later ones fail by what the task asks for, and
/// would again.
fn is_ours(phase: Phase) -> bool {
    matches!(phase, Phase::Prepare | Phase::Cgroup | Phase::Fork)
}

/// Between half of and all of `100 ms * 2^deferred`, at most 5 s.
fn backoff(deferred: u32, salt: u64) -> Duration {
    let full = 100u64.saturating_mul(1 << deferred.min(10)).min(5_000);
    Duration::from_millis(full / 2 + salt % (full / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ExitRecord;

    fn not_started(phase: Phase, errno: i32) -> ExitRecord {
        let ending = Ending::NotStarted { phase, errno, message: String::new() };
        ExitRecord { ending, ..ExitRecord::for_testing() }
    }

    #[test]
    fn p03_pressure_consumes_nothing_and_backs_off() {
        for errno in PRESSURE {
            for phase in [Phase::Prepare, Phase::Cgroup, Phase::Fork] {
                let next = next(&not_started(phase, errno), 0, 7);
                assert!(matches!(next, Next::Defer(_)), "{phase:?} {errno}");
            }
        }
        for deferred in 0..40 {
            for salt in [0, 1, 49, u64::MAX] {
                let wait = backoff(deferred, salt);
                assert!(wait >= Duration::from_millis(50) && wait < Duration::from_secs(5), "{wait:?}");
            }
        }
    }

    #[test]
    fn the_jobs_own_fault_is_final() {
        for (phase, errno) in [
            (Phase::Exec, 2),
            (Phase::Exec, 12),
            (Phase::Directory, 2),
            (Phase::Fork, 1),
            (Phase::Cgroup, 13),
        ] {
            assert!(matches!(next(&not_started(phase, errno), 0, 0), Next::Finish(_)), "{phase:?} {errno}");
        }
    }
}

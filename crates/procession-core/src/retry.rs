//! What becomes of a job when an attempt is over: it ends, another attempt follows, or it waits
//! because the attempt never began.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::outcome::{LostReason, Outcome};
use crate::record::{Ending, ExitRecord, Phase};
use crate::state::JobState;

/// When another attempt follows: `retry = { max_attempts = 3, on = ["exit:75"] }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// In all, the first among them.
    pub max_attempts: u32,
    /// After these ends; success is none of them.
    pub on: Vec<Condition>,
    /// The longest pause before the second attempt; it doubles with each.
    pub backoff: Duration,
    /// Pauses grow no longer.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    /// One attempt: a program that does not say so cannot be run twice without harm.
    fn default() -> Self {
        Self {
            max_attempts: 1,
            on: Vec::new(),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
        }
    }
}

/// What a job has behind it before an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Attempts that count: what was lost is our failure, not the program's.
    pub counted: u32,
    /// How many in a row, up to the last, were lost.
    pub lost: u32,
}

/// So many attempts of a job lost in a row are enough.
const LOST_MOST: u32 = 3;

impl History {
    /// With one more attempt that ended so.
    pub fn and(self, outcome: &Outcome) -> Self {
        match outcome.state() {
            JobState::Lost => Self { lost: self.lost + 1, ..self },
            _ => Self { counted: self.counted + 1, lost: 0 },
        }
    }

    /// Of the attempts with these outcomes.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        outcomes.into_iter().fold(Self::default(), Self::and)
    }
}

/// The next thing for the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Finish(Outcome),
    /// The attempt is over; another follows after this long.
    Retry(Outcome, Duration),
}

/// `EAGAIN`, `ENOMEM`, `ENFILE`, `EMFILE`.
const PRESSURE: [i32; 4] = [11, 12, 23, 24];

/// Whether this error number says that the machine was short of something that comes back by
/// itself: its pressure, not the job's fault.
pub fn is_pressure(errno: i32) -> bool {
    PRESSURE.contains(&errno)
}

/// How long a job waits whose attempt never began because the machine had no process or descriptor
/// to give: nothing of it ran, nothing is consumed. `None`: the attempt is over. `deferred` is how
/// often in a row this job was deferred before; `salt` spreads the waits of many jobs (any number).
pub fn deferral(record: &ExitRecord, deferred: u32, salt: u64) -> Option<Duration> {
    match &record.ending {
        Ending::NotStarted { phase, errno, .. } if is_ours(*phase) && is_pressure(*errno) => {
            // Between half of and all of 100 ms * 2^deferred, at most 5 s.
            let full = 100u64.saturating_mul(1 << deferred.min(10)).min(5_000);
            Some(Duration::from_millis(full / 2 + salt % (full / 2)))
        }
        _ => None,
    }
}

/// Only in the steps that are the keeper's: later ones fail by what the task asks for, and
/// would again.
fn is_ours(phase: Phase) -> bool {
    matches!(phase, Phase::Prepare | Phase::Cgroup | Phase::Fork)
}

/// Decides by the outcome of an attempt that is over. `before` is what the job had behind it when
/// the attempt began, `salt` any number.
pub fn next(outcome: Outcome, policy: &RetryPolicy, before: History, salt: u64) -> Next {
    let success = outcome.state() == JobState::Succeeded;
    if success || !policy.on.iter().any(|condition| condition.matches(&outcome)) {
        return Next::Finish(outcome);
    }
    let now = before.and(&outcome);
    if now.lost >= LOST_MOST {
        return Next::Finish(Outcome::Lost { reason: LostReason::Quarantined });
    }
    if now.counted >= policy.max_attempts {
        return Next::Finish(outcome);
    }
    let pause = jitter(policy, (now.counted + now.lost).saturating_sub(1), salt);
    Next::Retry(outcome, pause)
}

/// Anything from nothing to `backoff * 2^n`, at most `max_backoff`: many that failed together do
/// not come again together.
fn jitter(policy: &RetryPolicy, n: u32, salt: u64) -> Duration {
    let full = policy.backoff.saturating_mul(1 << n.min(20)).min(policy.max_backoff);
    let micros = u64::try_from(full.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(salt % micros.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::CancelledBy;
    use crate::record::ExitRecord;

    fn not_started(phase: Phase, errno: i32) -> ExitRecord {
        let ending = Ending::NotStarted { phase, errno, message: String::new() };
        ExitRecord { ending, ..ExitRecord::for_testing() }
    }

    fn policy(max_attempts: u32, on: &[&str]) -> RetryPolicy {
        let on = on.iter().map(|text| text.parse().expect("a condition")).collect();
        RetryPolicy { max_attempts, on, ..RetryPolicy::default() }
    }

    const LOST: Outcome = Outcome::Lost { reason: LostReason::KeeperDied };

    #[test]
    fn p03_pressure_consumes_nothing_and_backs_off() {
        for errno in PRESSURE {
            for phase in [Phase::Prepare, Phase::Cgroup, Phase::Fork] {
                assert!(deferral(&not_started(phase, errno), 0, 7).is_some(), "{phase:?} {errno}");
            }
        }
        for deferred in 0..40 {
            for salt in [0, 1, 49, u64::MAX] {
                let wait = deferral(&not_started(Phase::Fork, 11), deferred, salt).expect("pressure");
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
            assert_eq!(deferral(&not_started(phase, errno), 0, 0), None, "{phase:?} {errno}");
        }
    }

    #[test]
    fn one_attempt_is_all_unless_the_task_says_more() {
        for outcome in [Outcome::Exited { code: 1 }, LOST, Outcome::cancelled(CancelledBy::Shutdown)] {
            let next = next(outcome.clone(), &RetryPolicy::default(), History::default(), 0);
            assert_eq!(next, Next::Finish(outcome));
        }
    }

    #[test]
    fn attempts_follow_until_they_are_used_up() {
        let policy = policy(3, &["exit:75", "shutdown"]);
        let failed = Outcome::Exited { code: 75 };
        let mut history = History::default();
        for _ in 0..2 {
            assert!(matches!(next(failed.clone(), &policy, history, 3), Next::Retry(..)));
            history = history.and(&failed);
        }
        assert_eq!(next(failed.clone(), &policy, history, 3), Next::Finish(failed));
        let other = Outcome::Exited { code: 1 };
        assert_eq!(next(other.clone(), &policy, History::default(), 3), Next::Finish(other));
        let by_hand = Outcome::cancelled(CancelledBy::Client);
        assert_eq!(next(by_hand.clone(), &policy, History::default(), 3), Next::Finish(by_hand));
        let stop = Outcome::cancelled(CancelledBy::Shutdown);
        assert!(matches!(next(stop, &policy, History::default(), 3), Next::Retry(..)));
    }

    #[test]
    fn success_is_never_retried() {
        let policy = policy(9, &["finished", "exited", "exit:0"]);
        let done = Outcome::Exited { code: 0 };
        assert_eq!(next(done.clone(), &policy, History::default(), 0), Next::Finish(done));
    }

    #[test]
    fn what_was_lost_counts_for_nothing_until_it_is_quarantined() {
        let policy = policy(2, &["lost", "exit:1"]);
        let mut history = History::default();
        for _ in 0..2 {
            assert!(matches!(next(LOST, &policy, history, 0), Next::Retry(..)));
            history = history.and(&LOST);
        }
        let quarantined = Outcome::Lost { reason: LostReason::Quarantined };
        assert_eq!(next(LOST, &policy, history, 0), Next::Finish(quarantined));
        // One that ran to an end of its own between breaks the row, and both attempts are left.
        let failed = Outcome::Exited { code: 1 };
        assert!(matches!(next(failed.clone(), &policy, history, 0), Next::Retry(..)));
        assert_eq!(History::of([&LOST, &LOST, &failed, &LOST]), History { counted: 1, lost: 1 });
    }

    #[test]
    fn pauses_are_anything_up_to_the_bound_that_doubles() {
        let policy = policy(100, &["failed"]);
        for n in 0..40 {
            let bound = Duration::from_secs(1 << n.min(20)).min(Duration::from_secs(300));
            let longest =
                (0..2_000u64).map(|salt| jitter(&policy, n, salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let longest = longest.inspect(|pause| assert!(*pause <= bound)).max().expect("some");
            assert!(longest > bound / 2, "{n}: {longest:?}");
        }
        let none = RetryPolicy { backoff: Duration::ZERO, ..policy };
        assert_eq!(jitter(&none, 3, 7), Duration::ZERO);
    }
}

//! The only table of a job's legal moves. Whoever writes a state asks it; whoever
//! loads one passes through it, so a corrupt row is seen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its time, or for its next attempt.
    Scheduled,
    /// Waits for a slot.
    Queued,
    /// An attempt holds a slot.
    Running,
    /// A parent whose children run; holds no slot.
    Waiting,
    /// Over: exit 0, and the result if one is required.
    Succeeded,
    /// Over: anything else the program did itself.
    Failed,
    /// Over: its `timeout` passed.
    TimedOut,
    /// Over: somebody ended it.
    Cancelled,
    /// Over: what became of it cannot be known.
    Lost,
}

/// What may happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Its time has come.
    Promote,
    /// A slot was given to it.
    Claim,
    /// Its attempt provably never started: back to the queue, nothing consumed.
    Release,
    /// Its attempt never started for want of processes or memory: wait, then try again.
    Defer,
    /// Its attempt ended and another will follow.
    Retry,
    /// Its children run.
    Wait,
    /// Its children are done and the join needs a slot.
    Join,
    /// It is over.
    Finish(JobState),
}

/// The move does not exist: a bug, or a store changed by another hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {from} job cannot {what:?}")]
pub struct IllegalMove {
    /// The state it was in.
    pub from: JobState,
    /// What was tried.
    pub what: Move,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [JobState; 9] = [
        JobState::Scheduled,
        JobState::Queued,
        JobState::Running,
        JobState::Waiting,
        JobState::Succeeded,
        JobState::Failed,
        JobState::TimedOut,
        JobState::Cancelled,
        JobState::Lost,
    ];

    /// The state after `what`.
    pub fn after(self, what: Move) -> Result<JobState, IllegalMove> {
        use JobState::{Cancelled, Queued, Running, Scheduled, TimedOut, Waiting};
        match (self, what) {
            (Scheduled, Move::Promote) => Ok(Queued),
            (Queued, Move::Claim) => Ok(Running),
            (Running, Move::Release) => Ok(Queued),
            (Running, Move::Defer | Move::Retry) => Ok(Scheduled),
            (Queued, Move::Wait) => Ok(Waiting),
            (Waiting, Move::Join) => Ok(Queued),
            // What never ran can only be cancelled, or, a family whose join waits, be late; the rest
            // ends as its outcome says.
            (Scheduled | Queued, Move::Finish(end @ (Cancelled | TimedOut))) => Ok(end),
            (Running | Waiting, Move::Finish(end)) if end.is_final() => Ok(end),
            (from, what) => Err(IllegalMove { from, what }),
        }
    }

    /// Whether nothing more can happen to the job.
    pub fn is_final(self) -> bool {
        use JobState::{Cancelled, Failed, Lost, Succeeded, TimedOut};
        matches!(self, Succeeded | Failed | TimedOut | Cancelled | Lost)
    }

    /// As the wire and the store write it.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Scheduled => "scheduled",
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Waiting => "waiting",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::TimedOut => "timed_out",
            JobState::Cancelled => "cancelled",
            JobState::Lost => "lost",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a state: scheduled, queued, running, waiting, succeeded, failed, timed_out, cancelled or lost")]
pub struct BadState;

impl FromStr for JobState {
    type Err = BadState;

    fn from_str(text: &str) -> Result<Self, BadState> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or(BadState)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_move() {
        use JobState::*;
        let moves =
            [Move::Promote, Move::Claim, Move::Release, Move::Defer, Move::Retry, Move::Wait, Move::Join];
        let legal = [
            (Scheduled, Move::Promote, Queued),
            (Queued, Move::Claim, Running),
            (Running, Move::Release, Queued),
            (Running, Move::Defer, Scheduled),
            (Running, Move::Retry, Scheduled),
            (Queued, Move::Wait, Waiting),
            (Waiting, Move::Join, Queued),
        ];
        for from in JobState::ALL {
            for what in moves {
                let expected = legal.iter().find(|(f, w, _)| (*f, *w) == (from, what)).map(|(_, _, to)| *to);
                assert_eq!(from.after(what).ok(), expected, "{from} {what:?}");
            }
            for end in JobState::ALL {
                let allowed = end.is_final()
                    && (matches!(from, Running | Waiting)
                        || matches!(from, Scheduled | Queued) && matches!(end, Cancelled | TimedOut));
                assert_eq!(from.after(Move::Finish(end)).is_ok(), allowed, "{from} -> {end}");
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for state in JobState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).expect("a string"), state.name());
        }
    }
}

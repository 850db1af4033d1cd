//! Which ends of a job somebody asks about: `on = ["exit:75", "timed_out"]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::outcome::{CancelledBy, Outcome};
use crate::state::JobState;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Any end.
    Finished,
    /// Any end but success.
    Unsuccessful,
    /// In this final state.
    State(JobState),
    /// With an outcome of this kind, one of [`Outcome::KINDS`].
    Kind(&'static str),
    /// The program exited with this code.
    Exit(u8),
    /// It was ended because the server stopped.
    Shutdown,
}

/// The text names no end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no end is called `{0}`; there are finished, unsuccessful, succeeded, failed, timed_out, cancelled, lost, \
     shutdown, exit:N and the kinds of outcomes: exited, signaled, oom_killed, spawn_failed, children_failed, \
     result_missing, bad_result"
)]
pub struct BadCondition(String);

impl Condition {
    /// Whether a job that ended so is meant.
    pub fn matches(self, outcome: &Outcome) -> bool {
        match self {
            Condition::Finished => true,
            Condition::Unsuccessful => outcome.state() != JobState::Succeeded,
            Condition::State(state) => outcome.state() == state,
            Condition::Kind(kind) => outcome.kind() == kind,
            // Not of one that was asked to end, or whose result was no good.
            Condition::Exit(code) => *outcome == Outcome::Exited { code },
            Condition::Shutdown => matches!(outcome, Outcome::Cancelled { by: CancelledBy::Shutdown, .. }),
        }
    }
}

impl FromStr for Condition {
    type Err = BadCondition;

    fn from_str(text: &str) -> Result<Self, BadCondition> {
        let bad = || BadCondition(text.to_owned());
        if let Some(code) = text.strip_prefix("exit:") {
            return code.parse().map(Condition::Exit).map_err(|_| bad());
        }
        if let Some(state) = JobState::ALL.into_iter().find(|state| state.is_final() && state.name() == text)
        {
            return Ok(Condition::State(state));
        }
        match text {
            "finished" => Ok(Condition::Finished),
            "unsuccessful" => Ok(Condition::Unsuccessful),
            "shutdown" => Ok(Condition::Shutdown),
            _ => Outcome::KINDS.into_iter().find(|kind| *kind == text).map(Condition::Kind).ok_or_else(bad),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Finished => f.write_str("finished"),
            Condition::Unsuccessful => f.write_str("unsuccessful"),
            Condition::State(state) => state.fmt(f),
            Condition::Kind(kind) => f.write_str(kind),
            Condition::Exit(code) => write!(f, "exit:{code}"),
            Condition::Shutdown => f.write_str("shutdown"),
        }
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        let states = JobState::ALL.into_iter().filter(|state| state.is_final()).map(JobState::name);
        let more = ["finished", "unsuccessful", "shutdown", "exit:0", "exit:255"];
        for name in Outcome::KINDS.into_iter().chain(states).chain(more) {
            assert_eq!(name.parse::<Condition>().map(|c| c.to_string()), Ok(name.to_owned()));
        }
        for bad in ["", "exit", "exit:256", "exit:-1", "running", "queued", "Failed"] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_is_met_by_its_state_its_kind_and_its_code() {
        let met = |outcome: &Outcome| {
            let all = [
                "finished",
                "unsuccessful",
                "failed",
                "exited",
                "exit:75",
                "cancelled",
                "shutdown",
                "succeeded",
            ];
            let met = all
                .into_iter()
                .filter(|name| name.parse::<Condition>().expect("a condition").matches(outcome));
            met.collect::<Vec<_>>()
        };
        assert_eq!(
            met(&Outcome::Exited { code: 75 }),
            ["finished", "unsuccessful", "failed", "exited", "exit:75"]
        );
        assert_eq!(met(&Outcome::Exited { code: 0 }), ["finished", "exited", "succeeded"]);
        let ended = |by| Outcome::Cancelled { by, code: Some(75), signal: None };
        assert_eq!(met(&ended(CancelledBy::Client)), ["finished", "unsuccessful", "cancelled"]);
        assert_eq!(met(&ended(CancelledBy::Shutdown)), ["finished", "unsuccessful", "cancelled", "shutdown"]);
        assert_eq!(met(&Outcome::OomKilled), ["finished", "unsuccessful", "failed"]);
    }
}

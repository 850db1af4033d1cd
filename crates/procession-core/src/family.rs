//! One request, many processes: a parent job, its children, and the join that makes one result
//! of theirs.
//!
//! No family waits for ever for a slot that a family holds. A parent holds none while its children
//! run. What it does hold is a place under the limits of its own task, and that its children never
//! ask for: the tasks that fan out to each other form no ring ([`check`]), so the children of a
//! family always find a task below theirs, down to programs, which end by themselves. And its join
//! asks for a slot of the node alone, for the family already has its place. So whoever waits,
//! waits for somebody who needs nothing that waits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, TaskName};
use crate::job::ResultSummary;
use crate::limits::Limit;
use crate::outcome::{CancelledBy, Outcome};
use crate::state::JobState;

/// The most jobs below one request.
pub const MAX_CHILDREN: usize = 10_000;

/// The most bytes of payloads below one request: with `count` each child has the whole body.
pub const MAX_FAMILY_BYTES: usize = 64 << 20;

/// The most generations below one request.
pub const MAX_DEPTH: u32 = 8;

/// Whether children that were asked to end before are asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// They take their time.
    Once,
    /// Whoever asks may be in more of a hurry than who asked before.
    Again,
}

/// How a task divides a request: `fan_out = { task = "inspect-image", over = "/imageUrls" }`. The
/// join is the task's command; without one, the result is the list of the children's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanOut {
    /// What the children run.
    pub task: TaskName,
    /// How many there are.
    pub over: Over,
    /// Children of one parent at once.
    pub max_running: Limit,
    /// What a child that fails means for the others.
    pub on_failure: OnFailure,
    /// The join's end is the family's, also where children failed.
    pub join_decides: bool,
}

/// How many children a parent has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// One for each element of the array at this JSON pointer; the element is its payload.
    Pointer(String),
    /// So many; each has its parent's payload.
    Count(u32),
}

/// What a child that fails means for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They go on.
    #[default]
    Finish,
    /// They are ended, and nothing is joined.
    Stop,
}

/// How many children of a parent stand where.
pub type Counts = BTreeMap<JobState, u64>;

/// A child that is over, as a join sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildEnd {
    /// From 0.
    pub index: u32,
    /// Its id.
    pub id: JobId,
    /// Attempts begun: its result's file lies in the last one's folder.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it left.
    pub result: ResultSummary,
}

/// The end of a family whose children are over and of which `failed` failed: by the join's own
/// outcome, where there was a join.
pub fn outcome(failed: u64, join: Option<Outcome>, join_decides: bool) -> Outcome {
    let failure = (failed > 0).then_some(Outcome::ChildrenFailed { failed });
    match (join, failure) {
        // Whoever ended the join ended the family.
        (Some(join), Some(failure)) if !join_decides && ran_to_its_end(&join) => failure,
        (Some(join), _) => join,
        (None, Some(failure)) => failure,
        (None, None) => Outcome::Exited { code: 0 },
    }
}

/// The end of a family that no program joins. `bad_result`: why its children's results make none.
pub fn gathered(failed: u64, bad_result: Option<&str>) -> Outcome {
    match (outcome(failed, None, false), bad_result) {
        (Outcome::Exited { code: 0 }, Some(message)) => Outcome::BadResult { message: message.to_owned() },
        (outcome, _) => outcome,
    }
}

fn ran_to_its_end(outcome: &Outcome) -> bool {
    matches!(outcome.state(), JobState::Succeeded | JobState::Failed)
}

/// Whether a child that ended so failed: one that was ended with its family did not.
pub fn is_failure(outcome: &Outcome) -> bool {
    outcome.state() != JobState::Succeeded
        && !matches!(outcome, Outcome::Cancelled { by: CancelledBy::Parent, .. })
}

/// Tasks that fan out to each other in a ring, or too deep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// A request would have children without end.
    #[error("`{0}` fans out to itself, by way of {1}")]
    Ring(TaskName, String),
    /// Too many generations.
    #[error("`{0}` has more than {MAX_DEPTH} generations below it")]
    Deep(TaskName),
}

/// Follows a task's children, and theirs, through `next`.
pub fn check(task: &TaskName, next: impl Fn(&TaskName) -> Option<TaskName>) -> Result<(), BadChain> {
    let mut way: Vec<TaskName> = Vec::new();
    let mut at = task.clone();
    while let Some(below) = next(&at) {
        way.push(below.clone());
        if below == *task {
            let names: Vec<String> = way.iter().map(|name| format!("`{name}`")).collect();
            return Err(BadChain::Ring(task.clone(), names.join(", ")));
        }
        // A ring that does not come back to this task is told of the tasks in it.
        if way[..way.len() - 1].contains(&below) {
            return Ok(());
        }
        if way.len() > MAX_DEPTH as usize {
            return Err(BadChain::Deep(task.clone()));
        }
        at = below;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TaskName {
        text.parse().expect("a task name")
    }

    #[test]
    fn a_failed_child_makes_the_family_fail_unless_the_join_decides() {
        let ok = Outcome::Exited { code: 0 };
        let bad = Outcome::Exited { code: 3 };
        let failed = Outcome::ChildrenFailed { failed: 2 };
        assert_eq!(outcome(0, None, false), ok);
        assert_eq!(outcome(2, None, false), failed);
        assert_eq!(outcome(2, None, true), failed, "there is nobody to decide");
        assert_eq!(outcome(2, Some(ok.clone()), false), failed);
        assert_eq!(outcome(2, Some(ok.clone()), true), ok);
        assert_eq!(outcome(0, Some(ok.clone()), false), ok);
        assert_eq!(outcome(2, Some(bad.clone()), false), failed);
        assert_eq!(outcome(2, Some(bad.clone()), true), bad);
        let ended = Outcome::cancelled(CancelledBy::Client);
        assert_eq!(outcome(2, Some(ended.clone()), false), ended);
    }

    #[test]
    fn who_was_ended_with_the_family_did_not_fail() {
        assert!(!is_failure(&Outcome::cancelled(CancelledBy::Parent)));
        assert!(is_failure(&Outcome::cancelled(CancelledBy::Client)));
        assert!(!is_failure(&Outcome::Exited { code: 0 }));
    }

    #[test]
    fn rings_and_depths_are_found() {
        let chain = |task: &TaskName| {
            let next = match task.as_str() {
                "a" => "b",
                "b" => "c",
                "c" => "b",
                "self" => "self",
                deep => {
                    let n: u32 = deep.strip_prefix('d')?.parse().ok()?;
                    return (n > 0).then(|| name(&format!("d{}", n - 1)));
                }
            };
            Some(name(next))
        };
        assert!(matches!(check(&name("self"), chain), Err(BadChain::Ring(..))));
        assert!(matches!(check(&name("b"), chain), Err(BadChain::Ring(..))));
        assert_eq!(check(&name("a"), chain), Ok(()), "it is no part of the ring below it");
        assert_eq!(check(&name("d8"), chain), Ok(()));
        assert!(matches!(check(&name("d9"), chain), Err(BadChain::Deep(_))));
        assert_eq!(check(&name("leaf"), chain), Ok(()));
    }
}

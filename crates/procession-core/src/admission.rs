//! Whether one more job of a task is taken: a function of the counts at the moment
//! of its transaction. The store calls it inside that transaction, so two requests
//! cannot both take the last place.

use std::time::Duration;

use crate::limits::{Limit, TaskLimits};

/// The counts that decide, read in the deciding transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Unfinished jobs of the task that want a slot now: queued or running, neither
    /// waiting for children nor for a retry.
    pub unfinished: u64,
    /// Slots of this node that are held.
    pub node_running: u64,
    /// Jobs of any task that wait for a slot of this node and could take one.
    pub node_queued: u64,
    /// Slots of this node in all.
    pub node_slots: u64,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Admit,
    /// Refuse it with 429; says what is full.
    Busy(Full),
}

/// What has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All slots and the waiting room of the task.
    Task,
    /// The task has no waiting room and the node no free slot.
    Node,
    /// More have come than the task's rate allows; there is room again after this long.
    Rate(Duration),
}

/// Takes a job iff the task's unfinished jobs are fewer than its slots and waiting
/// room together; a task without waiting room also needs a slot of the node that
/// nobody else already waits for.
pub fn decide(limits: TaskLimits, usage: Usage) -> Verdict {
    let places = match limits.max_running {
        Limit::Unlimited => Limit::AtMost(usage.node_slots.saturating_add(limits.max_queued)),
        Limit::AtMost(most) => Limit::AtMost(most.saturating_add(limits.max_queued)),
    };
    if places.room(usage.unfinished) == 0 {
        return Verdict::Busy(Full::Task);
    }
    let free = usage.node_slots.saturating_sub(usage.node_running).saturating_sub(usage.node_queued);
    if limits.max_queued == 0 && free == 0 {
        return Verdict::Busy(Full::Node);
    }
    Verdict::Admit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(unfinished: u64, node_running: u64) -> Usage {
        Usage { unfinished, node_running, node_queued: 0, node_slots: 8 }
    }

    fn limits(max_running: Limit, max_queued: u64) -> TaskLimits {
        TaskLimits { max_running, per_lane: Limit::Unlimited, max_queued }
    }

    #[test]
    fn a_table_of_cases() {
        use Limit::{AtMost, Unlimited};
        let cases = [
            (limits(AtMost(2), 0), usage(1, 1), Verdict::Admit),
            (limits(AtMost(2), 0), usage(2, 2), Verdict::Busy(Full::Task)),
            (limits(AtMost(2), 0), usage(1, 8), Verdict::Busy(Full::Node)),
            (limits(AtMost(2), 3), usage(4, 8), Verdict::Admit),
            (limits(AtMost(2), 3), usage(5, 2), Verdict::Busy(Full::Task)),
            (limits(Unlimited, 0), usage(7, 7), Verdict::Admit),
            (limits(Unlimited, 0), usage(8, 8), Verdict::Busy(Full::Task)),
            (limits(Unlimited, 1000), usage(1007, 8), Verdict::Admit),
            (limits(Unlimited, 1000), usage(1008, 8), Verdict::Busy(Full::Task)),
        ];
        for (limits, usage, verdict) in cases {
            assert_eq!(decide(limits, usage), verdict, "{limits:?} {usage:?}");
        }
    }

    #[test]
    fn a_slot_others_wait_for_is_not_free() {
        let usage = Usage { unfinished: 0, node_running: 7, node_queued: 1, node_slots: 8 };
        assert_eq!(decide(limits(Limit::AtMost(5), 0), usage), Verdict::Busy(Full::Node));
    }
}

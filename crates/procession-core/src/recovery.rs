//! What becomes, at the start of a server, of a row that says its job runs: decided by what
//! the keeper knows of it, never by time. Asks nobody and does nothing; the scheduler's
//! `recover` asks the keeper, calls [`judge`] for each row, and does what it says.

use crate::outcome::LostReason;

/// What becomes of a row that says its job runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The keeper has it: nothing changes for the job.
    Adopt,
    /// It is over; its record will be taken like any other.
    Record,
    /// Claimed, but provably never started: back to the queue, nothing consumed.
    NeverSeen,
    /// Nobody knows what became of it.
    Lost(LostReason),
}

/// What the keeper says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has it.
    Runs,
    /// It has the record of its end.
    Over,
    /// Nothing.
    Nothing,
}

/// By whom an attempt was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A server of this keeper: what the keeper does not know was never sent to it.
    OurKeepers,
    /// Perhaps one of a keeper before, which may have run it.
    KeeperBefore,
    /// One before the machine was restarted.
    BootBefore,
}

/// Decides: see the module.
pub fn judge(known: Known, claimant: Claimant) -> Verdict {
    match (known, claimant) {
        (Known::Runs, _) => Verdict::Adopt,
        (Known::Over, _) => Verdict::Record,
        (Known::Nothing, Claimant::OurKeepers) => Verdict::NeverSeen,
        (Known::Nothing, Claimant::KeeperBefore) => Verdict::Lost(LostReason::KeeperDied),
        (Known::Nothing, Claimant::BootBefore) => Verdict::Lost(LostReason::Reboot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_design() {
        use Claimant::{BootBefore, KeeperBefore, OurKeepers};
        for claimant in [OurKeepers, KeeperBefore, BootBefore] {
            // A keeper's journal outlives it, and its children may.
            assert_eq!(judge(Known::Runs, claimant), Verdict::Adopt);
            assert_eq!(judge(Known::Over, claimant), Verdict::Record);
        }
        assert_eq!(judge(Known::Nothing, OurKeepers), Verdict::NeverSeen);
        assert_eq!(judge(Known::Nothing, KeeperBefore), Verdict::Lost(LostReason::KeeperDied));
        assert_eq!(judge(Known::Nothing, BootBefore), Verdict::Lost(LostReason::Reboot));
    }
}

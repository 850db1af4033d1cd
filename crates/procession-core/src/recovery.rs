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

/// `runs`, `over`: the keeper has the attempt, or the record of its end. `same_boot`: the
/// machine was not restarted since the claim. `new_keeper`: no server of this keeper served
/// before, so what the keeper does not know was owned by a keeper that is gone.
pub fn judge(runs: bool, over: bool, same_boot: bool, new_keeper: bool) -> Verdict {
    match (runs, over) {
        (true, _) => Verdict::Adopt,
        (false, true) => Verdict::Record,
        (false, false) if !same_boot => Verdict::Lost(LostReason::Reboot),
        (false, false) if new_keeper => Verdict::Lost(LostReason::KeeperDied),
        (false, false) => Verdict::NeverSeen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_design() {
        assert_eq!(judge(true, false, true, false), Verdict::Adopt);
        assert_eq!(judge(false, true, true, false), Verdict::Record);
        assert_eq!(judge(false, true, true, true), Verdict::Record);
        assert_eq!(judge(false, false, true, false), Verdict::NeverSeen);
        assert_eq!(judge(false, false, true, true), Verdict::Lost(LostReason::KeeperDied));
        assert_eq!(judge(false, false, false, true), Verdict::Lost(LostReason::Reboot));
    }
}

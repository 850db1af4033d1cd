//! The verbs of the contract by name.

/// A verb of [`crate::Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the verb of its name")]
pub enum Verb {
    Submit,
    Claim,
    ClaimedBy,
    Started,
    Finish,
    Gather,
    ToGather,
    ChildEnds,
    Children,
    Release,
    Cancel,
    Expire,
    NextDue,
    PutTasks,
    Pause,
    Get,
    Payload,
    Attempts,
    List,
    IdsEnding,
    Standing,
    Delete,
    Prune,
    TakeDeliveries,
    NextDeliveryDue,
    AckDelivery,
    Follow,
    RepeatDelivery,
    Delivery,
    Deliveries,
    Stats,
    PutSchedules,
    Schedules,
    Fire,
    SetSchedule,
    Probe,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 36] = [
        Verb::Submit,
        Verb::Claim,
        Verb::ClaimedBy,
        Verb::Started,
        Verb::Finish,
        Verb::Gather,
        Verb::ToGather,
        Verb::ChildEnds,
        Verb::Children,
        Verb::Release,
        Verb::Cancel,
        Verb::Expire,
        Verb::NextDue,
        Verb::PutTasks,
        Verb::Pause,
        Verb::Get,
        Verb::Payload,
        Verb::Attempts,
        Verb::List,
        Verb::IdsEnding,
        Verb::Standing,
        Verb::Delete,
        Verb::Prune,
        Verb::TakeDeliveries,
        Verb::NextDeliveryDue,
        Verb::AckDelivery,
        Verb::Follow,
        Verb::RepeatDelivery,
        Verb::Delivery,
        Verb::Deliveries,
        Verb::Stats,
        Verb::PutSchedules,
        Verb::Schedules,
        Verb::Fire,
        Verb::SetSchedule,
        Verb::Probe,
    ];

    /// Whether it changes the store.
    pub fn writes(self) -> bool {
        use Verb::{
            AckDelivery, Cancel, Claim, Delete, Expire, Finish, Follow, Gather, Pause, Probe, Prune,
            PutTasks, Release, RepeatDelivery, Started,
        };
        matches!(
            self,
            Verb::Submit
                | Claim
                | Started
                | Finish
                | Gather
                | Release
                | Cancel
                | Expire
                | PutTasks
                | Pause
                | Delete
                | Prune
                | AckDelivery
                | Follow
                | RepeatDelivery
                | Verb::PutSchedules
                | Verb::Fire
                | Verb::SetSchedule
                | Probe
        )
    }
}

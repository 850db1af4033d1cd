//! What follows the ends of jobs, on its way: one [`Delivery`] for each `then` and `callback`
//! that an end met, written with the end and kept as long as its job.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::delivery::Next;
use crate::id::{JobId, TaskName};
use crate::job::What;
use crate::target::Target;

/// Deliveries that may be on their way at once. What comes beyond is given up as it is written:
/// a receiver that stays away must not fill the disk.
pub const MOST_PENDING: u64 = 100_000;

/// How long a receiver is remembered that wants no more: at least so long, and until another one
/// does.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

/// Why one was given up as it was written.
pub const FULL: &str = "the outbox is full: too many deliveries are on their way";

/// Why one is gone though its receiver was not asked.
pub const WANTS_NO_MORE: &str = "the receiver answered 410 to another callback and is asked no more";

/// Which of a job's `follow_ups`, from 0. Known before the job ends, and never another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The job that ended.
    pub job: JobId,
    /// Its place in the job's list.
    pub ordinal: u32,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is tried when it is due.
    Pending,
    /// It arrived.
    Delivered,
    /// Nobody took it.
    GivenUp,
    /// Its receiver wants no more of them.
    Gone,
}

/// One delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its name.
    pub id: DeliveryId,
    /// Grows with each that is written: where a page ends.
    pub number: u64,
    /// The task of the job that ended.
    pub task: TaskName,
    /// What is to follow.
    pub what: What,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried since it was written or asked for once more.
    pub tries: u32,
    /// When its job ended.
    pub created_at: Timestamp,
    /// When somebody last asked for it once more.
    pub repeated_at: Option<Timestamp>,
    /// Not before, while it is pending.
    pub due_at: Timestamp,
    /// Of the receiver's last answer.
    pub status: Option<u16>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// The job that followed.
    pub followed_by: Option<JobId>,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// What becomes of the delivery.
    pub next: Next,
    /// When.
    pub at: Timestamp,
    /// The receiver's answer.
    pub status: Option<u16>,
    /// What is wrong, for people.
    pub error: Option<String>,
}

impl Delivery {
    /// When it was first due: what its age is counted from.
    pub fn since(&self) -> Timestamp {
        self.repeated_at.unwrap_or(self.created_at)
    }

    /// The id of the job that follows, so that a second try makes no second job. One that somebody
    /// asked for once more is another.
    pub fn following_job(&self) -> JobId {
        let since = self.since();
        let mut hash = Sha256::new();
        hash.update(self.id.job.as_bytes());
        hash.update(self.id.ordinal.to_be_bytes());
        hash.update(since.as_microsecond().to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        JobId::new(u64::try_from(since.as_millisecond()).unwrap_or(0), random)
    }
}

/// Whom what follows goes to, with the port, and `.` where that is nobody else: deliveries of one
/// host wait for each other, those of several do not.
pub fn host(what: &What) -> String {
    match what {
        What::Then(_) => ".".to_owned(),
        What::Callback { url, .. } => {
            url.parse::<Target>().map_or_else(|_| url.clone(), |target| target.authority())
        }
    }
}

/// A URL as people see it: without a query, in which keys are kept.
pub fn shown(url: &str) -> String {
    match url.parse::<Target>() {
        Ok(target) => target.to_string(),
        Err(_) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [DeliveryState; 4] =
        [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::GivenUp, DeliveryState::Gone];

    /// As the wire and the store write it.
    pub fn name(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::GivenUp => "given_up",
            DeliveryState::Gone => "gone",
        }
    }
}

/// The text names no state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a state of a delivery: pending, delivered, given_up or gone")]
pub struct BadDeliveryState;

impl FromStr for DeliveryState {
    type Err = BadDeliveryState;

    fn from_str(text: &str) -> Result<Self, BadDeliveryState> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or(BadDeliveryState)
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is no id of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a delivery's id: a job's id, `_` and a number")]
pub struct BadDeliveryId;

impl FromStr for DeliveryId {
    type Err = BadDeliveryId;

    fn from_str(text: &str) -> Result<Self, BadDeliveryId> {
        let (job, ordinal) = text.split_once('_').ok_or(BadDeliveryId)?;
        let id = Self {
            job: job.parse().map_err(|_| BadDeliveryId)?,
            ordinal: ordinal.parse().map_err(|_| BadDeliveryId)?,
        };
        // One text for each: no sign, no leading zeros.
        if id.ordinal.to_string() == ordinal { Ok(id) } else { Err(BadDeliveryId) }
    }
}

/// Without `.`: what is signed has one behind it.
impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.job, self.ordinal)
    }
}

impl Serialize for DeliveryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeliveryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Delivery {
    /// One of a task `a` that waits since 1970, for tests here and elsewhere.
    ///
    /// # Panics
    /// Never: the name is one.
    pub fn for_testing(id: DeliveryId, what: What) -> Self {
        Self {
            id,
            number: 1,
            task: "a".parse().expect("a name"),
            what,
            state: DeliveryState::Pending,
            tries: 0,
            created_at: Timestamp::UNIX_EPOCH,
            repeated_at: None,
            due_at: Timestamp::UNIX_EPOCH,
            status: None,
            error: None,
            followed_by: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ordinal: u32) -> DeliveryId {
        DeliveryId { job: JobId::new(1_800_000_000_000, [7; 10]), ordinal }
    }

    fn delivery() -> Delivery {
        Delivery::for_testing(id(0), What::Then("b".parse().expect("a name")))
    }

    #[test]
    fn ids_round_trip_in_one_form() {
        for ordinal in [0, 7, u32::MAX] {
            assert_eq!(id(ordinal).to_string().parse(), Ok(id(ordinal)));
        }
        let job = id(0).job;
        for bad in ["", "_", &job.to_string(), &format!("{job}_"), &format!("{job}_+1"), &format!("{job}_01")]
        {
            assert_eq!(bad.parse::<DeliveryId>(), Err(BadDeliveryId), "{bad}");
        }
    }

    #[test]
    fn states_round_trip() {
        for state in DeliveryState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).expect("a string"), state.name());
        }
    }

    #[test]
    fn the_job_that_follows_is_one_for_each_time_it_was_asked_for() {
        let first = delivery();
        assert_eq!(first.following_job(), first.clone().following_job());
        let tried = Delivery { tries: 3, due_at: Timestamp::MAX, ..first.clone() };
        assert_eq!(tried.following_job(), first.following_job());
        let others = [
            Delivery { id: id(1), ..first.clone() },
            Delivery {
                repeated_at: Some("2027-01-01T00:00:00Z".parse().expect("a moment")),
                ..first.clone()
            },
        ];
        for other in others {
            assert_ne!(other.following_job(), first.following_job());
        }
    }

    #[test]
    fn hosts_are_told_apart_by_port() {
        let host = |url: &str| host(&What::Callback { url: url.into(), fixed: true });
        assert_eq!(host("https://A.b/x?y"), "a.b");
        assert_eq!(host("http://a.b:8080/z"), "a.b:8080");
        assert_eq!(super::host(&delivery().what), ".");
    }
}

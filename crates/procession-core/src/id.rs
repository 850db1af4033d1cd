//! Names and numbers that identify things. Each is a type of its own, so that a
//! fence cannot be passed for an attempt number, nor a path for a job id.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// One accepted request: a UUIDv7, so ids sort by submission time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// An id for a job submitted at `unix_ms`, made unique by ten random bytes.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The `n`th of ids made together: they sort by `n`, up to 2^18 of them.
    pub fn nth(unix_ms: u64, n: u32, mut random: [u8; 10]) -> Self {
        // Version and variant take the top four bits of the first byte and the top two of the third.
        random[0] = (n >> 14) as u8 & 0x0f;
        random[1] = (n >> 6) as u8;
        random[2] = n as u8 & 0x3f;
        Self::new(unix_ms, random)
    }

    /// The sixteen bytes as stored.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id whose bytes these are.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Milliseconds since the Unix epoch at which the id was made.
    pub fn unix_ms(&self) -> u64 {
        let b = self.0.as_bytes();
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an id: only the hyphenated form is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a job id")]
pub struct BadJobId;

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        if text.len() != 36 {
            return Err(BadJobId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| BadJobId)
    }
}

/// Grows with every claim in a store; a later write carries the fence of its
/// claim and changes nothing when another claim came since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// 1 for a job's first execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNumber(pub u32);

/// Random, compared for equality beside the fence: two stores that diverged may
/// hand out the same fence, never the same claim id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(pub [u8; 16]);

/// What server and keeper call one attempt by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The job.
    pub job: JobId,
    /// The fence of the claim that started this attempt.
    pub fence: Fence,
}

/// The name of a task in the config: `[a-z0-9]` then up to 63 of `[a-z0-9._-]`.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName(Arc<str>);

impl TaskName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text cannot name a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a task name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit")]
pub struct BadTaskName;

impl FromStr for TaskName {
    type Err = BadTaskName;

    fn from_str(text: &str) -> Result<Self, BadTaskName> {
        if can_be_a_name(text) { Ok(Self(text.into())) } else { Err(BadTaskName) }
    }
}

/// What names in the config are made of: they stand in paths, URLs and file names.
pub(crate) fn can_be_a_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && plain(bytes[0])
        && bytes.iter().all(|&c| plain(c) || matches!(c, b'.' | b'_' | b'-'))
}

impl Borrow<str> for TaskName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TaskName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TaskName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_together_sort_by_their_number() {
        let ids: Vec<JobId> = (0..1 << 18).step_by(97).map(|n| JobId::nth(7, n, [0xff; 10])).collect();
        assert!(ids.is_sorted());
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1] && pair[0].unix_ms() == 7));
    }

    #[test]
    fn a_job_id_round_trips_and_sorts_by_time() {
        let early = JobId::new(1_000, [0xff; 10]);
        let late = JobId::new(1_001, [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(late.unix_ms(), 1_001);
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        for text in ["", "..%2F..%2Fetc", "00000000000070008000000000000000", "{x}"] {
            assert_eq!(text.parse::<JobId>(), Err(BadJobId), "{text}");
        }
    }

    #[test]
    fn task_names() {
        for good in ["a", "full-report", "x.y_z", "0"] {
            assert!(good.parse::<TaskName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".", "A", "a/b", "a b", &"x".repeat(65)] {
            assert_eq!(bad.parse::<TaskName>(), Err(BadTaskName), "{bad}");
        }
    }
}

//! Values as columns hold them, and back. What comes back passes the types of the core,
//! so a row this crate never wrote is seen as [`StoreError::Corrupt`].
//!
//! Times are microseconds; counts beyond 2^63 are kept as 2^63 - 1.

use jiff::Timestamp;
use procession_core::id::{AttemptNumber, ClaimId, Fence, JobId, TaskName};
use procession_core::job::Lease;
use procession_core::outcome::CancelledBy;
use procession_core::record::{Containment, OutputPlace};
use procession_core::state::{JobState, Move};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;

/// A row that cannot be.
pub(super) fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(corrupt)
}

pub(super) fn maybe_time(micros: Option<i64>) -> Result<Option<Timestamp>, StoreError> {
    micros.map(time).transpose()
}

pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn count(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(corrupt)
}

/// The id in column `at`.
pub(super) fn id(row: &Row<'_>, at: &str) -> Result<JobId, StoreError> {
    Ok(JobId::from_bytes(row.get(at)?))
}

/// The id in column `at`, if there is one.
pub(super) fn maybe_id(row: &Row<'_>, at: &str) -> Result<Option<JobId>, StoreError> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(JobId::from_bytes))
}

pub(super) fn maybe_bytes(id: &Option<JobId>) -> Option<&[u8]> {
    id.as_ref().map(|id| id.as_bytes().as_slice())
}

pub(super) fn task_name(text: &str) -> Result<TaskName, StoreError> {
    text.parse().map_err(|_| corrupt(format!("a task named {text:?}")))
}

pub(super) fn state(text: &str) -> Result<JobState, StoreError> {
    text.parse().map_err(|_| corrupt(format!("a job in state {text:?}")))
}

/// The state after a move, by the core's table.
pub(super) fn after(from: JobState, what: Move) -> Result<JobState, StoreError> {
    from.after(what).map_err(corrupt)
}

/// The lease of a claim, from the columns `job`, `attempt`, `fence` and `claim_id`.
pub(super) fn lease(row: &Row<'_>) -> Result<Lease, StoreError> {
    Ok(Lease {
        job: id(row, "job")?,
        attempt: AttemptNumber(row.get("attempt")?),
        fence: Fence(count(row.get("fence")?)?),
        claim_id: ClaimId(row.get("claim_id")?),
    })
}

/// A value as JSON text.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with text keys has a JSON form")
}

/// A value from JSON text.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(corrupt)
}

/// A collection from JSON text, where an empty one is NULL.
pub(super) fn from_maybe_json<T: DeserializeOwned + Default>(text: Option<&str>) -> Result<T, StoreError> {
    text.map_or_else(|| Ok(T::default()), from_json)
}

pub(super) fn cancelled_by(by: CancelledBy) -> &'static str {
    match by {
        CancelledBy::Client => "client",
        CancelledBy::Parent => "parent",
        CancelledBy::Replaced => "replaced",
        CancelledBy::Expired => "expired",
        CancelledBy::Shutdown => "shutdown",
        CancelledBy::TaskRemoved => "task_removed",
    }
}

/// Who asked for a job's end, if anybody did.
pub(super) fn maybe_canceller(row: &Row<'_>) -> Result<Option<CancelledBy>, StoreError> {
    row.get::<_, Option<String>>("cancel_by")?.as_deref().map(canceller).transpose()
}

fn canceller(text: &str) -> Result<CancelledBy, StoreError> {
    let all = [
        CancelledBy::Client,
        CancelledBy::Parent,
        CancelledBy::Replaced,
        CancelledBy::Expired,
        CancelledBy::Shutdown,
        CancelledBy::TaskRemoved,
    ];
    all.into_iter()
        .find(|by| cancelled_by(*by) == text)
        .ok_or_else(|| corrupt(format!("a job cancelled by {text:?}")))
}

pub(super) fn containment(text: Option<&str>) -> Result<Option<Containment>, StoreError> {
    match text {
        None => Ok(None),
        Some("cgroup") => Ok(Some(Containment::Cgroup)),
        Some("monitor") => Ok(Some(Containment::Monitor)),
        Some(other) => Err(corrupt(format!("a containment {other:?}"))),
    }
}

pub(super) fn place_name(place: OutputPlace) -> &'static str {
    match place {
        OutputPlace::Inline => "inline",
        OutputPlace::File => "file",
    }
}

pub(super) fn place(text: &str) -> Result<OutputPlace, StoreError> {
    match text {
        "inline" => Ok(OutputPlace::Inline),
        "file" => Ok(OutputPlace::File),
        other => Err(corrupt(format!("output in {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procession_core::outcome::{LostReason, Outcome};

    #[test]
    fn kinds_are_the_tags_of_the_json_form() {
        let (code, signal, text) = (None, None, String::new());
        for value in [
            Outcome::Exited { code: 0 },
            Outcome::Signaled { signal: 9, name: text.clone(), core: false },
            Outcome::OomKilled,
            Outcome::SpawnFailed { errno: text.clone(), phase: text.clone(), message: text.clone() },
            Outcome::ChildrenFailed { failed: 1 },
            Outcome::ResultMissing,
            Outcome::BadResult { message: text },
            Outcome::TimedOut { limit_ms: 1, code, signal },
            Outcome::cancelled(CancelledBy::Client),
            Outcome::Lost { reason: LostReason::Reboot },
        ] {
            let tag = serde_json::to_value(&value).expect("plain data")["kind"].clone();
            assert_eq!(tag, value.kind());
            assert_eq!(from_json(&json(&value)), Ok(value));
        }
    }

    #[test]
    fn names_round_trip() {
        for by in [CancelledBy::Client, CancelledBy::Expired, CancelledBy::TaskRemoved] {
            assert_eq!(serde_json::to_value(by).expect("a name"), cancelled_by(by));
            assert_eq!(canceller(cancelled_by(by)), Ok(by));
        }
        for kind in [Containment::Cgroup, Containment::Monitor] {
            assert_eq!(containment(Some(kind.name())), Ok(Some(kind)));
        }
        for where_ in [OutputPlace::Inline, OutputPlace::File] {
            assert_eq!(place(place_name(where_)), Ok(where_));
        }
        assert!(matches!(state("resting"), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn numbers_beyond_the_column_are_kept_as_its_largest() {
        assert_eq!(number(u64::MAX), i64::MAX);
        assert!(matches!(count(-1), Err(StoreError::Corrupt(_))));
    }
}

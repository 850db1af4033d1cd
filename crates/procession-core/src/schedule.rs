//! A schedule: a task that runs at certain times, and what a look at the clock means for
//! it. Pure: the clock comes in, the store remembers what is due.
//!
//! The next moment is always computed from now, never from the one that was due: however
//! long nobody looked, and however far the clock jumped, there is at most one run. A clock
//! that is set back changes nothing: what is due stays due then.
//!
//! The config makes schedules, `maintenance/schedules` looks, the store fires.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cron::Cron;
use crate::id::{TaskName, can_be_a_name};

/// The name of a schedule in the config, as a task's: `[a-z0-9]` then up to 63 of
/// `[a-z0-9._-]`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleName(Arc<str>);

/// Everything the config says of one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name, unique in the config.
    pub name: ScheduleName,
    /// What runs.
    pub task: TaskName,
    /// When, and in which time zone.
    pub cron: Cron,
    /// What happens while its job before is not over.
    pub overlap: Overlap,
    /// What happens when nobody looked in time.
    pub catch_up: CatchUp,
    /// The body each of its jobs gets.
    pub payload: Bytes,
}

/// Whether a run may come while the one before is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It takes its place in the queue.
    Queue,
}

/// What becomes of moments nobody looked at in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are over.
    #[default]
    None,
    /// One run stands for all of them.
    One,
}

/// What a look at the clock means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is not time yet.
    Wait,
    /// It is time to run.
    Run {
        /// The moment after this; `None` at the end of the calendar.
        next: Option<Timestamp>,
    },
    /// The time is over; nothing runs.
    Missed {
        /// The moment after this; `None` at the end of the calendar.
        next: Option<Timestamp>,
    },
}

/// A moment that is late by less than this counts as met: a restart, a busy machine.
const LATE: SignedDuration = SignedDuration::from_secs(60);

impl Schedule {
    /// What to do at `now`, where `due` is the moment it waits for.
    pub fn look(&self, due: Timestamp, now: Timestamp) -> Look {
        if now < due {
            return Look::Wait;
        }
        let next = self.cron.next_after(now);
        if self.is_met(due, now) || self.catch_up == CatchUp::One {
            Look::Run { next }
        } else {
            Look::Missed { next }
        }
    }

    /// Whether `due`, or a moment after it, is late by at most [`LATE`]: who slept through many
    /// of them and wakes right after the last has not missed that one.
    fn is_met(&self, due: Timestamp, now: Timestamp) -> bool {
        let since = now.saturating_sub(LATE).map_or(due, |since| since.max(due));
        let before = since.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(since);
        since == due || self.cron.next_after(before).is_some_and(|moment| moment <= now)
    }
}

impl Overlap {
    /// Whether another job may be submitted.
    pub fn allows(self, unfinished_before: bool) -> bool {
        self == Overlap::Queue || !unfinished_before
    }
}

impl ScheduleName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text cannot name a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a schedule's name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit")]
pub struct BadScheduleName;

impl FromStr for ScheduleName {
    type Err = BadScheduleName;

    fn from_str(text: &str) -> Result<Self, BadScheduleName> {
        if can_be_a_name(text) { Ok(Self(text.into())) } else { Err(BadScheduleName) }
    }
}

impl Borrow<str> for ScheduleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ScheduleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ScheduleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, ToSpan};
    use proptest::prelude::*;

    use super::*;

    fn schedule(cron: &str, catch_up: CatchUp) -> Schedule {
        Schedule {
            name: "nightly".parse().expect("a name"),
            task: "report".parse().expect("a name"),
            cron: Cron::parse(cron, TimeZone::UTC).expect("an expression"),
            overlap: Overlap::Skip,
            catch_up,
            payload: Bytes::new(),
        }
    }

    fn moment(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    #[test]
    fn f18_looks() {
        use CatchUp::{None, One};
        let tomorrow = Some(moment("2026-08-02T03:00Z"));
        for (cron, catch_up, now, expected) in [
            ("0 3 * * *", One, "2026-08-01T02:59:59.999Z", Look::Wait),
            // The clock was set back, by a lot.
            ("0 3 * * *", One, "2020-01-01T00:00Z", Look::Wait),
            ("0 3 * * *", None, "2026-08-01T03:00Z", Look::Run { next: tomorrow }),
            ("0 3 * * *", None, "2026-08-01T03:01Z", Look::Run { next: tomorrow }),
            ("0 3 * * *", None, "2026-08-01T03:01:00.001Z", Look::Missed { next: tomorrow }),
            ("0 3 * * *", One, "2026-08-01T03:01:00.001Z", Look::Run { next: tomorrow }),
            // Ten years later there is one run, or none, and then the next.
            ("0 3 * * *", One, "2036-07-31T12:00Z", Look::Run { next: Some(moment("2036-08-01T03:00Z")) }),
            (
                "0 3 * * *",
                None,
                "2036-07-31T12:00Z",
                Look::Missed { next: Some(moment("2036-08-01T03:00Z")) },
            ),
            // Many moments were slept through, the last has just come.
            (
                "0 * * * *",
                None,
                "2026-08-01T05:00:59Z",
                Look::Run { next: Some(moment("2026-08-01T06:00Z")) },
            ),
            (
                "0 * * * *",
                None,
                "2026-08-01T05:01:01Z",
                Look::Missed { next: Some(moment("2026-08-01T06:00Z")) },
            ),
            (
                "* * * * *",
                None,
                "2026-08-01T03:07:30Z",
                Look::Run { next: Some(moment("2026-08-01T03:08Z")) },
            ),
        ] {
            let look = schedule(cron, catch_up).look(moment("2026-08-01T03:00Z"), moment(now));
            assert_eq!(look, expected, "{cron} {catch_up:?} {now}");
        }
    }

    #[test]
    fn overlaps() {
        for (overlap, unfinished, allowed) in [
            (Overlap::Skip, false, true),
            (Overlap::Skip, true, false),
            (Overlap::Queue, false, true),
            (Overlap::Queue, true, true),
        ] {
            assert_eq!(overlap.allows(unfinished), allowed, "{overlap:?} {unfinished}");
        }
    }

    proptest! {
        /// Whatever the clock does, no moment runs twice, and there are no more runs than looks and
        /// no more than moments between the earliest and the latest clock.
        #[test]
        fn f18_a_clock_that_jumps_makes_no_storm(
            every in 1..60i64, one in any::<bool>(), jumps in proptest::collection::vec(-200_000..400_000i64, 1..40),
        ) {
            let schedule = schedule(&format!("*/{every} * * * *"), if one { CatchUp::One } else { CatchUp::None });
            let start = moment("2026-08-01T00:00Z");
            let mut due = schedule.cron.next_after(start).expect("a moment");
            let mut ran = Vec::new();
            let mut now = start;
            for jump in &jumps {
                now += jump.seconds();
                match schedule.look(due, now) {
                    Look::Wait => prop_assert!(now < due),
                    Look::Run { next } => {
                        ran.push(due);
                        prop_assert!(next.is_some_and(|next| next > now));
                        due = next.expect("a moment");
                    }
                    Look::Missed { next } => due = next.expect("a moment"),
                }
            }
            let in_order = ran.windows(2).all(|pair| pair[0] < pair[1]);
            prop_assert!(in_order, "{ran:?}");
            prop_assert!(ran.len() <= jumps.len());
        }
    }
}

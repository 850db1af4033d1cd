//! How often something may happen: `rate = "50/s"`. The generic cell rate algorithm: one
//! moment is remembered, the one at which all that was admitted so far is paid for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many in a period; as many may come at once after a pause that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// The text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a rate: write 50/s, 100/m, 1000/h or 5/d, at most 100000 of them")]
pub struct BadRate;

/// The most in one period: below it the moments are exact to the microsecond.
const MOST: u32 = 100_000;

impl Unit {
    const ALL: [(Unit, &'static str, u64); 4] = [
        (Unit::Second, "s", 1_000_000),
        (Unit::Minute, "m", 60_000_000),
        (Unit::Hour, "h", 3_600_000_000),
        (Unit::Day, "d", 86_400_000_000),
    ];

    fn row(self) -> (&'static str, u64) {
        let (_, name, micros) = Self::ALL[self as usize];
        (name, micros)
    }
}

impl Rate {
    /// Whether one more may happen at `now`. `paid` is what the last admission gave; `Ok` is what
    /// is to be remembered instead, `Err` how long to wait, exactly.
    pub fn admit(self, paid: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Duration> {
        let (_, period) = self.unit.row();
        let now = now.as_microsecond();
        // Rounded up: what is rounded away would be admitted beyond the rate.
        let each = period.div_ceil(u64::from(self.count)).cast_signed();
        let burst = each * i64::from(self.count);
        // A clock that was set back would otherwise lock out everybody until it comes round again.
        let paid = paid.map_or(now, |at| at.as_microsecond().min(now + burst)).max(now);
        let next = paid + each;
        let early = next - burst - now;
        if early > 0 {
            return Err(Duration::from_micros(early.unsigned_abs()));
        }
        Ok(Timestamp::from_microsecond(next).unwrap_or(Timestamp::MAX))
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let (count, unit) = text.trim().split_once('/').ok_or(BadRate)?;
        let count: u32 = count.trim().parse().map_err(|_| BadRate)?;
        let (unit, ..) = Unit::ALL.into_iter().find(|(_, name, _)| *name == unit.trim()).ok_or(BadRate)?;
        if (1..=MOST).contains(&count) { Ok(Self { count, unit }) } else { Err(BadRate) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.row().0)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_microsecond(us).expect("in range")
    }

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_each_interval() {
        let rate = rate("5/s");
        let mut paid = None;
        for _ in 0..5 {
            paid = Some(rate.admit(paid, at(0)).expect("a burst"));
        }
        assert_eq!(rate.admit(paid, at(0)), Err(Duration::from_millis(200)));
        assert_eq!(rate.admit(paid, at(199_999)), Err(Duration::from_micros(1)));
        let paid = Some(rate.admit(paid, at(200_000)).expect("exactly then"));
        assert_eq!(rate.admit(paid, at(200_000)), Err(Duration::from_millis(200)));
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let rate = rate("1/m");
        let paid = rate.admit(None, at(3_600_000_000)).ok();
        assert_eq!(rate.admit(paid, at(0)), Err(Duration::from_secs(60)), "one period, no hour");
    }

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for text in ["50/s", "1/m", "1000/h", "5/d", "100000/s"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for text in ["", "50", "0/s", "100001/s", "-1/s", "5/w", "5/", "/s", "1.5/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    proptest! {
        /// In no window of one period are more admitted than twice the count less one (a burst and
        /// what the window refills), over many periods not more than the rate; who waits as long as
        /// he was told is admitted.
        #[test]
        fn never_more_than_the_rate(count in 1u32..50, steps in prop::collection::vec(0i64..400_000, 1..200)) {
            let rate = Rate { count, unit: Unit::Second };
            let (mut now, mut paid, mut admitted) = (0, None, 0u64);
            for step in steps {
                now += step;
                match rate.admit(paid, at(now)) {
                    Ok(next) => {
                        paid = Some(next);
                        admitted += 1;
                    }
                    Err(wait) => {
                        let told = now + i64::try_from(wait.as_micros()).expect("short");
                        prop_assert!(rate.admit(paid, at(told)).is_ok());
                        prop_assert!(rate.admit(paid, at(told - 1)).is_err());
                    }
                }
                let most = u64::from(count) + (now as u64 * u64::from(count)) / 1_000_000;
                prop_assert!(admitted <= most, "{admitted} of {most} at {now}");
            }
        }
    }
}

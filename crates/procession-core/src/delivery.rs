//! What becomes of a callback after a try to deliver it: it arrived, it is tried again, or
//! nobody will take it. A receiver that comes back is met soon; one that stays away is asked
//! less and less often, and many callbacks to it do not come back together.
//!
//! Who is asked and what is sent is the program's.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        /// Its status.
        code: u16,
        /// How long it asks to be left alone (see [`retry_after`]).
        retry_after: Option<Duration>,
    },
    /// It could not be reached, or did not answer in time.
    None,
    /// Nothing was sent, as its address is one that callbacks may not reach.
    Forbidden,
}

/// The next thing for a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// It is tried again after this long.
    Again(Duration),
    /// The receiver wants no more of them: nothing is sent to it any more.
    Gone,
    /// Nobody takes it.
    GivenUp,
}

/// Between the first try and the second, in the middle.
const FIRST: Duration = Duration::from_secs(1);

/// Between two tries, at most; also what a receiver may ask for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A callback that is older is not tried again.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Decides after a try. `tries`: how many there were, this one with them; `age`: since the
/// callback was first due; `salt` spreads the waits of many callbacks (any number).
pub fn after(tries: u32, answer: &Answer, age: Duration, salt: u64) -> Next {
    let asked = match answer {
        Answer::Status { code: 200..=299, .. } => return Next::Delivered,
        Answer::Status { code: 410, .. } => return Next::Gone,
        // To resolve it again and again would be of use only to whoever means harm.
        Answer::Forbidden => return Next::GivenUp,
        // Where it leads to is not looked at: a redirect is an answer as any other that is no 2xx.
        Answer::Status { retry_after, .. } => retry_after.unwrap_or_default(),
        Answer::None => Duration::ZERO,
    };
    if age >= GIVEN_UP_AFTER {
        return Next::GivenUp;
    }
    Next::Again(wait(tries, salt).max(asked.min(LONGEST_WAIT)))
}

/// 0.5 to 1.5 s after the first try; later anything between half a second and `2^tries`
/// seconds, at most an hour.
fn wait(tries: u32, salt: u64) -> Duration {
    let least = FIRST / 2;
    let most = match tries {
        0 | 1 => FIRST + FIRST / 2,
        _ => FIRST.saturating_mul(1 << tries.min(20)).min(LONGEST_WAIT),
    };
    let range = (most - least).as_millis() as u64;
    least + Duration::from_millis(salt % (range + 1))
}

/// What a `Retry-After` header asks for: seconds, or a date.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // More digits than a number has are no shorter a time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let then = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn status(code: u16) -> Answer {
        Answer::Status { code, retry_after: None }
    }

    fn asks(code: u16, secs: u64) -> Answer {
        Answer::Status { code, retry_after: Some(Duration::from_secs(secs)) }
    }

    fn waits(next: Next) -> Duration {
        match next {
            Next::Again(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn f37_what_each_answer_means() {
        for code in 100..=599 {
            let next = after(1, &status(code), Duration::ZERO, 7);
            match code {
                200..=299 => assert_eq!(next, Next::Delivered, "{code}"),
                410 => assert_eq!(next, Next::Gone, "{code}"),
                _ => assert!(matches!(next, Next::Again(_)), "{code}: {next:?}"),
            }
        }
        assert!(matches!(after(1, &Answer::None, Duration::ZERO, 7), Next::Again(_)));
        assert_eq!(after(1, &Answer::Forbidden, Duration::ZERO, 7), Next::GivenUp);
    }

    #[test]
    fn f37_the_first_wait_is_about_a_second() {
        let all: Vec<Duration> = (0..5000).map(|salt| waits(after(1, &Answer::None, HOUR, salt))).collect();
        assert_eq!(all.iter().min(), Some(&Duration::from_millis(500)));
        assert_eq!(all.iter().max(), Some(&Duration::from_millis(1500)));
    }

    #[test]
    fn f37_later_waits_grow_to_an_hour_and_are_spread() {
        for (tries, most) in [(2, 4), (3, 8), (6, 64), (11, 2048), (12, 3600), (60, 3600), (u32::MAX, 3600)] {
            let salts = (0..200).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let all: Vec<_> = salts.map(|salt| waits(after(tries, &status(500), HOUR, salt))).collect();
            let (least, longest) = (all.iter().min().expect("some"), all.iter().max().expect("some"));
            let most = Duration::from_secs(most);
            assert!(*longest <= most && *longest > most * 3 / 4, "{tries}: {longest:?}");
            assert!(*least < most / 4, "{tries}: {least:?}");
        }
    }

    #[test]
    fn f37_a_receiver_may_ask_for_up_to_an_hour() {
        assert_eq!(waits(after(1, &asks(429, 120), HOUR, 7)), Duration::from_secs(120));
        assert_eq!(waits(after(1, &asks(503, 1_000_000), HOUR, 7)), LONGEST_WAIT);
        assert!(waits(after(1, &asks(503, 0), HOUR, 7)) >= Duration::from_millis(500), "never at once");
        assert_eq!(after(1, &asks(200, 120), HOUR, 7), Next::Delivered);
    }

    #[test]
    fn f37_after_a_day_it_is_given_up() {
        let day = 24 * HOUR;
        assert!(matches!(after(60, &status(500), day - Duration::from_millis(1), 7), Next::Again(_)));
        assert_eq!(after(60, &status(500), day, 7), Next::GivenUp);
        assert_eq!(after(1, &asks(503, 1), day, 7), Next::GivenUp);
        assert_eq!(after(60, &status(200), day, 7), Next::Delivered);
        assert_eq!(after(60, &status(410), day, 7), Next::Gone);
    }

    #[test]
    fn retry_after_as_servers_write_it() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().expect("a moment");
        for (text, secs) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), secs.map(Duration::from_secs), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_wait_has_bounds(
            tries: u32, code in proptest::option::of(0..1000u16), asked: Option<u64>, age: u64, salt: u64
        ) {
            let retry_after = asked.map(Duration::from_secs);
            let answer = code.map_or(Answer::None, |code| Answer::Status { code, retry_after });
            match after(tries, &answer, Duration::from_secs(age), salt) {
                Next::Again(wait) => {
                    prop_assert!(wait >= FIRST / 2 && wait <= LONGEST_WAIT, "{wait:?}");
                    prop_assert!(age < 24 * 3600);
                }
                Next::Delivered => prop_assert!(matches!(code, Some(200..=299))),
                Next::Gone => prop_assert_eq!(code, Some(410)),
                Next::GivenUp => prop_assert!(age >= 24 * 3600),
            }
        }

        #[test]
        fn any_text_may_stand_behind_retry_after(text: String) {
            retry_after(&text, Timestamp::UNIX_EPOCH);
        }
    }
}

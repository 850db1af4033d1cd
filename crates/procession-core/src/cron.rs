//! When a schedule is due: a cron expression read on the wall clock of a time zone. Pure:
//! the moment after which to look comes in.
//!
//! The crate `cronexpr` says which wall clock times an expression matches; which moments
//! those are is decided here, because a wall clock skips hours and repeats them, and the
//! crate would run a job of a repeated hour twice, one of a skipped hour not at all, and
//! seeks for ever where clocks move by half an hour (Lord Howe). Its `L` forgets the last
//! of December, so there is none here. The rules:
//!
//! * An expression of **every hour** (`*`) follows the hours there really are: it runs in
//!   both passes of a repeated hour and not in a skipped one.
//! * One that **names hours** (`3`, `*/6`, `8-18`) runs once for each time it names: in a
//!   repeated hour at the first pass, for a skipped time at the first moment after it.
//!   Several skipped times are one run.
//!
//! The config makes it, `schedule` asks it.

use std::fmt;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Span, Timestamp, ToSpan};

/// A cron expression in a time zone. Two are equal where their texts and zones are.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    zone: TimeZone,
    /// Of UTC, where each wall clock time is one moment.
    wall: Crontab,
    every_hour: bool,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCron {
    /// More or fewer than five fields.
    #[error("{0} fields, not five: minute, hour, day of month, month, day of week")]
    Fields(usize),
    /// One field cannot be read.
    #[error("the {} \"{text}\", which cannot be read: {problem}", FIELDS[*n])]
    Field {
        /// Which, from 0.
        n: usize,
        /// As it stands there.
        text: String,
        /// Why.
        problem: String,
    },
    /// `@` and a word there is none of.
    #[error("\"{0}\", which stands for nothing; there are {known}", known = known_nicknames())]
    Nickname(String),
    /// No calendar has such a day: the 30th of February.
    #[error("a day that never comes")]
    Never,
}

const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Whether the field at `n` is of days.
fn is_of_days(n: usize) -> bool {
    n == 2 || n == 4
}

fn known_nicknames() -> String {
    NICKNAMES.map(|(name, _)| name).join(", ")
}

impl Cron {
    /// Reads `text`: five fields or a nickname such as `@daily`.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, BadCron> {
        let written = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let spelt = spelt_out(&written)?;
        let fields: Vec<&str> = spelt.split(' ').filter(|field| !field.is_empty()).collect();
        let Ok(fields) = <[&str; 5]>::try_from(fields.as_slice()) else {
            return Err(BadCron::Fields(fields.len()));
        };
        for (n, field) in fields.iter().enumerate() {
            let mut alone = ["*"; 5];
            alone[n] = field;
            let problem = match on_the_wall(&alone.join(" ")) {
                // The crate never finds it in December.
                _ if is_of_days(n) && field.contains(['L', 'l']) => {
                    "L, the last day, is not taken; take the first of the next month".to_owned()
                }
                Ok(_) => continue,
                Err(error) => reason(&error),
            };
            return Err(BadCron::Field { n, text: (*field).to_owned(), problem });
        }
        let wall = on_the_wall(&fields.join(" ")).map_err(|_| BadCron::Fields(fields.len()))?;
        let cron = Self { every_hour: is_every_hour(fields[1]), text: written, zone, wall };
        cron.next_wall(date(2000, 1, 1).at(0, 0, 0, 0)).ok_or(BadCron::Never)?;
        Ok(cron)
    }

    /// As it was written, its blanks made one.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time zone's name in the database of zones.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The first moment after `now`; `None` at the end of the calendar only.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        if self.every_hour { self.next_real(now) } else { self.next_named(now) }
    }

    /// Follows the real hours: within a stretch without changes of the zone's offset the wall
    /// clock only goes forward, so each stretch is looked at by itself.
    fn next_real(&self, now: Timestamp) -> Option<Timestamp> {
        let mut offset = self.zone.to_offset(now);
        let mut from = offset.to_datetime(now);
        for change in self.zone.following(now) {
            let next = offset.to_timestamp(self.next_wall(from)?).ok()?;
            if next < change.timestamp() {
                return Some(next);
            }
            offset = change.offset();
            // The very moment of the change is one of the new stretch.
            from = offset.to_datetime(change.timestamp()).checked_sub(1.nanosecond()).ok()?;
        }
        offset.to_timestamp(self.next_wall(from)?).ok()
    }

    /// Goes through the times it names. Their moments never go back from one to the next, so
    /// none before the wall clock's time now can be due.
    fn next_named(&self, now: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.to_datetime(now);
        loop {
            wall = self.next_wall(wall)?;
            let at = self.moment(wall)?;
            if at > now {
                return Some(at);
            }
        }
    }

    /// The one moment at which what is named `wall` runs.
    fn moment(&self, wall: DateTime) -> Option<Timestamp> {
        let offset = self.zone.to_ambiguous_timestamp(wall).offset();
        match offset {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // By the offset that is not in force yet: a moment before the change.
                let before = after.to_timestamp(wall).ok()?;
                self.zone.following(before).next().map(|change| change.timestamp())
            }
        }
    }

    /// The first wall clock time after `wall` that the expression matches.
    fn next_wall(&self, wall: DateTime) -> Option<DateTime> {
        /// The crate seeks four years at a time; a 29th of February on one day of the week is
        /// up to forty years away.
        const STRETCHES: usize = 12;
        /// The crate does not expect the end of the calendar.
        const LAST_YEAR: i16 = 9900;
        let stretch: Span = 4.years();
        let mut from = wall;
        for _ in 0..STRETCHES {
            if from.year() > LAST_YEAR {
                return None;
            }
            let at = Offset::UTC.to_timestamp(from).ok()?;
            if let Ok(found) = self.wall.find_next(MakeTimestamp(at)) {
                return Some(found.datetime());
            }
            from = from.checked_add(stretch).ok()?;
        }
        None
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.zone_name()) == (&other.text, other.zone_name())
    }
}

impl Eq for Cron {}

/// Expression and zone: what changes when either does.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone_name())
    }
}

/// The five fields a nickname stands for, else `text`.
fn spelt_out(text: &str) -> Result<&str, BadCron> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let known = NICKNAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    known.map(|(_, fields)| *fields).ok_or_else(|| BadCron::Nickname(text.to_owned()))
}

fn on_the_wall(fields: &str) -> Result<Crontab, cronexpr::Error> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(fields, options)
}

/// Whether `field` lets all 24 hours pass, however it says so.
fn is_every_hour(field: &str) -> bool {
    let at = |hour| Offset::UTC.to_timestamp(date(2000, 1, 1).at(hour, 0, 0, 0)).ok();
    let Ok(of_hours) = on_the_wall(&format!("* {field} * * *")) else { return false };
    (0..24).filter_map(at).all(|at| of_hours.matches(MakeTimestamp(at)).unwrap_or(false))
}

/// The crate's message without its drawing of the place.
fn reason(error: &cronexpr::Error) -> String {
    let said = error.to_string();
    let last = said.lines().last().unwrap_or_default();
    match last.split_once("^ ").map_or(last, |(_, problem)| problem) {
        "malformed expression" => {
            "write a number, a range such as 1-5, a list such as 1,3, a step such as */5, or *".into()
        }
        problem => problem.replace("..=", " to ").replace("; found ", ", not "),
    }
}

#[cfg(test)]
mod tests;

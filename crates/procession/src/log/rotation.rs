//! When a log file is over, what it is called from then on, and what becomes of those that
//! are over. Decides only: `writer` and `archive` ask and do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::Logging;

/// What is known of the file that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its bytes.
    pub(super) size: u64,
    /// When its first line was written; unknown while it has none.
    pub(super) since: Option<Timestamp>,
}

/// Whether the file is over before `next` more bytes are written. One without lines never is.
pub(super) fn is_over(facts: Facts, next: usize, now: Timestamp, rules: &Logging) -> bool {
    let grown = facts.size.saturating_add(next as u64);
    let too_large = rules.max_size.is_some_and(|most| grown > most);
    let too_old = match (rules.max_age, facts.since) {
        (Some(most), Some(since)) => age(since, now) >= most,
        _ => false,
    };
    facts.size > 0 && (too_large || too_old)
}

/// How many bytes of `lines` go into the file before it has to be looked at again: whole
/// lines, at least one.
pub(super) fn fitting(lines: &[u8], size: u64, rules: &Logging) -> usize {
    let Some(most) = rules.max_size else { return lines.len() };
    let room = usize::try_from(most.saturating_sub(size)).unwrap_or(usize::MAX).min(lines.len());
    match lines[..room].iter().rposition(|byte| *byte == b'\n') {
        Some(last) => last + 1,
        None => first_line(lines),
    }
}

/// The length of the first of `lines`.
pub(super) fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1)
}

/// Nothing is younger than now: a clock that was set back ages nothing.
fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// What the server logs.
    Log,
    /// What is said outside it: panics, the keeper's complaints.
    Stderr,
}

impl Family {
    const ALL: [Self; 2] = [Self::Log, Self::Stderr];

    fn stem(self) -> &'static str {
        match self {
            Family::Log => "procession",
            Family::Stderr => "stderr",
        }
    }

    /// The file that is written to.
    pub(super) fn file(self) -> String {
        format!("{}.log", self.stem())
    }
}

/// A log that is over. They sort by family, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Archived {
    family: Family,
    /// When it was over, to the second.
    at: Timestamp,
    /// Tells those of one second apart.
    number: u32,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// As it was written.
    Plain,
    /// Compressed, whole.
    Packed,
    /// Being compressed, or what a crash left of that.
    Half,
}

const STAMP: &str = "%Y%m%dT%H%M%SZ";

impl Archived {
    /// One that is over `now`, under a name that nothing in the folder has in any form.
    pub(super) fn new(family: Family, now: Timestamp, names: &[String]) -> Self {
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let taken: BTreeSet<Self> =
            names.iter().filter_map(|name| Self::parse(name)).map(|(a, _)| a).collect();
        let mut archived = Self { family, at, number: 0 };
        while taken.contains(&archived) {
            archived.number += 1;
        }
        archived
    }

    /// `procession-20261126T105725Z.log`, `…Z-1.log` for the next in the same second;
    /// compressed `….log.gz`.
    pub(super) fn name(self, form: Form) -> String {
        let stamp = self.at.strftime(STAMP);
        let number = if self.number > 0 { format!("-{}", self.number) } else { String::new() };
        format!("{}-{stamp}{number}{}", self.family.stem(), form.ending())
    }

    /// What a name in the folder says; `None` for all that is not ours.
    pub(super) fn parse(name: &str) -> Option<(Self, Form)> {
        let family =
            Family::ALL.into_iter().find(|family| name.starts_with(&format!("{}-", family.stem())))?;
        let rest = &name[family.stem().len() + 1..];
        let (rest, form) = [Form::Half, Form::Packed, Form::Plain]
            .into_iter()
            .find_map(|form| Some((rest.strip_suffix(form.ending())?, form)))?;
        let (stamp, number) = match rest.split_once('-') {
            Some((stamp, number)) => (stamp, number.parse().ok()?),
            None => (rest, 0),
        };
        let at = DateTime::strptime(STAMP, stamp).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let archived = Self { family, at, number };
        // Another spelling of the same moment is somebody else's file.
        (archived.name(form) == name).then_some((archived, form))
    }
}

impl Form {
    fn ending(self) -> &'static str {
        match self {
            Form::Plain => ".log",
            Form::Packed => ".log.gz",
            Form::Half => ".log.gz.new",
        }
    }
}

/// What is to be done in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The file of this name goes.
    Remove(String),
    /// This one is compressed.
    Pack(Archived),
}

/// What is to be done with the logs that are over: those beyond `keep` or older than `expire`
/// go, leftovers of a crash go, the rest is compressed. Removals first: they make room.
pub(super) fn plan(names: &[String], now: Timestamp, rules: &Logging) -> Vec<Step> {
    let mut all: BTreeMap<Archived, BTreeSet<Form>> = BTreeMap::new();
    for (archived, form) in names.iter().filter_map(|name| Archived::parse(name)) {
        all.entry(archived).or_default().insert(form);
    }
    let (mut steps, mut packs) = (Vec::new(), Vec::new());
    for family in Family::ALL {
        let newest_first = all.iter().rev().filter(|(archived, _)| archived.family == family);
        for (n, (archived, forms)) in newest_first.enumerate() {
            let beyond = rules.keep.is_some_and(|keep| n >= keep);
            let expired = rules.expire.is_some_and(|expire| age(archived.at, now) >= expire);
            let (plain, packed) = (forms.contains(&Form::Plain), forms.contains(&Form::Packed));
            for form in forms {
                let superfluous = match form {
                    Form::Plain => packed,
                    Form::Packed => false,
                    // One that will be packed again is written over.
                    Form::Half => packed || !plain || !rules.compress,
                };
                if beyond || expired || superfluous {
                    steps.push(Step::Remove(archived.name(*form)));
                }
            }
            if plain && !packed && rules.compress && !beyond && !expired {
                packs.push(Step::Pack(*archived));
            }
        }
    }
    steps.append(&mut packs);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn rules() -> Logging {
        Logging { max_size: Some(100), max_age: Some(Duration::from_secs(60)), ..Logging::default() }
    }

    #[test]
    fn a_file_is_over_by_size_or_by_age() {
        let rules = rules();
        let none = Logging { max_size: None, max_age: None, ..rules.clone() };
        for (size, age, next, expected) in [
            (0, 1000, 1000, false),
            (1, 0, 99, false),
            (1, 0, 100, true),
            (100, 59, 0, false),
            (50, 60, 1, true),
            (50, -60, 1, false),
            (u64::MAX, 0, usize::MAX, true),
        ] {
            let facts = Facts { size, since: Some(at(1000)) };
            assert_eq!(is_over(facts, next, at(1000 + age), &rules), expected, "{size} {age} {next}");
            assert!(!is_over(facts, next, at(1000 + age), &none));
        }
        assert!(!is_over(Facts { size: 1, since: None }, 1, at(1000), &rules), "of unknown age");
    }

    #[test]
    fn whole_lines_fit_and_at_least_one() {
        let rules = Logging { max_size: Some(10), ..rules() };
        for (lines, size, expected) in [
            ("abc\nabc\nabc\n", 0, 8),
            ("abc\nabc\nabc\n", 3, 4),
            ("abc\nabc\n", 2, 8),
            ("abc\nabc\n", 9, 4),
            ("abc\nabc\n", 10, 4),
            ("abcdefghijklmno\na\n", 0, 16),
            ("", 3, 0),
        ] {
            assert_eq!(fitting(lines.as_bytes(), size, &rules), expected, "{lines:?} {size}");
        }
        assert_eq!(fitting(b"a\nb\n", 1000, &Logging { max_size: None, ..rules }), 4);
    }

    #[test]
    fn names_are_unique_and_read_back() {
        let now: Timestamp = "2026-11-26T10:57:25.9Z".parse().expect("a time");
        let mut names = Vec::new();
        for form in [Form::Plain, Form::Packed, Form::Half, Form::Plain] {
            let archived = Archived::new(Family::Log, now, &names);
            assert_eq!(Archived::parse(&archived.name(form)), Some((archived, form)));
            names.push(archived.name(form));
        }
        assert_eq!(
            names,
            [
                "procession-20261126T105725Z.log",
                "procession-20261126T105725Z-1.log.gz",
                "procession-20261126T105725Z-2.log.gz.new",
                "procession-20261126T105725Z-3.log",
            ]
        );
        assert_eq!(
            Archived::new(Family::Stderr, now, &names).name(Form::Plain),
            "stderr-20261126T105725Z.log"
        );
        for foreign in [
            "procession.log",
            "procession.log.1",
            "procession-20261126.log",
            "procession-20261126T105725Z-0.log",
            "procession-20261126T105725Z-01.log",
            "procession-20261126T105725Z.log.bz2",
            "procession-20261326T105725Z.log",
            "other-20261126T105725Z.log",
        ] {
            assert_eq!(Archived::parse(foreign), None, "{foreign}");
        }
    }

    fn steps(names: &[&str], now: i64, rules: &Logging) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let shown = |step| match step {
            Step::Remove(name) => format!("remove {name}"),
            Step::Pack(archived) => format!("pack {}", archived.name(Form::Plain)),
        };
        plan(&names, at(now), rules).into_iter().map(shown).collect()
    }

    #[test]
    fn the_newest_are_kept_and_the_old_go() {
        let rules = Logging { keep: Some(2), expire: Some(Duration::from_secs(3 * DAY as u64)), ..rules() };
        let names = [
            "procession-19700103T000000Z-1.log.gz",
            "procession-19700103T000000Z.log",
            "procession-19700103T000000Z-10.log",
            "stderr-19700101T000000Z.log.gz",
            "procession.log",
            "stderr.log",
            "procession.log.1",
        ];
        assert_eq!(
            steps(&names, 2 * DAY, &rules),
            ["remove procession-19700103T000000Z.log", "pack procession-19700103T000000Z-10.log"]
        );
        let all_gone = [
            "remove procession-19700103T000000Z-10.log",
            "remove procession-19700103T000000Z-1.log.gz",
            "remove procession-19700103T000000Z.log",
            "remove stderr-19700101T000000Z.log.gz",
        ];
        assert_eq!(steps(&names, 5 * DAY, &rules), all_gone);
        let nothing = Logging { keep: None, expire: None, compress: false, ..rules };
        assert_eq!(steps(&names, 500 * DAY, &nothing), [""; 0]);
    }

    #[test]
    fn what_a_crash_left_half_done_is_finished() {
        let stem = "procession-19700103T000000Z.log";
        let (packed, half) = (format!("{stem}.gz"), format!("{stem}.gz.new"));
        let rules = rules();
        assert_eq!(steps(&[stem, &half], 2 * DAY, &rules), [format!("pack {stem}")]);
        assert_eq!(steps(&[stem, &packed], 2 * DAY, &rules), [format!("remove {stem}")]);
        assert_eq!(steps(&[&packed, &half], 2 * DAY, &rules), [format!("remove {half}")]);
        assert_eq!(steps(&[&half], 2 * DAY, &rules), [format!("remove {half}")]);
        let plain = Logging { compress: false, ..rules };
        assert_eq!(steps(&[stem, &half], 2 * DAY, &plain), [format!("remove {half}")]);
    }
}

//! Moments against a second implementation, the crate `croner`: directly where its policy
//! for clock changes is ours, else by its reading of wall clock times and a walk through
//! every minute. What happens at changes of the clock stands in tables.

use croner::Cron as Croner;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 9] = [
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    // Half an hour.
    "Australia/Lord_Howe",
    // Back for Ramadan.
    "Africa/Casablanca",
    // At midnight.
    "Africa/Cairo",
    "America/Santiago",
    "America/St_Johns",
];

fn zone(name: &str) -> TimeZone {
    // What comes with the program, so that the machine's own database changes no test.
    TimeZoneDatabase::bundled().get(name).expect("a zone")
}

fn cron(text: &str, name: &str) -> Cron {
    Cron::parse(text, zone(name)).unwrap_or_else(|bad| panic!("{text}: {bad}"))
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The moments after `from` up to `until`.
fn between(cron: &Cron, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(next) = cron.next_after(at).filter(|next| *next <= until) {
        assert!(next > at, "{cron}: {next} after {at}");
        found.push(next);
        at = next;
    }
    found
}

/// The same by croner's reading of the wall clock, minute by minute.
fn walked(
    text: &str,
    zone: &TimeZone,
    every_hour: bool,
    from: Timestamp,
    until: Timestamp,
) -> Vec<Timestamp> {
    let croner: Croner = text.parse().expect("croner reads it too");
    let matches = |wall: DateTime| croner.is_time_matching(&wall).expect("a time");
    let mut found = Vec::new();
    if every_hour {
        let mut at = from + 1.minute();
        while at <= until {
            if matches(zone.to_datetime(at)) {
                found.push(at);
            }
            at += 1.minute();
        }
        return found;
    }
    let mut wall = zone.to_datetime(from) - 1.day();
    let last = zone.to_datetime(until) + 1.day();
    while wall <= last {
        if matches(wall) {
            found.push(run_of(wall, zone));
        }
        wall += 1.minute();
    }
    found.dedup();
    found.retain(|at| *at > from && *at <= until);
    found
}

/// The first pass of a repeated time; the first time after a skipped one.
fn run_of(wall: DateTime, zone: &TimeZone) -> Timestamp {
    let mut wall = wall;
    loop {
        let found = zone.to_ambiguous_timestamp(wall);
        match found.offset() {
            AmbiguousOffset::Gap { .. } => wall += 1.minute(),
            _ => return found.earlier().expect("in the calendar"),
        }
    }
}

/// An expression with these hours; none that the two read differently on purpose: croner
/// takes either day where one field is a step of `*`, cron and we take both.
fn expression(hours: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let minute = prop_oneof![
        3 => (0..60u8).prop_map(|n| n.to_string()),
        1 => Just("*".to_owned()),
        2 => (1..60u8).prop_map(|n| format!("*/{n}")),
        1 => (0..30u8, 0..30u8).prop_map(|(from, more)| format!("{from}-{}", from + more)),
        1 => (0..60u8, 0..60u8).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (0..30u8, 1..30u8, 1..20u8).prop_map(|(from, more, step)| format!("{from}-{}/{step}", from + more)),
    ];
    let days = prop_oneof![
        6 => Just(("*".to_owned(), "*".to_owned())),
        1 => (1..32u8).prop_map(|n| (n.to_string(), "*".into())),
        1 => (1..16u8, 1..16u8).prop_map(|(from, more)| (format!("{from}-{}", from + more), "*".into())),
        1 => (2..9u8).prop_map(|step| (format!("*/{step}"), "*".into())),
        1 => prop::sample::select(vec!["1W", "15W", "31W"]).prop_map(|day| (day.to_owned(), "*".into())),
        2 => weekdays().prop_map(|weekdays| ("*".into(), weekdays)),
        2 => (1..32u8, weekdays()).prop_map(|(n, weekdays)| (n.to_string(), weekdays)),
    ];
    let month = prop_oneof![
        6 => Just("*".to_owned()),
        1 => (1..13u8).prop_map(|n| n.to_string()),
        1 => Just("MAR-APR,oct,NOV".to_owned()),
    ];
    (minute, hours, days, month)
        .prop_map(|(minute, hour, (day, weekday), month)| format!("{minute} {hour} {day} {month} {weekday}"))
}

fn weekdays() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..8u8).prop_map(|n| n.to_string()),
        Just("MON-FRI".to_owned()),
        Just("sun,Tue".to_owned()),
        Just("SUN#1".to_owned()),
    ]
}

fn every_hour() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("*".to_owned()), 1 => Just("*/1".to_owned()), 1 => Just("0-23".to_owned())]
}

fn named_hours() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..5u8).prop_map(|n| n.to_string()),
        2 => (0..24u8).prop_map(|n| n.to_string()),
        1 => (2..13u8).prop_map(|step| format!("*/{step}")),
        1 => (0..12u8, 0..11u8).prop_map(|(from, more)| format!("{from}-{}", from + more)),
        1 => (0..24u8, 0..24u8).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

/// Two days around a change of the zone's clock, else anywhere.
fn window(zone: &TimeZone, from: i64) -> (Timestamp, Timestamp) {
    let from = Timestamp::from_second(from * 60).expect("in the calendar");
    let change = zone.following(from).next().map_or(from, |change| change.timestamp());
    (change - 30.hours(), change + 30.hours())
}

/// Minutes from 2024 to 2037.
fn minutes() -> std::ops::Range<i64> {
    28_401_120..35_239_680
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_hour_follows_the_real_hours(
        text in expression(every_hour()), name in proptest::sample::select(&ZONES[..]), from in minutes(),
    ) {
        let Ok(cron) = Cron::parse(&text, zone(name)) else { return Ok(()) };
        let (from, until) = window(&zone(name), from);
        prop_assert_eq!(between(&cron, from, until), walked(&text, &zone(name), true, from, until));
    }

    #[test]
    fn named_hours_run_once(
        text in expression(named_hours()), name in proptest::sample::select(&ZONES[..]), from in minutes(),
    ) {
        let Ok(cron) = Cron::parse(&text, zone(name)) else { return Ok(()) };
        let (from, until) = window(&zone(name), from);
        prop_assert_eq!(between(&cron, from, until), walked(&text, &zone(name), false, from, until));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// From any second, also within changes. For an expression of one time a day croner's policy
    /// is ours but for a skipped midnight, where it forgets the day.
    #[test]
    fn the_next_moment_is_croners(
        text in expression(Just("HOUR".to_owned())), minute in 0..60u8, hour in proptest::option::of(0..24u8),
        name in proptest::sample::select(&ZONES[..6]), from in minutes(), into in -7200..7200i64,
    ) {
        let hour = hour.map_or("*".to_owned(), |hour| hour.to_string());
        let (_, days) = text.split_once("HOUR").expect("it is there");
        let text = format!("{minute} {hour}{days}");
        let zone = zone(name);
        let Ok(cron) = Cron::parse(&text, zone.clone()) else { return Ok(()) };
        let from = window(&zone, from).0 + 30.hours() + into.seconds();
        let croner: Croner = text.parse().expect("an expression");
        let mut theirs = from.to_zoned(zone);
        let mut ours = from;
        for _ in 0..20 {
            theirs = croner.find_next_occurrence(&theirs, false).expect("a moment");
            ours = cron.next_after(ours).expect("a moment");
            prop_assert_eq!(ours, theirs.timestamp(), "{} after {}", cron, from);
        }
    }
}

/// One row: expression, zone, a stretch of moments, and the runs in it.
type Row = (&'static str, &'static str, (&'static str, &'static str), &'static [&'static str]);

fn check(rows: &[Row]) {
    for (text, name, (from, until), expected) in rows {
        let shown: Vec<String> = between(&cron(text, name), moment(from), moment(until))
            .iter()
            .map(|at| at.to_zoned(zone(name)).strftime("%d %H:%M%:z").to_string())
            .collect();
        assert_eq!(shown, *expected, "{text} in {name}");
    }
}

const BERLIN_FORWARD: (&str, &str) = ("2025-03-30T00:30+01:00", "2025-03-30T05:00+02:00");
const BERLIN_BACK: (&str, &str) = ("2025-10-26T01:30+02:00", "2025-10-26T04:00+01:00");

#[test]
fn f18_a_skipped_hour() {
    check(&[
        // One of a time that is not there runs at the first moment after, once.
        ("30 2 * * *", "Europe/Berlin", BERLIN_FORWARD, &["30 03:00+02:00"]),
        ("*/15 2 * * *", "Europe/Berlin", BERLIN_FORWARD, &["30 03:00+02:00"]),
        ("30 2,3 * * *", "Europe/Berlin", BERLIN_FORWARD, &["30 03:00+02:00", "30 03:30+02:00"]),
        ("0 2,3 * * *", "Europe/Berlin", BERLIN_FORWARD, &["30 03:00+02:00"]),
        ("0 */2 * * *", "Europe/Berlin", BERLIN_FORWARD, &["30 03:00+02:00", "30 04:00+02:00"]),
        // One of every hour has no run that is not there.
        (
            "30 * * * *",
            "Europe/Berlin",
            BERLIN_FORWARD,
            &["30 01:30+01:00", "30 03:30+02:00", "30 04:30+02:00"],
        ),
        (
            "*/30 1 * * *",
            "Europe/Berlin",
            ("2025-03-30T00:30+01:00", "2025-03-30T23:00+02:00"),
            &["30 01:00+01:00", "30 01:30+01:00"],
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            ("2025-10-05T00:00+10:30", "2025-10-06T00:00+11:00"),
            &["05 02:30+11:00"],
        ),
        (
            "30 0 * * FRI",
            "Africa/Cairo",
            ("2025-04-24T20:00+02:00", "2025-04-26T00:00+03:00"),
            &["25 01:00+03:00"],
        ),
        // A whole day was skipped.
        (
            "0 3 * * *",
            "Pacific/Apia",
            ("2011-12-29T00:00-10:00", "2011-12-31T12:00+14:00"),
            &["29 03:00-10:00", "31 00:00+14:00", "31 03:00+14:00"],
        ),
    ]);
}

#[test]
fn f18_a_repeated_hour() {
    check(&[
        // One that names the hour runs in its first pass only.
        ("30 2 * * *", "Europe/Berlin", BERLIN_BACK, &["26 02:30+02:00"]),
        ("*/30 2 * * *", "Europe/Berlin", BERLIN_BACK, &["26 02:00+02:00", "26 02:30+02:00"]),
        ("0 */3 * * *", "Europe/Berlin", BERLIN_BACK, &["26 03:00+01:00"]),
        // One of every hour runs in both.
        ("30 * * * *", "Europe/Berlin", BERLIN_BACK, &["26 02:30+02:00", "26 02:30+01:00", "26 03:30+01:00"]),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            ("2025-04-06T00:00+11:00", "2025-04-07T00:00+10:30"),
            &["06 01:45+11:00"],
        ),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            ("2025-04-06T01:00+11:00", "2025-04-06T03:00+10:30"),
            &["06 01:45+11:00", "06 01:45+10:30", "06 02:45+10:30"],
        ),
        // `cronexpr` alone seeks this one for ever.
        (
            "0 3 * * *",
            "Australia/Lord_Howe",
            ("2025-04-06T00:10+11:00", "2025-04-07T00:00+10:30"),
            &["06 03:00+10:30"],
        ),
        (
            "30 2 * * *",
            "Africa/Casablanca",
            ("2025-02-23T00:00+01:00", "2025-02-24T00:00+00:00"),
            &["23 02:30+01:00"],
        ),
    ]);
}

#[test]
fn from_within_a_repeated_hour() {
    let daily = cron("30 2 * * *", "Europe/Berlin");
    // Its first pass is over: the next is tomorrow's.
    for second_pass in ["2025-10-26T02:00+01:00", "2025-10-26T02:29:59+01:00", "2025-10-26T02:31+01:00"] {
        assert_eq!(daily.next_after(moment(second_pass)), Some(moment("2025-10-27T02:30+01:00")));
    }
    let hourly = cron("30 * * * *", "Europe/Berlin");
    let second_pass = Some(moment("2025-10-26T02:30+01:00"));
    assert_eq!(hourly.next_after(moment("2025-10-26T02:30+02:00")), second_pass);
    assert_eq!(hourly.next_after(moment("2025-10-26T02:10+01:00")), second_pass);
}

#[test]
fn the_next_moment_is_after_now() {
    let cron = cron("0 3 * * *", "Asia/Shanghai");
    let due = moment("2026-08-01T03:00+08:00");
    assert_eq!(cron.next_after(due - 1.nanosecond()), Some(due));
    assert_eq!(cron.next_after(due), Some(due + 24.hours()));
    assert_eq!(cron.next_after(due + 1.nanosecond()), Some(due + 24.hours()));
    assert_eq!(cron.next_after(Timestamp::MAX), None);
}

#[test]
fn days_far_away() {
    check(&[
        ("0 0 29 2 *", "UTC", ("2096-03-01T00:00Z", "2105-01-01T00:00Z"), &["29 00:00+00:00"]),
        ("0 0 31W * *", "UTC", ("2025-05-29T00:00Z", "2025-06-30T00:00Z"), &["30 00:00+00:00"]),
    ]);
    // Either day, unless one of the two fields begins with a star: as cron does.
    let either = cron("0 0 13 * FRI", "UTC");
    assert_eq!(either.next_after(moment("2026-08-08T00:00Z")), Some(moment("2026-08-13T00:00Z")));
    let both = cron("0 0 */13 * FRI", "UTC");
    assert_eq!(both.next_after(moment("2026-08-08T00:00Z")), Some(moment("2026-08-14T00:00Z")));
}

#[test]
fn nicknames_and_names() {
    for (short, long) in NICKNAMES {
        let (short, long) = (cron(short, "Europe/Berlin"), cron(long, "Europe/Berlin"));
        let from = moment("2026-08-08T00:00Z");
        assert_eq!(short.next_after(from), long.next_after(from));
        assert_ne!(short, long);
    }
    let (names, numbers) = (cron("0 9 * jan,AUG Mon-fri", "UTC"), cron("0 9 * 1,8 1-5", "UTC"));
    let from = moment("2026-08-08T00:00Z");
    let until = moment("2026-09-08T00:00Z");
    assert_eq!(between(&names, from, until), between(&numbers, from, until));
    assert_eq!(cron("  0\t3 * *   * ", "Asia/Shanghai").to_string(), "0 3 * * * Asia/Shanghai");
    assert_eq!(cron("0  3 * * *", "asia/shanghai"), cron("0 3 * * *", "Asia/Shanghai"));
    assert_ne!(cron("0 3 * * *", "UTC"), cron("0 3 * * *", "Asia/Shanghai"));
}

#[test]
fn what_is_wrong_is_named() {
    let says = |text: &str| Cron::parse(text, TimeZone::UTC).expect_err(text).to_string();
    for (text, expected) in [
        ("", "0 fields, not five: minute, hour, day of month, month, day of week"),
        ("* * * *", "4 fields, not five: minute, hour, day of month, month, day of week"),
        ("0 0 3 * * *", "6 fields, not five: minute, hour, day of month, month, day of week"),
        ("61 * * * *", "the minute \"61\", which cannot be read: value must be in range 0 to 59, not 61"),
        ("0 5-2 * * *", "the hour \"5-2\", which cannot be read: range must be in ascending order, not 5-2"),
        ("*/0 * * * *", "the minute \"*/0\", which cannot be read: step must be greater than 0"),
        (
            "* * * * FRU",
            "the day of week \"FRU\", which cannot be read: write a number, a range such as 1-5, a list such as 1,3, a step such as */5, or *",
        ),
        ("0 3 30 2 *", "a day that never comes"),
        ("0 3 30 FEB MON#5", ""),
        (
            "@reboot",
            "\"@reboot\", which stands for nothing; there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
        ),
    ] {
        if expected.is_empty() {
            assert!(Cron::parse(text, TimeZone::UTC).is_ok(), "{text}: a fifth Monday of February comes");
        } else {
            assert_eq!(says(text), expected, "{text}");
        }
    }
    for text in
        ["0 3 ? * *", "H * * * *", "é * * * *", "* * * * 8", "0 0 0 * *", "-1 * * * *", "1,,2 * * * *"]
    {
        assert!(says(text).starts_with("the "), "{text}: {}", says(text));
    }
}

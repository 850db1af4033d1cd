//! Times, spans and sizes as people read them: rounded, one or two units. Never for
//! programs; those get the JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `12s ago`, `3m ago`, `in 5m`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let ms = now.as_millisecond() - at.as_millisecond();
    match ms {
        -999..=999 => "now".into(),
        1000.. => format!("{} ago", coarse(ms.unsigned_abs())),
        _ => format!("in {}", coarse(ms.unsigned_abs())),
    }
}

/// The local wall clock, and how long ago that is.
pub(super) fn exact(at: Timestamp, now: Timestamp) -> String {
    let local = at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S");
    format!("{local} ({})", ago(at, now))
}

/// One unit: the largest that fits.
fn coarse(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// `812ms`, `4.2s`, `1m58s`, `2h05m`, `3d04h`.
pub(super) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `120 B`, `1.5 KiB`, `30.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64 / 1024.0;
    if value < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("in range");
        for (ms, text) in [
            (0, "now"),
            (12_000, "12s ago"),
            (59_999, "59s ago"),
            (60_000, "1m ago"),
            (7_200_000, "2h ago"),
            (172_800_000, "2d ago"),
            (-5_000, "in 5s"),
            (-300_000, "in 5m"),
        ] {
            assert_eq!(ago(at(1_000_000_000), at(1_000_000_000 + ms)), text);
        }
    }

    #[test]
    fn spans() {
        for (ms, text) in [
            (0, "0ms"),
            (812, "812ms"),
            (4_250, "4.2s"),
            (118_000, "1m58s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (30 << 20, "30.0 MiB"), (1 << 40, "1.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}

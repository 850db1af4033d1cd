//! Durations and sizes as people write them: `250ms 10s 5m 1h30m 7d`, `64KiB 1MiB`.

use std::time::Duration;

/// The text is not a quantity; says what one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// Not a duration.
    #[error("not a duration: write 250ms, 10s, 5m, 1h30m or 7d")]
    Duration,
    /// Not a size.
    #[error("not a size: write 512B, 64KiB, 1MiB or 2GiB")]
    Size,
}

/// `1h30m`, each unit at most once, largest first; a bare number is refused.
pub fn parse_duration(text: &str) -> Result<Duration, BadQuantity> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut allowed = &UNITS[..];
    if rest.is_empty() {
        return Err(BadQuantity::Duration);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| BadQuantity::Duration)?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let unit = &rest[digits..unit_end];
        let at = allowed.iter().position(|(name, _)| *name == unit).ok_or(BadQuantity::Duration)?;
        let part = number.checked_mul(allowed[at].1).ok_or(BadQuantity::Duration)?;
        total = total.checked_add(part).ok_or(BadQuantity::Duration)?;
        allowed = &allowed[at + 1..];
        rest = &rest[unit_end..];
    }
    Ok(Duration::from_millis(total))
}

/// `64KiB`, `1MiB`, `2GiB`, `512B`; binary units only.
pub fn parse_size(text: &str) -> Result<u64, BadQuantity> {
    const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| BadQuantity::Size)?;
    let unit = text[digits..].trim_start();
    let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(BadQuantity::Size)?;
    number.checked_mul(1 << shift).ok_or(BadQuantity::Size)
}

/// The shortest text that [`parse_duration`] reads back, to the millisecond.
pub fn show_duration(duration: Duration) -> String {
    let mut ms = duration.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if ms >= size {
            text.push_str(&format!("{}{unit}", ms / size));
            ms %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
        {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
            assert_eq!(show_duration(duration), text);
        }
        for bad in ["", "10", "s", "1m1h", "1s1s", "-1s", "1.5s", "99999999999999999999d", "1 s x"] {
            assert_eq!(parse_duration(bad), Err(BadQuantity::Duration), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0B", 0), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2 GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "1", "1MB", "KiB", "-1B", "99999999TiB"] {
            assert_eq!(parse_size(bad), Err(BadQuantity::Size), "{bad}");
        }
    }
}

//! `[log]`: what the server logs and how long that is kept. Nothing here writes any.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::section::{Section, Text};

/// `[log]`, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// A level, or directives as `tracing`'s `EnvFilter` reads them.
    pub level: String,
    /// Bytes beyond which a file is rotated; `None`: never by size.
    pub max_size: Option<u64>,
    /// Age of its first line from which a file is rotated; `None`: never by age.
    pub max_age: Option<Duration>,
    /// Rotated files kept, the newest; `None`: all.
    pub keep: Option<usize>,
    /// Age from which a rotated file is removed; `None`: never by age.
    pub expire: Option<Duration>,
    /// Whether rotated files are compressed.
    pub compress: bool,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Room for a few lines: with less each would be a file of its own.
const SMALLEST: u64 = 4 << 10;

/// More files than anybody looks through.
const MOST_FILES: u64 = 100_000;

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".into(),
            max_size: Some(50 << 20),
            max_age: Some(DAY),
            keep: Some(14),
            expire: Some(30 * DAY),
            compress: true,
        }
    }
}

impl Logging {
    pub(super) fn read(section: Option<&Section<'_>>) -> Self {
        let mut log = Self::default();
        let Some(section) = section else { return log };
        if let Some(level) = section.text("level").and_then(|text| level(&text)) {
            log.level = level;
        }
        if let Some(max_size) = max_size(section) {
            log.max_size = max_size;
        }
        if let Some(max_age) = section.bound("max_age") {
            log.max_age = max_age;
        }
        if let Some(keep) = keep(section) {
            log.keep = keep;
        }
        if let Some(expire) = section.bound("expire") {
            log.expire = expire;
        }
        if let Some(compress) = section.flag("compress") {
            log.compress = compress;
        }
        log
    }
}

/// A word alone is a level: the filter would take any other for the name of a room, and log
/// nothing else.
fn level(text: &Text<'_>) -> Option<String> {
    const LEVELS: [(&str, ()); 5] = [("error", ()), ("warn", ()), ("info", ()), ("debug", ()), ("trace", ())];
    if text.text.contains(['=', '[']) {
        if let Err(error) = EnvFilter::try_new(text.text) {
            text.error(
                format!("`level` is no filter: {error}"),
                "write a level, or \"info,procession::scheduler=debug\"",
            );
            return None;
        }
        return Some(text.text.to_owned());
    }
    text.choice(&LEVELS).map(|()| text.text.to_owned())
}

fn max_size(section: &Section<'_>) -> Option<Option<u64>> {
    let item = section.item("max_size")?;
    if item.is_none() {
        return Some(None);
    }
    let size = item.size()?;
    if size < SMALLEST {
        section.report.error(
            &item.span,
            "`max_size` is less than 4KiB",
            "write 4KiB or more, or \"none\" for no bound",
        );
        return None;
    }
    Some(Some(size))
}

fn keep(section: &Section<'_>) -> Option<Option<usize>> {
    let item = section.item("keep")?;
    if item.is_none() {
        return Some(None);
    }
    let count = item.count(1..=MOST_FILES)?;
    Some(usize::try_from(count).ok())
}

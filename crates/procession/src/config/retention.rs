//! `[retention]`: how long finished jobs and their output are kept. A background service
//! deletes by it; nothing is ever deleted of a job that is not over.

use std::time::Duration;

use super::section::Section;

/// `[retention]`, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Finished jobs older than this go; `None`: they stay.
    pub finished: Option<Duration>,
    /// Bytes of output kept of all finished jobs; beyond it the oldest go. `None`: no bound.
    pub output: Option<u64>,
    /// Free bytes of the data directory's disk below which no job is accepted; `None`: the
    /// disk may run full.
    pub min_free: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { finished: Some(Duration::from_secs(7 * 24 * 3600)), output: None, min_free: None }
    }
}

impl Retention {
    /// Keeps everything.
    #[cfg(test)]
    pub fn for_testing() -> Self {
        Self { finished: None, output: None, min_free: None }
    }

    pub(super) fn read(section: Option<&Section<'_>>) -> Self {
        let mut retention = Self::default();
        let Some(section) = section else { return retention };
        if let Some(finished) = section.bound("finished") {
            retention.finished = finished;
        }
        if let Some(output) = size_or_none(section, "output") {
            retention.output = output;
        }
        if let Some(min_free) = size_or_none(section, "min_free") {
            retention.min_free = min_free;
        }
        retention
    }
}

fn size_or_none(section: &Section<'_>, key: &'static str) -> Option<Option<u64>> {
    let item = section.item(key)?;
    if item.is_none() { Some(None) } else { item.size().map(Some) }
}

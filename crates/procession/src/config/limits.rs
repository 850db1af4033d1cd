//! `[limits]`: what bounds this node as a whole.

use super::section::Section;

/// `[limits]`, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts at once on this node; at least 1.
    pub max_running: u64,
}

impl Limits {
    /// The default on a machine with `cores` cores: four attempts for each, since most
    /// programs wait more than they compute.
    pub fn for_cores(cores: u64) -> Self {
        Self { max_running: cores.max(1) * 4 }
    }

    /// Two attempts at once.
    #[cfg(test)]
    pub fn for_testing() -> Self {
        Self { max_running: 2 }
    }

    pub(super) fn read(section: Option<&Section<'_>>, cores: u64) -> Self {
        let mut limits = Self::for_cores(cores);
        // A number nobody means; more processes than a kernel has ids for.
        const MOST: u64 = 1 << 22;
        if let Some(max_running) = section.and_then(|section| section.count("max_running", 1..=MOST)) {
            limits.max_running = max_running;
        }
        limits
    }
}

impl Default for Limits {
    /// As for this machine's cores.
    fn default() -> Self {
        Self::for_cores(std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64))
    }
}

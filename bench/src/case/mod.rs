//! What is measured: a file for each case. A case starts its own server, measures the bare
//! limit beside it, and returns figures; it knows nothing of repetitions or reports.

mod accept;
mod answer;
mod cpu;
mod jobs;
mod leftover;
mod memory;
mod output;
mod timeout;
mod xargs;

use std::io;
use std::path::Path;

use crate::bench::{Bench, quoted};
use crate::figure::Figure;

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The target's number in the product's plan; empty where it has none.
    pub(crate) target: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Bench) -> io::Result<Vec<Figure>>,
}

/// All there are, in the order they run.
pub(crate) const CASES: [Case; 9] = [
    Case { name: "jobs", target: "T1", about: "tiny jobs end to end", run: jobs::run },
    Case { name: "accept", target: "T2", about: "accepted jobs, the task paused", run: accept::run },
    Case { name: "answer", target: "T3", about: "latency of the answer at 100/s", run: answer::run },
    Case { name: "cpu", target: "T4", about: "processor time for each tiny job", run: cpu::run },
    Case { name: "memory", target: "T5", about: "idle, with jobs, with connections", run: memory::run },
    Case { name: "timeout", target: "T7", about: "how late time-outs end jobs", run: timeout::run },
    Case { name: "output", target: "T9", about: "a GiB of output", run: output::run },
    Case { name: "leftover", target: "", about: "a grandchild holds the output", run: leftover::run },
    Case { name: "xargs", target: "", about: "the same jobs by xargs -P2", run: xargs::run },
];

/// A task that runs a program without arguments, with room for any number of jobs.
fn task(name: &str, program: &Path) -> String {
    format!("[task.{name}]\ncommand = [{}]\nmax_queued = 10000000\n", quoted(program))
}

//! The machine a run was made on, and how busy others kept it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long the machine is watched before a case.
const WATCH: Duration = Duration::from_millis(150);

/// Quiet enough.
const QUIET: f64 = 0.1;

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits, but not for ever, until others leave the machine alone; how busy they keep it then.
pub(crate) fn wait_for_quiet() -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let busy = busy_share();
        if busy < QUIET || Instant::now() > deadline {
            return busy;
        }
    }
}

/// The share of all cores that others use, seen over a moment in which we rest.
pub(crate) fn busy_share() -> f64 {
    let before = ticks();
    std::thread::sleep(WATCH);
    let (busy, all) = ticks();
    (busy - before.0) / (all - before.1).max(1.0)
}

/// Busy and all clock ticks since the machine started.
fn ticks() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let all: f64 = ticks.iter().take(8).sum();
    // The fourth and fifth are idle and waiting for a disk.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// Cores, memory and kernel, without names.
pub(crate) fn shape() -> Value {
    let first = |path: &str, field: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": first("/proc/cpuinfo", "model name"),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
    })
}

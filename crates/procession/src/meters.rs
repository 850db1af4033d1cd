//! How fast jobs come and go, task by task, over the last minute: shown by `/v1/tasks`,
//! and what `Retry-After` is computed from.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procession_core::api::Rates;
use procession_core::id::TaskName;

/// The window, in one-second buckets.
const SECONDS: usize = 60;

/// Counts of the last minute.
#[derive(Debug)]
pub struct Meters {
    begun: Instant,
    tasks: Mutex<HashMap<TaskName, TaskMeter>>,
}

#[derive(Debug)]
struct TaskMeter {
    submitted: Window,
    finished: Window,
}

/// Events of each of the last [`SECONDS`] seconds.
#[derive(Clone, Debug)]
struct Window {
    counts: [u32; SECONDS],
    newest: u64,
}

impl Default for Meters {
    fn default() -> Self {
        Self { begun: Instant::now(), tasks: Mutex::default() }
    }
}

impl Meters {
    /// A job was taken.
    pub fn submitted(&self, task: &TaskName) {
        self.count(task, |meter| &mut meter.submitted);
    }

    /// A job ended.
    pub fn finished(&self, task: &TaskName) {
        self.count(task, |meter| &mut meter.finished);
    }

    /// Both rates of a task.
    pub fn rates(&self, task: &TaskName) -> Rates {
        let now = self.second();
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = |window: &Window| window.per_second(now);
        tasks.get(task).map_or_else(Rates::default, |meter| Rates {
            submitted_per_second: rate(&meter.submitted),
            finished_per_second: rate(&meter.finished),
        })
    }

    /// When a place of `task` is expected to be free: one job's share of the measured rate,
    /// in whole seconds from 1 to 60.
    pub fn retry_after(&self, task: &TaskName) -> Duration {
        let rate = self.rates(task).finished_per_second;
        let seconds = if rate > 0.0 { (1.0 / rate).ceil().clamp(1.0, 60.0) } else { 5.0 };
        Duration::from_secs(seconds as u64)
    }

    fn second(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    fn count(&self, task: &TaskName, which: fn(&mut TaskMeter) -> &mut Window) {
        let now = self.second();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks.get_mut(task) {
            Some(meter) => which(meter).add(now),
            None => {
                let mut meter = TaskMeter { submitted: Window::at(now), finished: Window::at(now) };
                which(&mut meter).add(now);
                tasks.insert(task.clone(), meter);
            }
        }
    }
}

impl Window {
    fn at(now: u64) -> Self {
        Self { counts: [0; SECONDS], newest: now }
    }

    fn add(&mut self, now: u64) {
        self.forget(now);
        let bucket = &mut self.counts[now as usize % SECONDS];
        *bucket = bucket.saturating_add(1);
    }

    /// Clears the buckets that `now` has left behind.
    fn forget(&mut self, now: u64) {
        let passed = now.saturating_sub(self.newest).min(SECONDS as u64);
        for second in 0..passed {
            self.counts[(now - second) as usize % SECONDS] = 0;
        }
        self.newest = self.newest.max(now);
    }

    fn per_second(&self, now: u64) -> f64 {
        let mut window = self.clone();
        window.forget(now);
        let sum: u64 = window.counts.iter().copied().map(u64::from).sum();
        sum as f64 / (now + 1).min(SECONDS as u64) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_after_a_minute() {
        let mut window = Window::at(0);
        for now in [0, 0, 1, 59] {
            window.add(now);
        }
        assert_eq!(window.per_second(59), 4.0 / 60.0);
        assert_eq!(window.per_second(60), 2.0 / 60.0);
        assert_eq!(window.per_second(118), 1.0 / 60.0);
        assert_eq!(window.per_second(10_000), 0.0);
        window.add(10_000);
        assert_eq!(window.per_second(10_000), 1.0 / 60.0);
    }

    #[test]
    fn retry_after_follows_the_rate() {
        let meters = Meters::default();
        let task: TaskName = "t".parse().expect("a name");
        assert_eq!(meters.retry_after(&task), Duration::from_secs(5), "nothing measured yet");
        for _ in 0..10 {
            meters.finished(&task);
        }
        assert_eq!(meters.retry_after(&task), Duration::from_secs(1));
    }
}

//! The schedules of the config, for whoever asks by name, and the bell for the one who looks at
//! the clock: `http` rings it after a change, `maintenance/schedules` hears it.

use std::collections::BTreeMap;
use std::sync::Arc;

use procession_core::schedule::{Schedule, ScheduleName};
use tokio::sync::Notify;

/// What runs by the clock.
#[derive(Debug, Default)]
pub struct Timetable {
    /// By name.
    pub schedules: BTreeMap<ScheduleName, Arc<Schedule>>,
    /// Something else may be due next.
    pub changed: Notify,
}

impl Timetable {
    /// Of a config.
    pub fn new(schedules: BTreeMap<ScheduleName, Arc<Schedule>>) -> Self {
        Self { schedules, changed: Notify::new() }
    }
}

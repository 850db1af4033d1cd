//! Runs what runs by the clock. The wall clock is read anew at every look, at most [`NET`]
//! apart: who sets it is noticed then, and core says what that means. What is due stands in
//! the store, so that a server that dies, or gives its place away, lets no moment come twice.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use procession_core::schedule::{Look, Schedule};
use procession_core::task::Task;
use procession_store::{Fire, Fired, Occasion, StoreError};

use crate::drain::{Drain, Stage};
use crate::submit::{Door, Ran, SubmitError};
use crate::timetable::Timetable;

/// The longest between two looks.
const NET: Duration = Duration::from_secs(2);

/// After something failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs until the server drains or retires: what is due then the next one runs.
pub async fn run_schedules(door: Arc<Door>, timetable: Arc<Timetable>, drain: Arc<Drain>) {
    if timetable.schedules.is_empty() {
        return;
    }
    while !drain.starts_nothing() {
        let changed = timetable.changed.notified();
        let wait = look(&door, &timetable, &drain).await.unwrap_or_else(|error| after(&door, &error));
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(wait) => {}
            () = drain.reached(Stage::Retiring) => {}
        }
    }
}

/// Runs what is due; how long nothing will be. What fails of one schedule holds up no other.
async fn look(door: &Door, timetable: &Timetable, drain: &Drain) -> Result<Duration, SubmitError> {
    let mut wait = NET;
    let rows = door.store.schedules().await?;
    // One clock for all: those of one moment are looked at together.
    let now = Timestamp::now();
    for row in rows.into_iter().filter(|row| !row.paused) {
        let (Some(due), Some(schedule)) = (row.next_at, timetable.schedules.get(&row.name)) else { continue };
        let Some(task) = door.tasks.get(&schedule.task) else { continue };
        if drain.starts_nothing() {
            break;
        }
        wait = wait.min(match turn(door, schedule, task, due, now).await {
            Ok(next) => next.map_or(NET, |next| until(next, now)),
            Err(error) => after(door, &error),
        });
    }
    Ok(wait)
}

/// Does what is to be done of one schedule; its next moment.
async fn turn(
    door: &Door,
    schedule: &Schedule,
    task: &Arc<Task>,
    due: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, SubmitError> {
    match schedule.look(due, now) {
        Look::Wait => Ok(Some(due)),
        Look::Run { next } => {
            run(door, schedule, task, Occasion::Moment { due, next }).await?;
            Ok(next)
        }
        Look::Missed { next } => {
            if pass(door, schedule, Occasion::Moment { due, next }).await? {
                tracing::warn!(schedule = %schedule.name, %due, "its time had passed when the server looked");
            }
            Ok(next)
        }
    }
}

async fn run(
    door: &Door,
    schedule: &Schedule,
    task: &Arc<Task>,
    moment: Occasion,
) -> Result<(), SubmitError> {
    let name = &schedule.name;
    match door.run(schedule, task, moment).await {
        Ok(Ran::Job(accepted)) => tracing::info!(schedule = %name, job = %accepted.id(), "it is time"),
        Ok(Ran::Skipped(before)) => {
            tracing::info!(schedule = %name, job = %before, "it is time, but its job before is not over");
        }
        Ok(Ran::Nothing) => {}
        // It would be refused at any time.
        Err(error @ (SubmitError::Rejected(_) | SubmitError::Json(_))) => {
            tracing::error!(schedule = %name, %error, "its task refuses its payload: it does not run");
            pass(door, schedule, moment).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Lets a moment pass without a job; `false`: it had passed already.
async fn pass(door: &Door, schedule: &Schedule, occasion: Occasion) -> Result<bool, StoreError> {
    let (name, overlap, at) = (schedule.name.clone(), schedule.overlap, Timestamp::now());
    let passed = door.store.fire(Fire { name, occasion, overlap, job: None, at }).await?;
    Ok(passed == Fired::Passed)
}

fn until(next: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    // A timer is no finer.
    left.max(Duration::from_millis(1))
}

/// What a failure means for the next look.
fn after(door: &Door, error: &SubmitError) -> Duration {
    match error {
        SubmitError::Store(error @ StoreError::Disk(_)) => door.background.give_up(error),
        // The next server's; or on a full disk, which others tell of.
        SubmitError::Draining | SubmitError::Store(StoreError::Closed | StoreError::Full) => {}
        error => tracing::error!(%error, "what is due by the clock cannot be run"),
    }
    PAUSE
}

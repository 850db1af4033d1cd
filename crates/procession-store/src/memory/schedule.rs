//! What runs by the clock, and a run whose moment passes with its submission.

use procession_core::schedule::ScheduleName;

use super::queue::{Queue, Scheduled};
use super::submit;
use crate::error::StoreError;
use crate::store::{Fire, Fired, KnownSchedule, Occasion, ScheduleRow, ScheduleState};

pub(super) fn put_schedules(queue: &mut Queue, known: Vec<KnownSchedule>) {
    queue.schedules.retain(|name, _| known.iter().any(|schedule| schedule.name == *name));
    for KnownSchedule { name, rhythm, first } in known {
        let schedule = queue.schedules.entry(name).or_default();
        if schedule.rhythm.as_ref() != Some(&rhythm) {
            schedule.rhythm = Some(rhythm);
            schedule.next_at = first;
        }
    }
}

pub(super) fn schedules(queue: &Queue) -> Vec<ScheduleRow> {
    let row = |(name, schedule): (&ScheduleName, &Scheduled)| ScheduleRow {
        name: name.clone(),
        paused: schedule.paused,
        next_at: schedule.next_at,
        last_at: schedule.last_at,
        last_job: schedule.last_job,
    };
    queue.schedules.iter().map(row).collect()
}

pub(super) fn fire(queue: &mut Queue, fire: Fire) -> Result<Fired, StoreError> {
    let Some(schedule) = queue.schedules.get_mut(&fire.name) else { return Ok(Fired::Unknown) };
    if let Occasion::Moment { due, next } = fire.occasion {
        if schedule.paused || schedule.next_at != Some(due) {
            return Ok(Fired::Stale);
        }
        schedule.next_at = next;
    }
    let before = schedule.last_job;
    let Some(job) = fire.job else { return Ok(Fired::Passed) };
    let unfinished = before.filter(|id| queue.jobs.get(id).is_some_and(|job| job.end.is_none()));
    if let Some(before) = unfinished.filter(|_| !fire.overlap.allows(true)) {
        return Ok(Fired::Skipped(before));
    }
    let id = job.id;
    let submitted = submit::submit(queue, job)?;
    if let (Some(ran), Some(schedule)) = (submitted.job(id), queue.schedules.get_mut(&fire.name)) {
        schedule.last_at = Some(fire.at);
        schedule.last_job = Some(ran);
    }
    Ok(Fired::Submitted(submitted))
}

pub(super) fn set_schedule(queue: &mut Queue, name: &ScheduleName, state: ScheduleState) -> bool {
    let Some(schedule) = queue.schedules.get_mut(name) else { return false };
    match state {
        ScheduleState::Paused => schedule.paused = true,
        ScheduleState::Open { next } if schedule.paused => {
            schedule.paused = false;
            schedule.next_at = next;
        }
        ScheduleState::Open { .. } => {}
    }
    true
}

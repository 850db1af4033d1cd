//! `GET /v1/schedules`, `/v1/schedules/{schedule}`, `POST …/run`, `…/pause`, `…/resume`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use procession_core::api::{Items, ScheduleInfo};
use procession_core::schedule::Schedule;
use procession_store::{Occasion, ScheduleRow, ScheduleState};

use super::Context;
use super::problem::{Answer, Failure};
use super::submit::describe;
use crate::submit::Ran;

/// All schedules of the config.
pub async fn list(State(context): State<Context>) -> Answer {
    let rows = context.store.schedules().await?;
    let info = |schedule: &Arc<Schedule>| info(schedule, rows.iter().find(|row| row.name == schedule.name));
    let items = context.timetable.schedules.values().map(info).collect();
    Ok(Json(Items::<ScheduleInfo> { items }).into_response())
}

/// One schedule.
pub async fn one(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let schedule = context.schedule(&name)?;
    let rows = context.store.schedules().await?;
    Ok(Json(info(&schedule, rows.iter().find(|row| row.name == schedule.name))).into_response())
}

/// Submits its job now, also where it is paused; what is due stays due.
pub async fn run(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let schedule = context.schedule(&name)?;
    let task = context.task(schedule.task.as_str())?;
    match context.door.run(&schedule, &task, Occasion::ByHand).await? {
        Ran::Job(accepted) => {
            let job = context.taken(&accepted).await?;
            let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
            describe(&mut response, &accepted);
            Ok(response)
        }
        Ran::Skipped(before) => {
            let detail = format!(
                "its job {before} is not over, and overlap = \"skip\" allows no other beside it; wait, or cancel that one"
            );
            Err(Failure::new(StatusCode::CONFLICT, "not_finished", detail))
        }
        Ran::Nothing => Err(Failure::unknown_schedule(&name)),
    }
}

/// Lets its moments pass.
pub async fn pause(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    set(context, &name, |_| ScheduleState::Paused).await
}

/// Lets it go on with its next moment; what passed in the pause is over.
pub async fn resume(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let open = |schedule: &Schedule| ScheduleState::Open { next: schedule.cron.next_after(Timestamp::now()) };
    set(context, &name, open).await
}

async fn set(context: Context, name: &str, state: impl FnOnce(&Schedule) -> ScheduleState) -> Answer {
    let schedule = context.schedule(name)?;
    context.store.set_schedule(&schedule.name, state(&schedule)).await?;
    context.timetable.changed.notify_one();
    one(State(context), Path(name.to_owned())).await
}

fn info(schedule: &Schedule, row: Option<&ScheduleRow>) -> ScheduleInfo {
    let paused = row.is_some_and(|row| row.paused);
    ScheduleInfo {
        name: schedule.name.clone(),
        task: schedule.task.clone(),
        cron: schedule.cron.text().to_owned(),
        timezone: schedule.cron.zone_name().to_owned(),
        overlap: schedule.overlap,
        catch_up: schedule.catch_up,
        paused,
        next_run_at: row.filter(|_| !paused).and_then(|row| row.next_at),
        last_run_at: row.and_then(|row| row.last_at),
        last_job: row.and_then(|row| row.last_job),
    }
}

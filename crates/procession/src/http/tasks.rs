//! `GET /v1/tasks`, `/v1/tasks/{task}`, `POST …/pause`, `…/resume`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use procession_core::api::{Items, TaskInfo, TaskLimits};
use procession_core::task::Task;
use procession_store::TaskCounts;

use super::Context;
use super::problem::Answer;

/// All tasks of the config.
pub async fn list(State(context): State<Context>) -> Answer {
    let stats = context.store.stats().await?;
    let counts = |task: &Task| stats.get(&task.name).copied().unwrap_or_default();
    let items = context.tasks.values().map(|task| info(&context, task, counts(task))).collect();
    Ok(Json(Items::<TaskInfo> { items }).into_response())
}

/// One task.
pub async fn one(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    let task = context.task(&name)?;
    let counts = context.store.stats().await?.get(&task.name).copied().unwrap_or_default();
    Ok(Json(info(&context, &task, counts)).into_response())
}

/// Starts no more jobs of a task; those that run go on.
pub async fn pause(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    set_paused(context, &name, true).await
}

/// Starts jobs of a task again.
pub async fn resume(State(context): State<Context>, Path(name): Path<String>) -> Answer {
    set_paused(context, &name, false).await
}

async fn set_paused(context: Context, name: &str, paused: bool) -> Answer {
    let task = context.task(name)?;
    context.store.pause(&task.name, paused).await?;
    context.scheduler.wake.notify_one();
    one(State(context), Path(name.to_owned())).await
}

fn info(context: &Context, task: &Task, counts: TaskCounts) -> TaskInfo {
    TaskInfo {
        name: task.name.clone(),
        description: task.description.clone(),
        running: counts.running,
        queued: counts.queued,
        families: task.fan_out.as_ref().map(|_| counts.families),
        finished: counts.finished,
        failed: counts.failed,
        paused: counts.paused,
        limits: TaskLimits {
            max_running: task.limits.max_running.number(),
            max_running_per_lane: task.limits.per_lane.number(),
            max_queued: task.limits.max_queued,
        },
        rates: context.meters.rates(&task.name),
    }
}

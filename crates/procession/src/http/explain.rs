//! `GET /v1/jobs/{id}/explain`: what a job waits for, does, or came to, in every state.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use procession_core::api::Explanation;
use procession_core::job::JobRecord;
use procession_core::outcome::Outcome;
use procession_core::state::JobState;
use procession_store::{Standing, TaskCounts};

use super::problem::Answer;
use super::{Context, job_id};

/// Explains one job.
pub async fn get(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let record = context.record(job_id(&id)?).await?;
    let explanation = match record.state {
        JobState::Queued => queued(&context, &record).await?,
        JobState::Running => running(&context, &record),
        JobState::Scheduled => {
            let at = record.run_at.map(|at| at.to_string()).unwrap_or_default();
            let again = record.attempt > 0 && record.started_at.is_some();
            let (waits_for, what) = match again {
                true => {
                    ("retry", format!("attempt {} is over; the next one follows at {at}", record.attempt))
                }
                false => ("run_at", format!("waits until {at}")),
            };
            Explanation { waits_for: Some(waits_for.to_owned()), ..about(&record, what) }
        }
        JobState::Waiting => family(&context, &record),
        _ => about(&record, record.outcome.as_ref().map(ended).unwrap_or_default()),
    };
    Ok(Json(explanation).into_response())
}

fn about(record: &JobRecord, summary: String) -> Explanation {
    Explanation {
        id: record.id,
        state: record.state,
        summary,
        position: None,
        waits_for: None,
        run_at: record.run_at,
        expires_at: record.expires_at.filter(|_| !record.state.is_final()),
        pid: None,
        deadline: None,
        last_output_at: None,
        outcome: record.outcome.clone(),
        cancel_requested_at: record.cancel_requested_at,
    }
}

async fn queued(context: &Context, record: &JobRecord) -> Answer<Explanation> {
    let standing = context.store.standing(record.id).await?;
    let counts = context.store.stats().await?.get(&record.task).copied().unwrap_or_default();
    let (waits_for, why) = standing
        .as_ref()
        .and_then(|standing| waits_for(context, record, standing, counts))
        .unwrap_or_else(|| about_to_start(context));
    let position = standing.map(|standing| standing.ahead);
    let ahead = position.map_or(String::new(), |ahead| format!("{ahead} ahead of it; "));
    let summary = format!("{ahead}{why}");
    Ok(Explanation { position, waits_for: Some(waits_for.into()), ..about(record, summary) })
}

/// The limit a queued job waits for, if that is what it waits for.
fn waits_for(
    context: &Context,
    record: &JobRecord,
    standing: &Standing,
    counts: TaskCounts,
) -> Option<(&'static str, String)> {
    let Some(task) = context.tasks.get(&record.task) else {
        return Some(("task_removed", "its task is not in the config any more".into()));
    };
    if counts.paused {
        return Some(("task_paused", "its task is paused".into()));
    }
    // A join has its place under every limit but the node's.
    if !standing.joins {
        if let Some(family) = standing.family {
            if !family.begun {
                return Some(("family", format!("its family, job {}, has not begun", family.parent)));
            }
            if family.limit.room(family.running) == 0 {
                let why = format!("its family has {} children running, as many as it may", family.running);
                return Some(("family_limit", why));
            }
        }
        let held = if task.fan_out.is_some() { counts.families } else { counts.running };
        if task.limits.max_running.room(held) == 0 {
            let what = if task.fan_out.is_some() { "families" } else { "slots" };
            return Some(("task_limit", format!("its task holds {held} {what}, as many as it may")));
        }
        if let (Some(held), Some(lane)) = (standing.lane_running, &record.lane)
            && task.limits.per_lane.room(held) == 0
        {
            return Some(("lane_limit", format!("its lane {lane:?} holds {held} slots, as many as it may")));
        }
    }
    let full = context.running.len() as u64 >= context.facts.slots;
    full.then(|| ("node_slot", format!("all {} slots of this server are taken", context.facts.slots)))
}

fn about_to_start(context: &Context) -> (&'static str, String) {
    let why = if context.door.space.is_full() {
        "the disk is full: it is tried again until there is room"
    } else if context.scheduler.pressure.is_felt() {
        "the machine has no process, descriptor or space to start it with: it is tried again"
    } else {
        "it is about to start"
    };
    ("dispatch", why.to_owned())
}

/// A family whose children run.
fn family(context: &Context, record: &JobRecord) -> Explanation {
    let counts = record.children.clone().unwrap_or_default();
    let all: u64 = counts.values().sum();
    let over: u64 = counts.iter().filter(|(state, _)| state.is_final()).map(|(_, many)| many).sum();
    let summary = match record.cancel_requested_at {
        Some(_) => format!("was asked to end; {} of its {all} children are still to end", all - over),
        None => format!("waits for its children: {over} of {all} are over"),
    };
    let timeout = context.tasks.get(&record.task).and_then(|task| task.timeout);
    let deadline = record.started_at.zip(timeout).and_then(|(begun, limit)| begun.checked_add(limit).ok());
    Explanation { waits_for: Some("children".into()), deadline, ..about(record, summary) }
}

fn running(context: &Context, record: &JobRecord) -> Explanation {
    let Some(live) = context.running.get(record.id) else {
        return about(record, "its end is being recorded".into());
    };
    let summary = match (live.pid, record.cancel_requested_at) {
        (None, _) => "is being started".to_owned(),
        (Some(pid), None) => format!("runs as process {pid}"),
        (Some(pid), Some(_)) => format!("was asked to end; process {pid} has its grace time"),
    };
    Explanation {
        pid: live.pid,
        deadline: live.deadline(),
        last_output_at: live.last_output_at,
        ..about(record, summary)
    }
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited with {code}"),
        Outcome::Signaled { name, core, .. } => {
            format!("was ended by {name}{}", if *core { " and dumped core" } else { "" })
        }
        Outcome::OomKilled => "was ended by the kernel for want of memory".into(),
        Outcome::SpawnFailed { errno, phase, message } => {
            format!("never ran: {errno} at {phase}: {message}")
        }
        Outcome::ChildrenFailed { failed } => format!("{failed} of its children failed"),
        Outcome::ResultMissing => "exited with 0 but left no result, which its task requires".into(),
        Outcome::BadResult { message } => format!("exited with 0 but its result is no good: {message}"),
        Outcome::TimedOut { limit_ms, .. } => format!("ran longer than its {limit_ms} ms and was ended"),
        Outcome::Cancelled { by, .. } => format!("was cancelled ({by:?})").to_lowercase(),
        Outcome::Lost { reason } => format!("is lost ({reason:?}): its end cannot be known").to_lowercase(),
    }
}

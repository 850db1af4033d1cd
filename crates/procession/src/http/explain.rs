//! `GET /v1/jobs/{id}/explain`: what a job waits for, does, or came to, in every state.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use procession_core::api::Explanation;
use procession_core::job::JobRecord;
use procession_core::outcome::Outcome;
use procession_core::state::JobState;

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
            let waits_for = Some("run_at".to_owned());
            Explanation { waits_for, ..about(&record, format!("waits until {at}")) }
        }
        JobState::Waiting => about(&record, "waits for its children".into()),
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
    let position = context.store.position(record.id).await?;
    let stats = context.store.stats().await?;
    let counts = stats.get(&record.task).copied().unwrap_or_default();
    let limit = context.tasks.get(&record.task).map(|task| task.limits.max_running);
    let (waits_for, why) = if counts.paused {
        ("task_paused", "its task is paused".to_owned())
    } else if limit.is_none() {
        ("task_removed", "its task is not in the config any more".to_owned())
    } else if limit.is_some_and(|limit| limit.room(counts.running) == 0) {
        ("task_limit", format!("its task holds {} slots, as many as it may", counts.running))
    } else if context.running.len() as u64 >= context.facts.slots {
        ("node_slot", format!("all {} slots of this server are taken", context.facts.slots))
    } else if context.door.space.is_full() {
        ("dispatch", "the disk is full: it is tried again until there is room".to_owned())
    } else if context.scheduler.pressure.is_felt() {
        let why = "the machine has no process, descriptor or space to start it with: it is tried again";
        ("dispatch", why.to_owned())
    } else {
        ("dispatch", "it is about to start".to_owned())
    };
    let ahead = position.map_or(String::new(), |ahead| format!("{ahead} ahead of it; "));
    let summary = format!("{ahead}{why}");
    Ok(Explanation { position, waits_for: Some(waits_for.into()), ..about(record, summary) })
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

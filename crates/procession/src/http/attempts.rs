//! `GET /v1/jobs/{id}/attempts`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use procession_core::api::{Attempt, Items};

use super::problem::Answer;
use super::{Context, job_id};

/// Every execution of a job, first to last.
pub async fn list(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let id = job_id(&id)?;
    context.record(id).await?;
    let items = context.store.attempts(id).await?.into_iter().map(Attempt::of).collect();
    Ok(Json(Items::<Attempt> { items }).into_response())
}

//! `POST /v1/jobs/{id}/cancel`: 202, or 200 where it was over already; both with the job.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use procession_store::Cancelled;

use super::problem::{Answer, Failure};
use super::query::Query;
use super::{Context, job_id};

/// Asks a job to end; `?now=1` does not ask its program first.
pub async fn cancel(State(context): State<Context>, Path(id): Path<String>, query: Query) -> Answer {
    let id = job_id(&id)?;
    let status = match context.scheduler.cancel(id, query.flag("now")?).await? {
        Cancelled::Unknown => return Err(Failure::unknown_job()),
        Cancelled::AlreadyOver => StatusCode::OK,
        Cancelled::Ended(_) | Cancelled::Asked(_) => StatusCode::ACCEPTED,
    };
    Ok((status, Json(context.job(id).await?)).into_response())
}

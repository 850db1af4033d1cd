//! `DELETE /v1/jobs/{id}`: the row first, then its files.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use procession_store::Deleted;

use super::problem::{Answer, Failure};
use super::{Context, job_id};

/// Removes a finished job, all below it, and everything they left.
pub async fn delete(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let id = job_id(&id)?;
    match context.store.delete(id).await? {
        Deleted::Unknown => Err(Failure::unknown_job()),
        Deleted::Unfinished => Err(Failure::not_finished()),
        Deleted::OfFamily(root) => {
            let detail = format!("it goes with its family: remove job {root}");
            Err(Failure::new(StatusCode::CONFLICT, "part_of_family", detail))
        }
        Deleted::Deleted(removed) => {
            let data = context.data.clone();
            context.background.blocking(move || data.remove_jobs(removed)).await;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

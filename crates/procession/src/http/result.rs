//! `GET /v1/jobs/{id}/result`: the bytes a job left as its result.

use std::fs::File;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use procession_core::job::ResultSummary;

use super::artifacts::stream_file;
use super::output::harmless;
use super::problem::{Answer, Failure};
use super::{Context, job_id};

/// The result, or 404 `no_result`.
pub async fn get(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let id = job_id(&id)?;
    let record = context.record(id).await?;
    let (json, mut response) = match record.result {
        ResultSummary::None => {
            return Err(Failure::new(StatusCode::NOT_FOUND, "no_result", "the job has left no result"));
        }
        ResultSummary::Inline { json, bytes } => (json, bytes.into_response()),
        ResultSummary::File { json, len } => {
            let path = context.data.result(id, record.attempt);
            let file =
                context.background.blocking(move || File::open(path)).await.map_err(Failure::internal)?;
            (json, stream_file(&context, file, 0, len))
        }
    };
    let kind = if json { "application/json" } else { "application/octet-stream" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    harmless(response.headers_mut(), None);
    Ok(response)
}

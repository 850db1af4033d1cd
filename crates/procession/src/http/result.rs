//! `GET /v1/jobs/{id}/result`: the bytes a job left as its result.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use procession_core::job::ResultSummary;

use super::output::harmless;
use super::problem::{Answer, Failure};
use super::{Context, job_id};

/// The result, or 404 `no_result`.
pub async fn get(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let id = job_id(&id)?;
    let record = context.record(id).await?;
    let (json, bytes) = match record.result {
        ResultSummary::None => {
            return Err(Failure::new(StatusCode::NOT_FOUND, "no_result", "the job has left no result"));
        }
        ResultSummary::Inline { json, bytes } => (json, bytes),
        ResultSummary::File { json, .. } => {
            let path = context.data.result(id, record.attempt);
            let read = context.background.blocking(move || std::fs::read(path)).await;
            (json, Bytes::from(read.map_err(Failure::internal)?))
        }
    };
    let mut response = bytes.into_response();
    let kind = if json { "application/json" } else { "application/octet-stream" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    harmless(response.headers_mut(), None);
    Ok(response)
}

//! `GET /v1/jobs/{id}/payload`: the body as the client sent it.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use procession_core::job::StoredPayload;
use procession_core::task::Body as Kind;

use super::artifacts::stream_file;
use super::output::harmless;
use super::problem::{Answer, Failure};
use super::{Context, job_id};

/// The client's exact bytes.
pub async fn get(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let id = job_id(&id)?;
    let record = context.record(id).await?;
    let (payload, _) = context.store.payload(id).await?.ok_or_else(Failure::unknown_job)?;
    let mut response = match payload {
        StoredPayload::Inline(bytes) => bytes.into_response(),
        StoredPayload::File { len } => {
            let path = context.data.payload(id);
            let opened = context.background.blocking(move || std::fs::File::open(path)).await;
            stream_file(&context, opened.map_err(Failure::internal)?, 0, len)
        }
    };
    let json = context.tasks.get(&record.task).is_some_and(|task| task.input.body == Kind::Json);
    let kind = if json { "application/json" } else { "application/octet-stream" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    harmless(response.headers_mut(), None);
    Ok(response)
}

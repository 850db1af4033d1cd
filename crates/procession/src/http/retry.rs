//! `POST /v1/jobs/{id}/retry`: a new job with the same body; the old one stays as it ended.

use std::{fs, io};

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use procession_core::id::JobId;
use procession_core::job::StoredPayload;
use procession_core::task::Body;

use super::gate::Principal;
use super::problem::{Answer, Failure};
use super::submit::describe;
use super::{Context, job_id};
use crate::submit::{Received, Request, Spooled};

/// Submits a finished job's request once more.
pub async fn retry(
    State(context): State<Context>,
    Path(id): Path<String>,
    Extension(principal): Extension<Principal>,
) -> Answer {
    let id = job_id(&id)?;
    let record = context.record(id).await?;
    if !record.state.is_final() {
        return Err(Failure::not_finished());
    }
    let task = context.task(record.task.as_str())?;
    let (payload, values) = context.store.payload(id).await?.ok_or_else(Failure::unknown_job)?;
    let body = match payload {
        StoredPayload::Inline(bytes) => Received::Memory(bytes),
        StoredPayload::File { .. } => {
            again(&context, id, task.input.body).await.map_err(Failure::internal)?
        }
    };
    let submission = Request {
        task,
        body,
        values,
        priority: record.priority,
        lane: record.lane,
        run_at: None,
        idempotency_key: None,
        principal: principal.0,
        retry_of: Some(id),
    };
    let accepted = context.door.submit(submission).await?;
    let mut response = (StatusCode::ACCEPTED, Json(context.taken(&accepted).await?)).into_response();
    describe(&mut response, &accepted);
    Ok(response)
}

/// A body that is in a file: JSON has to be read to be judged anew, bytes are copied.
async fn again(context: &Context, id: JobId, kind: Body) -> io::Result<Received> {
    let (from, data) = (context.data.payload(id), context.data.clone());
    let read = move || match kind {
        Body::Json => Ok(Received::Memory(fs::read(from)?.into())),
        Body::Bytes => Ok(Received::Spooled(Spooled::copy_of(&from, &data)?)),
    };
    context.background.blocking(read).await
}

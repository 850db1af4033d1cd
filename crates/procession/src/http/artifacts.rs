//! `GET /v1/jobs/{id}/artifacts` and `…/artifacts/{name}`. A name is looked up in the list
//! the store has, and opened below the attempt's folder by the kernel's own rule that no
//! link and no `..` leads out of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use procession_core::api::Artifacts;

use super::output::harmless;
use super::problem::{Answer, Failure};
use super::range::Part;
use super::{Context, job_id};
use crate::data::open_beneath;

/// How much is read at once.
const CHUNK: u64 = 128 * 1024;

/// Names and sizes.
pub async fn list(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let record = context.record(job_id(&id)?).await?;
    Ok(Json(Artifacts { items: record.artifacts }).into_response())
}

/// One file, whole or by range.
pub async fn one(
    State(context): State<Context>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let id = job_id(&id)?;
    let record = context.record(id).await?;
    if !record.artifacts.iter().any(|artifact| artifact.name == name) {
        return Err(unknown());
    }
    let folder = context.data.artifacts(id, record.attempt);
    let path = name.clone();
    let opened =
        context.background.blocking(move || open_beneath(&folder, std::path::Path::new(&path))).await;
    let file = opened.map_err(|_| unknown())?;
    let len = file.metadata().map_err(Failure::internal)?.len();
    let part = Part::asked(&headers, len)?;
    let mut response = part.describe(stream_file(&context, file, part.first, part.count));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(&name)));
    harmless(headers, name.rsplit('/').next());
    Ok(response)
}

fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "unknown_artifact", "the job has left no file of this name")
}

/// `count` bytes of a file from `first`, as they are read.
pub(super) fn stream_file(context: &Context, file: File, first: u64, count: u64) -> Response {
    let (context, file) = (context.clone(), Arc::new(file));
    let chunks = stream::try_unfold((first, count), move |(at, left)| {
        let (context, file) = (context.clone(), file.clone());
        async move {
            if left == 0 {
                return Ok(None);
            }
            let read = context.background.blocking(move || read_some(&file, at, left)).await?;
            let len = read.len() as u64;
            io::Result::Ok(Some((read, (at + len, left - len))))
        }
    });
    let mut response = Body::from_stream(chunks).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    response
}

fn read_some(file: &File, at: u64, left: u64) -> io::Result<Bytes> {
    let mut chunk = vec![0; left.min(CHUNK) as usize];
    file.read_exact_at(&mut chunk, at)?;
    Ok(chunk.into())
}

/// By the name's ending, for people who look at it; nothing a browser runs.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "txt" | "log" | "md" | "csv" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

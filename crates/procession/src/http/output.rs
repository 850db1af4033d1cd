//! `GET /v1/jobs/{id}/stdout` and `/stderr`: the bytes as the program wrote them, whole, by
//! range, or as they come (`?follow=1`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream as Chunks};
use procession_core::id::JobId;
use procession_core::job::OutputSummary;

use super::problem::{Answer, Failure};
use super::query::Query;
use super::range::Part;
use super::{Context, job_id};
use crate::data::Stream;
use crate::tail::{Found, Piece, Tail, cut, marker};

/// Standard output.
pub async fn stdout(state: State<Context>, id: Path<String>, query: Query, headers: HeaderMap) -> Answer {
    output(state, id, query, headers, Stream::Stdout).await
}

/// Standard error.
pub async fn stderr(state: State<Context>, id: Path<String>, query: Query, headers: HeaderMap) -> Answer {
    output(state, id, query, headers, Stream::Stderr).await
}

/// Between two looks at a stream that nothing new is told of.
pub(super) const LOOK: Duration = Duration::from_millis(500);

async fn output(
    State(context): State<Context>,
    Path(id): Path<String>,
    query: Query,
    headers: HeaderMap,
    stream: Stream,
) -> Answer {
    let id = job_id(&id)?;
    let attempt = query.parsed::<u32>("attempt")?;
    let tail = context.tail(id, attempt, stream).await?;
    if query.flag("follow")? {
        let response = Body::from_stream(follow(context, id, attempt, stream)).into_response();
        return Ok(with_headers(response, &tail));
    }
    let tail = open(&context, tail).await?;
    Ok(with_headers(ranged(&context, tail.clone(), &headers)?, &tail))
}

/// Holds on to a stream's file; 404 where it is not: the job removed it, or somebody else did.
async fn open(context: &Context, tail: Tail) -> Answer<Tail> {
    context.background.blocking(move || tail.open()).await.map_err(|error| {
        tracing::warn!(%error, "output cannot be read");
        let detail = "the file with this output is not there any more";
        Failure::new(StatusCode::NOT_FOUND, "output_gone", detail)
    })
}

/// All of a stream that is over, as a body.
pub(super) async fn whole(context: &Context, tail: Tail) -> Answer<Body> {
    let tail = open(context, tail).await?;
    let pieces = tail.pieces();
    Ok(Body::from_stream(read(context.clone(), Arc::new(tail), pieces)))
}

fn with_headers(mut response: Response, tail: &Tail) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    harmless(headers, None);
    let gaps: Vec<String> = tail.gaps().iter().map(|(at, len)| format!("{at}+{len}")).collect();
    if !gaps.is_empty()
        && let Ok(value) = HeaderValue::try_from(gaps.join(", "))
    {
        headers.insert("procession-dropped", value);
    }
    response
}

/// What a program made is never run by a browser that is led to it.
pub(super) fn harmless(headers: &mut HeaderMap, file_name: Option<&str>) {
    let plain = |name: &str| name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._- ".contains(&c));
    let disposition = match file_name {
        Some(name) if plain(name) => format!("attachment; filename=\"{name}\""),
        _ => "attachment".into(),
    };
    if let Ok(value) = HeaderValue::try_from(disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
}

fn ranged(context: &Context, tail: Tail, headers: &HeaderMap) -> Answer {
    let pieces = tail.pieces();
    let len = pieces.iter().map(Piece::len).sum();
    let part = Part::asked(headers, len)?;
    let pieces = cut(&pieces, part.first, part.count);
    let body = Body::from_stream(read(context.clone(), Arc::new(tail), pieces));
    Ok(part.describe(body.into_response()))
}

/// The pieces' bytes, a chunk at a time.
fn read(context: Context, tail: Arc<Tail>, pieces: Vec<Piece>) -> impl Chunks<Item = io::Result<Bytes>> {
    let pieces = std::collections::VecDeque::from(pieces);
    stream::try_unfold(pieces, move |mut pieces| {
        let (context, tail) = (context.clone(), tail.clone());
        async move {
            let segment = match pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Marker(line)) => return Ok(Some((line, pieces))),
                Some(Piece::Kept(segment)) => segment,
            };
            let chunk = context.background.blocking(move || tail.read_at(segment.at, segment.len)).await?;
            let read = chunk.len() as u64;
            if read < segment.len {
                pieces.extend(cut(&[Piece::Kept(segment)], read, segment.len - read));
                pieces.rotate_right(1);
            }
            Ok(Some((chunk, pieces)))
        }
    })
}

/// Everything from the beginning, and what comes, until the attempt is over.
fn follow(
    context: Context,
    id: JobId,
    attempt: Option<u32>,
    stream: Stream,
) -> impl Chunks<Item = io::Result<Bytes>> {
    let watcher = context.board.watch(id);
    stream::try_unfold((watcher, 0u64), move |(mut watcher, mut at)| {
        let context = context.clone();
        async move {
            loop {
                let tail = context.tail(id, attempt, stream).await.map_err(|f| io::Error::other(f.detail))?;
                let over = tail.over;
                match context.background.blocking(move || tail.read(at)).await? {
                    Found::Bytes(bytes) => {
                        at += bytes.len() as u64;
                        return Ok(Some((bytes, (watcher, at))));
                    }
                    Found::Dropped(len) => return Ok(Some((marker(len), (watcher, at + len)))),
                    Found::End if over => return Ok(None),
                    Found::End => {
                        tokio::select! {
                            () = watcher.changed() => {}
                            // Nobody tells of what goes straight to a file.
                            () = tokio::time::sleep(LOOK) => {}
                            () = context.handover.next_look() => {}
                            // Not the job's end: the client must see that it was cut off.
                            () = context.background.stopping().cancelled() => {
                                return Err(io::ErrorKind::ConnectionAborted.into());
                            }
                        }
                    }
                }
            }
        }
    })
}

impl Context {
    /// One output stream of a job: of its last attempt, or of the one asked for.
    pub(super) async fn tail(&self, id: JobId, attempt: Option<u32>, stream: Stream) -> Answer<Tail> {
        let record = self.record(id).await?;
        let number = attempt.unwrap_or(record.attempt);
        let file = self.data.output(id, number, stream);
        let summary = if number == record.attempt {
            if let Some(live) = self.running.get(id).filter(|live| live.lease.attempt.0 == number)
                && !record.state.is_final()
            {
                // The keeper tells another server how far it has come, once one takes over.
                if live.output_limit == u64::MAX || self.handover.is_begun() {
                    let growing = move || Tail::growing(live.output_limit, file);
                    return Ok(self.background.blocking(growing).await);
                }
                let total = if stream == Stream::Stdout { live.stdout } else { live.stderr };
                return Ok(Tail::running(total, live.output_limit, file));
            }
            if !record.state.is_final() {
                // Queued, or its end is being recorded: nothing to read yet.
                return Ok(Tail::running(0, 0, file));
            }
            record.output
        } else {
            let attempts = self.store.attempts(id).await?;
            let found = attempts.into_iter().find(|one| one.attempt == number);
            let missing =
                || Failure::new(StatusCode::NOT_FOUND, "unknown_attempt", "the job has no such attempt");
            found.ok_or_else(missing)?.output
        };
        Ok(summary.map_or_else(Tail::empty, |summary| ended(&summary, stream, file)))
    }
}

fn ended(summary: &OutputSummary, stream: Stream, file: std::path::PathBuf) -> Tail {
    let one = if stream == Stream::Stdout { &summary.stdout } else { &summary.stderr };
    Tail::ended(one, summary.limit, file)
}

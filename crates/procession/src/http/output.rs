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
    let tail = context.background.blocking(move || tail.open()).await.map_err(gone)?;
    Ok(with_headers(ranged(&context, tail.clone(), &headers)?, &tail))
}

/// The file is not where it was written: the job removed it, or somebody else did.
fn gone(error: io::Error) -> Failure {
    tracing::warn!(%error, "output cannot be read");
    Failure::new(StatusCode::NOT_FOUND, "output_gone", "the file with this output is not there any more")
}

/// All of a stream that is over, as a body.
pub(super) async fn whole(context: &Context, tail: Tail) -> Answer<Body> {
    let tail = context.background.blocking(move || tail.open()).await.map_err(gone)?;
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
    let (status, first, count) = match range(headers, len) {
        Range::Whole => (StatusCode::OK, 0, len),
        Range::Part { first, count } => (StatusCode::PARTIAL_CONTENT, first, count),
        Range::Outside => {
            return Err(outside(len));
        }
    };
    let body = Body::from_stream(read(context.clone(), Arc::new(tail), cut(&pieces, first, count)));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{len}", first + count - 1);
        headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(range).expect("digits"));
    }
    Ok(response)
}

/// 416 for a range beyond `len` bytes.
pub(super) fn outside(len: u64) -> Failure {
    let value = HeaderValue::try_from(format!("bytes */{len}")).expect("digits");
    Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", format!("there are {len} bytes"))
        .with_header(header::CONTENT_RANGE, value)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Range {
    Whole,
    Part { first: u64, count: u64 },
    Outside,
}

/// One range of bytes; several, or other units, are answered with the whole (RFC 9110).
pub(super) fn range(headers: &HeaderMap, len: u64) -> Range {
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = asked.and_then(|text| text.strip_prefix("bytes=")?.split_once('-')) else {
        return Range::Whole;
    };
    let (first, end) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if last >= first => (first, last.saturating_add(1).min(len)),
        (Ok(first), Err(_)) if last.trim().is_empty() => (first, len),
        (Err(_), Ok(suffix)) if first.trim().is_empty() => (len.saturating_sub(suffix), len),
        _ => return Range::Whole,
    };
    if first >= end { Range::Outside } else { Range::Part { first, count: end - first } }
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
                if live.output_limit == u64::MAX {
                    return Ok(self.background.blocking(move || Tail::straight(file)).await);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let asks = |text: &'static str| {
            let headers = [(header::RANGE, HeaderValue::from_static(text))].into_iter().collect();
            range(&headers, 100)
        };
        assert_eq!(range(&HeaderMap::new(), 100), Range::Whole);
        for (text, first, count) in [
            ("bytes=0-9", 0, 10),
            ("bytes=90-", 90, 10),
            ("bytes=-5", 95, 5),
            ("bytes=50-999", 50, 50),
            ("bytes=-500", 0, 100),
        ] {
            assert_eq!(asks(text), Range::Part { first, count }, "{text}");
        }
        for text in ["bytes=100-", "bytes=200-300", "bytes=-0"] {
            assert_eq!(asks(text), Range::Outside, "{text}");
        }
        for text in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=x-y"] {
            assert_eq!(asks(text), Range::Whole, "{text}");
        }
    }
}

//! Request bodies: read under a limit and a clock, into memory or a file. A refused
//! request's body is drained a little, so that its sender reads the answer instead of a
//! reset connection.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::artifacts::stream_file;
use super::problem::{Answer, Failure};
use super::to_the_end::Work;
use crate::submit::{Received, Spooled};

/// A sender that is slower than this over the whole body is cut off.
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// What every sender gets before the rate counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// A refused body is read on for so long and so far.
const DRAIN: (Duration, usize) = (Duration::from_secs(2), 2 << 20);

/// Reads all of `body` into memory, at most `limit` bytes; `work` rests meanwhile.
pub async fn into_memory(mut body: Body, limit: u64, work: &Work) -> Answer<Bytes> {
    refuse_known_length(&body, limit)?;
    work.rest();
    let mut clock = Clock::start();
    let mut all = Vec::with_capacity(body.size_hint().lower().min(limit) as usize);
    while let Some(chunk) = clock.next(&mut body).await? {
        if all.len() as u64 + chunk.len() as u64 > limit {
            return Err(Failure::too_large(limit));
        }
        all.extend_from_slice(&chunk);
    }
    let all = Bytes::from(all);
    work.resume(|| Body::from(all.clone()))?;
    Ok(all)
}

/// Reads all of `body` into a file of its own as it arrives, at most `limit` bytes; `work`
/// rests meanwhile.
pub async fn into_file(mut body: Body, limit: u64, context: &Context, work: &Work) -> Answer<Received> {
    refuse_known_length(&body, limit)?;
    work.rest();
    let path = Spooled::place(&context.data);
    // Read again only where the next server gets it, which removes the name.
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(disk)?;
    let mut spooled = Spooled { path, len: 0, hash: [0; 32] };
    let mut hash = Sha256::new();
    let mut clock = Clock::start();
    while let Some(chunk) = clock.next(&mut body).await? {
        spooled.len += chunk.len() as u64;
        if spooled.len > limit {
            return Err(Failure::too_large(limit));
        }
        hash.update(&chunk);
        let write = move || file.write_all(&chunk).map(|()| file);
        file = context.background.blocking(write).await.map_err(disk)?;
    }
    spooled.hash = hash.finalize().into();
    work.resume(|| stream_file(context, file, 0, spooled.len).into_body())?;
    Ok(Received::Spooled(spooled))
}

fn disk(error: std::io::Error) -> Failure {
    crate::submit::SubmitError::Body(error).into()
}

fn refuse_known_length(body: &Body, limit: u64) -> Answer<()> {
    if body.size_hint().lower() > limit { Err(Failure::too_large(limit)) } else { Ok(()) }
}

/// The time a body has left: patience, and a second for each KiB that came.
struct Clock {
    deadline: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { deadline: Instant::now() + PATIENCE }
    }

    async fn next(&mut self, body: &mut Body) -> Answer<Option<Bytes>> {
        loop {
            let slow = |_| {
                let detail = "the body came too slowly";
                Failure::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
            };
            let broken = |_| Failure::new(StatusCode::BAD_REQUEST, "invalid_body", "the body broke off");
            let Some(frame) = timeout_at(self.deadline, body.frame()).await.map_err(slow)? else {
                return Ok(None);
            };
            if let Ok(chunk) = frame.map_err(broken)?.into_data() {
                let earned = chunk.len() as u64 * 1_000_000 / MIN_BYTES_PER_SECOND;
                self.deadline =
                    (self.deadline + Duration::from_micros(earned)).min(Instant::now() + PATIENCE);
                return Ok(Some(chunk));
            }
        }
    }
}

/// Middleware: what a handler left unread of a body is read on, within bounds.
pub async fn drain_refused(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // Reading on would tell a client that asked first (`Expect`) to send it all.
    let asked_first = parts.headers.contains_key(header::EXPECT);
    if body.is_end_stream() || asked_first {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let (back, left) = oneshot::channel();
    let returned = Body::new(Returned { inner: Some(body), back: Some(back), done: false });
    let response = next.run(Request::from_parts(parts, returned)).await;
    if response.status().is_client_error()
        && let Ok(body) = { left }.try_recv()
    {
        drain(body).await;
    }
    response
}

async fn drain(mut body: Body) {
    let deadline = Instant::now() + DRAIN.0;
    let mut left = DRAIN.1;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A body that comes back when it is dropped before its end.
struct Returned {
    inner: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
    done: bool,
}

impl HttpBody for Returned {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.done = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if let (false, Some(body), Some(back)) = (self.done, self.inner.take(), self.back.take()) {
            // Nobody waits for it where the connection is gone.
            let _ = back.send(body);
        }
    }
}

//! A request that changes something is worked on to its end, whether its client stays or not.
//! hyper drops a handler when its client hangs up; between a stored job and the news of it
//! to the dispatcher that would be half a submission.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::Context;
use super::forward::forward;
use super::problem::{Answer, Failure};
use crate::handover::Change;

/// A request that is worked on to its end, as its handler knows it.
#[derive(Debug)]
pub struct Work {
    change: Change,
    /// What the next server has to get instead of the handler.
    body: Mutex<Option<Body>>,
}

impl Work {
    /// From here on it changes nothing, or has not begun to: nobody has to wait for it.
    pub fn rest(&self) {
        self.change.rest();
    }

    /// Its `body` has come and it is about to change something. An error: it is too late for
    /// that here, and the next server gets request and body.
    pub fn resume(&self, body: impl FnOnce() -> Body) -> Answer<()> {
        if self.change.resume() {
            return Ok(());
        }
        *self.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body());
        Err(Failure::too_late())
    }

    fn body_for_the_next(&self) -> Option<Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Middleware: our own `GET`s end with their client, all else runs in work of its own, and is
/// waited for before the store is given to another server. Handlers find an [`Arc`] of their
/// [`Work`] with the request.
pub async fn to_the_end(State(context): State<Context>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && is_our_own(request.uri().path()) {
        return next.run(request).await;
    }
    let Some(change) = context.handover.enter() else {
        return forward(&context, request).await;
    };
    let work = Arc::new(Work { change, body: Mutex::default() });
    let (head, body) = request.into_parts();
    let mut request = Request::from_parts(head.clone(), body);
    request.extensions_mut().insert(work.clone());
    let (answer, answered) = oneshot::channel();
    let background = context.background.clone();
    background.connection(async move {
        let mut response = next.run(request).await;
        work.rest();
        if let Some(body) = work.body_for_the_next() {
            response = forward(&context, Request::from_parts(head, body)).await;
        }
        // Nobody takes it where the client has gone.
        let _ = answer.send(response);
    });
    match answered.await {
        Ok(response) => response,
        Err(panicked) => Failure::internal(panicked).into_response(),
    }
}

/// A users' route may be a `GET` that starts a program.
fn is_our_own(path: &str) -> bool {
    path.starts_with("/v1/") || matches!(path, "/healthz" | "/readyz")
}

//! A request that changes something is worked on to its end, whether its client stays or not.
//! hyper drops a handler when its client hangs up; between a stored job and the news of it
//! to the dispatcher that would be half a submission.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::Context;
use super::forward::forward;
use super::problem::Failure;

/// Middleware: our own `GET`s end with their client, all else runs in work of its own, and is
/// waited for before the store is given to another server. Handlers find an [`Arc`] of their
/// [`Change`](crate::handover::Change) with the request.
pub async fn to_the_end(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && is_our_own(request.uri().path()) {
        return next.run(request).await;
    }
    let Some(change) = context.handover.enter().map(Arc::new) else {
        return forward(&context, request).await;
    };
    request.extensions_mut().insert(change.clone());
    let (answer, answered) = oneshot::channel();
    context.background.connection(async move {
        let response = next.run(request).await;
        drop(change);
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

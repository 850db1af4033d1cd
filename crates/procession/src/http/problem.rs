//! Errors as clients see them: RFC 9457 `application/problem+json`, always with a stable
//! `code` and a sentence that says what to do.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use procession_core::api::Problem;
use procession_core::validate::{Complaint, Rejection};
use procession_store::StoreError;

use crate::submit::SubmitError;

/// An answer that is an error.
#[derive(Debug)]
pub struct Failure {
    /// The status.
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// Places in the body.
    pub errors: Vec<Complaint>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What handlers return.
pub type Answer<T = Response> = Result<T, Failure>;

impl Failure {
    /// An error with its status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// 404 for a path nothing stands at.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    /// 404 for a job.
    pub fn unknown_job() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_job", "there is no job with this id")
    }

    /// 404 for a task.
    pub fn unknown_task(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, "unknown_task", format!("the config has no task `{name}`"))
    }

    /// 404 for a schedule.
    pub fn unknown_schedule(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self::new(StatusCode::NOT_FOUND, "unknown_schedule", format!("the config has no schedule `{name}`"))
    }

    /// 409 for what only a finished job allows.
    pub fn not_finished() -> Self {
        Self::new(StatusCode::CONFLICT, "not_finished", "the job is not over; cancel it first or wait")
    }

    /// 400 for a query parameter.
    pub fn query(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("the query parameter `{name}`: {problem}"),
        )
    }

    /// 400 for a page that no page before ended at.
    pub fn bad_cursor() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_cursor", "use a `next_cursor` as this server gave it")
    }

    /// 413 for a body.
    pub fn too_large(limit: u64) -> Self {
        let detail = format!("the body is larger than the {limit} bytes this task takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// 503 where another server, or this one after a restart, will do it.
    fn draining(detail: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).retry_after(wait)
    }

    /// 503 for what came too late: the store is the next server's.
    pub fn too_late() -> Self {
        let detail = "another server took over meanwhile; nothing was recorded, send it again";
        Self::draining(detail, Duration::from_secs(1))
    }

    /// 500 for what should not happen; the log has the rest.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log says more")
    }

    /// With a header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn with_errors(mut self, errors: Vec<Complaint>) -> Self {
        self.errors = errors;
        self
    }

    fn retry_after(self, wait: Duration) -> Self {
        // Rounded up: who comes a moment too soon is refused again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::Json(_) => Failure::new(StatusCode::BAD_REQUEST, "invalid_json", detail),
            SubmitError::Rejected(rejection) => rejected(rejection, detail),
            SubmitError::Busy { retry_after, .. } => {
                Failure::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail).retry_after(retry_after)
            }
            SubmitError::Conflict(_) => {
                Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_conflict", detail)
            }
            SubmitError::Draining => Failure::draining(detail, Duration::from_secs(5)),
            SubmitError::Store(error) => error.into(),
            SubmitError::Body(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                StoreError::Full.into()
            }
            SubmitError::Body(error) => Failure::internal(error),
        }
    }
}

fn rejected(rejection: Rejection, detail: String) -> Failure {
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    match rejection {
        Rejection::Payload(errors) => {
            Failure::new(unprocessable, "invalid_payload", detail).with_errors(errors)
        }
        Rejection::Argument(errors) => {
            Failure::new(unprocessable, "invalid_argument", detail).with_errors(errors)
        }
        Rejection::TooLarge(_) => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "argument_too_large", detail),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full => "disk_full",
            StoreError::Closed => return Failure::too_late(),
            StoreError::Corrupt(_) => return Failure::internal(error),
            _ => "store_unavailable",
        };
        tracing::error!(%error, "the store failed a request");
        let detail = format!("{error}; nothing was recorded, try again later");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(Duration::from_secs(5))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            code: self.code.into(),
            detail: self.detail,
            errors: self.errors,
        };
        let body = serde_json::to_vec(&problem).expect("plain data becomes JSON");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}

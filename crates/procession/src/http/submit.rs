//! `POST /v1/tasks/{task}/jobs`.

use std::sync::Arc;

use axum::extract::{Extension, Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Body};
use jiff::Timestamp;
use procession_core::id::JobId;
use procession_core::limits::MAX_LANE;
use procession_core::placeholder::RequestValues;
use procession_core::task::{self, Task};

use super::Context;
use super::body;
use super::gate::Principal;
use super::problem::{Answer, Failure};
use super::query::{Query, header_map, prefer_wait};
use super::to_the_end::Work;
use crate::submit::{Accepted, Received, Request};

/// The longest key a client may send.
const MAX_KEY: usize = 255;

/// Takes a job: 202 with the job, or 200 once it is over where the client waits.
pub async fn submit(
    State(context): State<Context>,
    Path(name): Path<String>,
    Extension(principal): Extension<Principal>,
    Extension(work): Extension<Arc<Work>>,
    query: Query,
    request: HttpRequest,
) -> Answer {
    let task = context.task(&name)?;
    let (parts, body) = request.into_parts();
    let wait = prefer_wait(&parts.headers);
    let lane = lane(&task, &query)?;
    let mut submission = read(&context, task, principal, &query, &parts.headers, body, &work).await?;
    submission.priority = priority(&query)?;
    submission.run_at = run_at(&query)?;
    submission.lane = lane;
    let accepted = context.door.submit(submission).await?;
    work.rest();
    let (status, job) = match wait {
        None => (StatusCode::ACCEPTED, context.taken(&accepted).await?),
        Some(wait) => {
            let job = context.wait_for_end(accepted.id(), wait).await?;
            (if job.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED }, job)
        }
    };
    let mut response = (status, Json(job)).into_response();
    describe(&mut response, &accepted);
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs());
        if let Ok(value) = HeaderValue::try_from(applied) {
            response.headers_mut().insert("preference-applied", value);
        }
    }
    Ok(response)
}

/// Where the job is, on every answer about a new one.
pub(super) fn describe(response: &mut Response, accepted: &Accepted) {
    let id = accepted.id().to_string();
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(location(accepted.id())).expect("an id is plain ASCII");
    headers.insert(header::LOCATION, location);
    headers.insert("procession-job-id", HeaderValue::try_from(id).expect("an id is plain ASCII"));
    if let Accepted::Replay(_) = accepted {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
}

/// The path of a job.
pub(super) fn location(job: JobId) -> String {
    format!("/v1/jobs/{job}")
}

/// Reads a request into a submission for a job of `task`.
pub(super) async fn read(
    context: &Context,
    task: Arc<Task>,
    principal: Principal,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
    work: &Work,
) -> Answer<Request> {
    let idempotency_key = idempotency_key(headers)?;
    let limit = task.input.max_body;
    let body = match task.input.body {
        task::Body::Json => {
            let bytes = body::into_memory(body, limit, work).await?;
            if !bytes.is_empty() {
                check_content_type(&task, headers)?;
            }
            Received::Memory(bytes)
        }
        task::Body::Bytes => {
            check_content_type(&task, headers)?;
            body::into_file(body, limit, context, work).await?
        }
    };
    Ok(Request {
        task,
        body,
        values: RequestValues { query: query.to_map(), headers: header_map(headers) },
        priority: 0,
        lane: None,
        run_at: None,
        idempotency_key,
        principal: principal.0,
        retry_of: None,
    })
}

fn check_content_type(task: &Task, headers: &HeaderMap) -> Answer<()> {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
    if encoded {
        let detail = "send the body as it is, without a Content-Encoding";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sent = sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = match (task.input.content_types.as_slice(), task.input.body) {
        ([], task::Body::Bytes) => true,
        ([], task::Body::Json) => sent == "application/json" || sent.ends_with("+json"),
        (allowed, _) => allowed.iter().any(|pattern| matches_type(pattern, &sent)),
    };
    if fits {
        return Ok(());
    }
    let wanted = match task.input.content_types.as_slice() {
        [] => "application/json".to_owned(),
        allowed => allowed.join(", "),
    };
    let detail = format!("send the body as Content-Type: {wanted}");
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

fn matches_type(pattern: &str, sent: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(family) => sent.split('/').next().is_some_and(|theirs| theirs.eq_ignore_ascii_case(family)),
        None => pattern.eq_ignore_ascii_case(sent),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    if text.is_empty() || text.len() > MAX_KEY {
        let detail = format!("Idempotency-Key is 1 to {MAX_KEY} visible ASCII characters");
        return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_header", detail));
    }
    Ok(Some(text.to_owned()))
}

/// A client's lane, where its task leaves that to clients.
fn lane(task: &Task, query: &Query) -> Answer<Option<String>> {
    let Some(lane) = query.get("lane") else { return Ok(None) };
    if task.lane.is_some() {
        return Err(Failure::query("lane", "the config says which lane a job of this task is in"));
    }
    if task.route.as_ref().is_some_and(|route| route.anonymous) {
        return Err(Failure::query("lane", "a task that anybody may submit has no lanes of its clients"));
    }
    if lane.is_empty() || lane.len() > MAX_LANE || lane.contains('\0') {
        return Err(Failure::query("lane", format_args!("write 1 to {MAX_LANE} bytes of text")));
    }
    Ok(Some(lane.to_owned()))
}

fn priority(query: &Query) -> Answer<i32> {
    match query.parsed::<i32>("priority")? {
        None => Ok(0),
        Some(priority @ -100..=100) => Ok(priority),
        Some(_) => Err(Failure::query("priority", "write a number from -100 to 100")),
    }
}

fn run_at(query: &Query) -> Answer<Option<Timestamp>> {
    match (query.duration("delay")?, query.get("run_at")) {
        (Some(_), Some(_)) => Err(Failure::query("delay", "give either delay or run_at")),
        (Some(delay), None) => match Timestamp::now().checked_add(delay) {
            Ok(at) => Ok(Some(at)),
            Err(_) => Err(Failure::query("delay", "too far away")),
        },
        (None, _) => query.parsed::<Timestamp>("run_at"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        assert!(matches_type("image/*", "image/png") && matches_type("Text/CSV", "text/csv"));
        assert!(!matches_type("image/*", "imagex/png") && !matches_type("text/csv", "text/plain"));
    }
}

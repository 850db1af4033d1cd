//! Routes of the users' own (`route = "POST /…"`), beside `/v1`: the same door, another
//! way to answer. A program that replaces a user's old endpoint answers as that did.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use procession_core::api::Job;
use procession_core::task::{Method, Reply, ReplyFormat, Route, Task};

use super::gate::{Principal, refuse_cross_site};
use super::output::{harmless, whole};
use super::problem::{Answer, Failure};
use super::query::{Query, prefer_wait};
use super::to_the_end::Work;
use super::{Context, submit};
use crate::config::ReplyText;
use crate::data::Stream;
use crate::submit::Accepted;

/// The routes that ask for a token, and those that ask for none.
pub fn routers(context: &Context) -> (Router<Context>, Router<Context>) {
    let (mut closed, mut open) = (Router::new(), Router::new());
    for task in context.tasks.values() {
        let Some(route) = &task.route else { continue };
        let handler = {
            let task = task.clone();
            move |state, principal, work, query, request| {
                handle(task.clone(), state, principal, work, query, request)
            }
        };
        let at = match route.method {
            Method::Get => get(handler),
            Method::Post => post(handler),
        };
        if route.anonymous {
            open = open.route(&route.path, at);
        } else {
            closed = closed.route(&route.path, at);
        }
    }
    (closed, open)
}

async fn handle(
    task: Arc<Task>,
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(work): Extension<Arc<Work>>,
    query: Query,
    request: Request,
) -> Response {
    let Some(route) = task.route.clone() else { return Failure::not_found().into_response() };
    let mut response = match run(&context, &task, &route, principal, &work, &query, request).await {
        Ok(response) => response,
        Err(failure) => refuse(&route.reply, failure),
    };
    if route.method == Method::Get {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn run(
    context: &Context,
    task: &Arc<Task>,
    route: &Route,
    principal: Principal,
    work: &Work,
    query: &Query,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    if route.method == Method::Get {
        // A GET that starts a program: no HEAD for it, no image tag on another site's page.
        if parts.method != HttpMethod::GET {
            let detail = "this path takes GET";
            return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
                .with_header(header::ALLOW, HeaderValue::from_static("GET")));
        }
        refuse_cross_site(&parts.uri, &parts.headers)?;
    }
    let headers = &parts.headers;
    let submission = submit::read(context, task.clone(), principal, query, headers, body, work).await?;
    let accepted = context.door.submit(submission).await?;
    work.rest();
    let wait = wait(&route.reply, &parts.headers);
    let mut response = reply(context, &route.reply, &accepted, wait).await?;
    submit::describe(&mut response, &accepted);
    Ok(response)
}

/// How long this answer waits: as the config says, or for a Job as the client prefers.
fn wait(reply: &Reply, headers: &HeaderMap) -> Option<Duration> {
    reply.wait.or_else(|| prefer_wait(headers).filter(|_| reply.format == ReplyFormat::Job))
}

async fn reply(context: &Context, reply: &Reply, accepted: &Accepted, wait: Option<Duration>) -> Answer {
    let job = match wait {
        Some(wait) => context.wait_for_end(accepted.id(), wait).await?,
        None => context.taken(accepted).await?,
    };
    let over = job.state.is_final() && wait.is_some();
    let mapped = reply.status.iter().find(|(state, _)| over && *state == job.state);
    let mapped = mapped.and_then(|(_, status)| StatusCode::from_u16(*status).ok());
    match &reply.format {
        ReplyFormat::Envelope => {
            let failed = over && job.outcome.as_ref().is_some_and(|outcome| outcome.exit_code() != Some(0));
            let unmapped = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
            Ok(envelope(reply, mapped.unwrap_or(unmapped)))
        }
        _ if !over => Ok((StatusCode::ACCEPTED, Json(job)).into_response()),
        ReplyFormat::Job => Ok((mapped.unwrap_or(StatusCode::OK), Json(job)).into_response()),
        ReplyFormat::Text { template } => {
            let text = ReplyText::parse(template).map_err(Failure::internal)?;
            Ok((mapped.unwrap_or(StatusCode::OK), text.fill(&facts(&job))).into_response())
        }
        ReplyFormat::Stdout => raw_stdout(context, &job, mapped.unwrap_or(StatusCode::OK)).await,
    }
}

/// What a text template may say of a finished job.
fn facts(job: &Job) -> Vec<(&'static str, String)> {
    let number = |n: Option<u8>| n.map(|n| n.to_string()).unwrap_or_default();
    let kind = job.outcome.as_ref().and_then(|outcome| serde_json::to_value(outcome).ok());
    let kind = kind.and_then(|value| Some(value.get("kind")?.as_str()?.to_owned()));
    let output = job.output.clone().unwrap_or_default();
    vec![
        ("exit_code", number(job.exit_code)),
        ("signal", number(job.signal)),
        ("state", job.state.to_string()),
        ("outcome", kind.unwrap_or_default()),
        ("job.id", job.id.to_string()),
        ("stdout", output.stdout_tail),
        ("stderr", output.stderr_tail),
        ("run_ms", job.run_ms.map(|ms| ms.to_string()).unwrap_or_default()),
    ]
}

async fn raw_stdout(context: &Context, job: &Job, status: StatusCode) -> Answer {
    let tail = context.tail(job.id, None, Stream::Stdout).await?;
    let mut response = (status, whole(context, tail).await?).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    harmless(headers, None);
    if let Some(code) = job.exit_code {
        headers.insert("procession-exit-code", HeaderValue::from(u16::from(code)));
    }
    Ok(response)
}

/// A refusal in the route's own shape.
fn refuse(reply: &Reply, failure: Failure) -> Response {
    if reply.format != ReplyFormat::Envelope {
        return failure.into_response();
    }
    let status = match failure.status {
        StatusCode::TOO_MANY_REQUESTS => StatusCode::TOO_MANY_REQUESTS,
        // A server that is stopping is one to come back to.
        StatusCode::SERVICE_UNAVAILABLE if failure.code == "draining" => StatusCode::TOO_MANY_REQUESTS,
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => return failure.into_response(),
        status if status.is_client_error() => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let retry_after = failure.into_response().headers_mut().remove(header::RETRY_AFTER);
    let mut response = envelope(reply, status);
    if let Some(wait) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}

/// The four answers of the program that users have today.
fn envelope(reply: &Reply, status: StatusCode) -> Response {
    let message = match status.as_u16() {
        200 => "success",
        400 => "Missing required parameters.",
        429 => "System busy, try later.",
        _ => "Internal server error.",
    };
    let body = serde_json::json!({"code": status.as_u16(), "message": message});
    let status = if reply.always_200 { StatusCode::OK } else { status };
    (status, Json(body)).into_response()
}

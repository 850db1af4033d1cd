//! HTTP: bytes to requests, jobs to answers. Holds no truth and decides nothing about a
//! job: it asks the door, the store, the running table, and shows what they say.

mod accept;
mod all_events;
mod artifacts;
mod attempts;
mod body;
mod cancel;
mod children;
mod delete;
mod deliveries;
mod events;
mod explain;
mod forward;
mod gate;
mod health;
mod jobs;
mod opening;
mod output;
mod payload;
mod problem;
mod query;
mod range;
mod result;
mod retry;
mod route;
mod schedules;
mod submit;
mod tasks;
mod to_the_end;
mod view;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use procession_core::id::{JobId, TaskName};
use procession_core::schedule::Schedule;
use procession_core::task::Task;
use procession_store::Store;

use crate::background::Background;
use crate::board::Board;
use crate::data::DataDir;
use crate::drain::Drain;
use crate::facts::Facts;
use crate::handover::Handover;
use crate::meters::Meters;
use crate::scheduler::{Running, Scheduler};
use crate::submit::Door;
use crate::timetable::Timetable;

pub use accept::{Listener, accept};
pub use gate::Gate;

use problem::{Answer, Failure};

/// What handlers need; cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Parts>);

/// The parts of a [`Context`].
pub struct Parts {
    /// Who may come in.
    pub gate: Gate,
    /// The tasks of the config.
    pub tasks: BTreeMap<TaskName, Arc<Task>>,
    /// What runs by the clock.
    pub timetable: Arc<Timetable>,
    /// Into the store.
    pub door: Arc<Door>,
    /// The durable queue.
    pub store: Arc<dyn Store>,
    /// Held slots.
    pub running: Arc<Running>,
    /// News of jobs.
    pub board: Arc<Board>,
    /// To end a job, and to wake the dispatcher.
    pub scheduler: Arc<Scheduler>,
    /// Where files lie.
    pub data: DataDir,
    /// Rates.
    pub meters: Arc<Meters>,
    /// The way out.
    pub drain: Arc<Drain>,
    /// How far the next server has taken over.
    pub handover: Arc<Handover>,
    /// What this server is.
    pub facts: Facts,
    /// Concurrent work.
    pub background: Background,
}

impl Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl From<Parts> for Context {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

/// Everything this server answers to.
fn router(context: Context) -> Router {
    let authorized = middleware::from_fn_with_state(context.clone(), gate::authorize);
    let (with_token, without_token) = route::routers(&context);
    let closed = v1().merge(with_token).layer(authorized);
    let open = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(without_token.layer(middleware::from_fn(gate::admit_anyone)));
    closed
        .merge(open)
        .fallback(async || Failure::not_found())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(context.clone(), to_the_end::to_the_end))
        .layer(middleware::from_fn_with_state(context.clone(), gate::guard))
        .layer(middleware::from_fn(body::drain_refused))
        .layer(middleware::from_fn_with_state(context.clone(), forward::give_place))
        .layer(middleware::map_response(safe_headers))
        .with_state(context)
}

fn v1() -> Router<Context> {
    Router::new()
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{task}", get(tasks::one))
        .route("/v1/tasks/{task}/jobs", post(submit::submit))
        .route("/v1/tasks/{task}/pause", post(tasks::pause))
        .route("/v1/tasks/{task}/resume", post(tasks::resume))
        .route("/v1/schedules", get(schedules::list))
        .route("/v1/schedules/{schedule}", get(schedules::one))
        .route("/v1/schedules/{schedule}/run", post(schedules::run))
        .route("/v1/schedules/{schedule}/pause", post(schedules::pause))
        .route("/v1/schedules/{schedule}/resume", post(schedules::resume))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::get).delete(delete::delete))
        .route("/v1/jobs/{id}/cancel", post(cancel::cancel))
        .route("/v1/jobs/{id}/retry", post(retry::retry))
        .route("/v1/jobs/{id}/stdout", get(output::stdout))
        .route("/v1/jobs/{id}/stderr", get(output::stderr))
        .route("/v1/jobs/{id}/events", get(events::job))
        .route("/v1/jobs/{id}/result", get(result::get))
        .route("/v1/jobs/{id}/payload", get(payload::get))
        .route("/v1/jobs/{id}/attempts", get(attempts::list))
        .route("/v1/jobs/{id}/children", get(children::list))
        .route("/v1/jobs/{id}/artifacts", get(artifacts::list))
        .route("/v1/jobs/{id}/artifacts/{*name}", get(artifacts::one))
        .route("/v1/jobs/{id}/explain", get(explain::get))
        .route("/v1/deliveries", get(deliveries::list))
        .route("/v1/deliveries/{id}/repeat", post(deliveries::repeat))
        .route("/v1/events", get(all_events::stream))
        .route("/v1/stats", get(health::stats))
}

/// axum adds `Allow` to whatever this answers.
async fn method_not_allowed() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not take this method; `Allow` says which it takes",
    )
}

/// No answer is guessed at, framed, or kept by a shared cache.
async fn safe_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A typed id, or 404: nothing that is no id gets further.
fn job_id(text: &str) -> Answer<JobId> {
    text.parse().map_err(|_| Failure::unknown_job())
}

impl Context {
    /// The task of this name, or 404.
    fn task(&self, name: &str) -> Answer<Arc<Task>> {
        self.tasks.get(name).cloned().ok_or_else(|| Failure::unknown_task(name))
    }

    /// The schedule of this name, or 404.
    fn schedule(&self, name: &str) -> Answer<Arc<Schedule>> {
        self.timetable.schedules.get(name).cloned().ok_or_else(|| Failure::unknown_schedule(name))
    }
}

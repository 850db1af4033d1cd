//! `GET /v1/jobs/{id}/children`: in order, a page at a time.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use procession_core::api::JobPage;

use super::jobs::{before, cursor};
use super::problem::{Answer, Failure};
use super::query::Query;
use super::{Context, job_id};

/// Children on a page where the client does not say, and at most.
const PAGE: (usize, usize) = (1000, 1000);

/// The children of one job; none of a job that is no family.
pub async fn list(State(context): State<Context>, Path(id): Path<String>, query: Query) -> Answer {
    let id = job_id(&id)?;
    context.record(id).await?;
    let limit = query.parsed::<usize>("limit")?.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        return Err(Failure::query("limit", format_args!("write a number from 1 to {}", PAGE.1)));
    }
    let after = query.get("cursor").map(before).transpose()?;
    let mut records = context.store.children(id, after, limit + 1).await?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next_cursor = records.last().filter(|_| more).map(|last| cursor(last.id));
    let items = records.into_iter().map(|record| context.show(record)).collect();
    Ok(Json(JobPage { items, next_cursor }).into_response())
}

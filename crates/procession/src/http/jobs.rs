//! `GET /v1/jobs` and `GET /v1/jobs/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use procession_core::api::JobPage;
use procession_core::id::{JobId, TaskName};
use procession_core::state::JobState;
use procession_store::Query as StoreQuery;

use super::problem::{Answer, Failure};
use super::query::Query;
use super::{Context, job_id};

/// Jobs on a page where the client does not say, and at most.
const PAGE: (usize, usize) = (50, 1000);

/// One job; with `?wait=30` once it is over.
pub async fn get(State(context): State<Context>, Path(id): Path<String>, query: Query) -> Answer {
    let id = job_id(&id)?;
    let job = match query.wait()? {
        None => context.job(id).await?,
        Some(wait) => context.wait_for_end(id, wait).await?,
    };
    Ok(Json(job).into_response())
}

/// A page of jobs, newest first.
pub async fn list(State(context): State<Context>, query: Query) -> Answer {
    if let Some(suffix) = query.get("id_suffix") {
        return by_suffix(&context, suffix).await;
    }
    let limit = page_size(&query)?;
    let mut asked = StoreQuery {
        task: query.parsed::<TaskName>("task")?,
        states: states(&query)?,
        parent: query.parsed::<JobId>("parent")?,
        lane: query.get("lane").map(str::to_owned),
        labels: query.with_prefix("label.").map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        since: query.since("since")?,
        before: query.get("cursor").map(before).transpose()?,
        limit: limit + 1,
    };
    asked.states.dedup();
    let mut records = context.store.list(asked).await?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next_cursor = records.last().filter(|_| more).map(|last| cursor(last.id));
    let items = records.into_iter().map(|record| context.show(record)).collect();
    Ok(Json(JobPage { items, next_cursor }).into_response())
}

/// How many of whatever it is a page may have.
pub(super) fn page_size(query: &Query) -> Answer<usize> {
    let limit = query.parsed::<usize>("limit")?.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        return Err(Failure::query("limit", format_args!("write a number from 1 to {}", PAGE.1)));
    }
    Ok(limit)
}

/// Jobs whose id ends so: people type the end of an id, since UUIDv7 begin alike.
async fn by_suffix(context: &Context, suffix: &str) -> Answer {
    const MOST: usize = 10;
    let digits: String = suffix.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    if !(4..=32).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Failure::query("id_suffix", "write 4 to 32 hexadecimal digits"));
    }
    let mut items = Vec::new();
    for id in context.store.ids_ending(&digits, MOST).await? {
        if let Some(record) = context.store.get(id).await? {
            items.push(context.show(record));
        }
    }
    Ok(Json(JobPage { items, next_cursor: None }).into_response())
}

fn states(query: &Query) -> Answer<Vec<JobState>> {
    let names = query.get("state").into_iter().flat_map(|names| names.split(','));
    names.map(|name| name.trim().parse().map_err(|problem| Failure::query("state", problem))).collect()
}

/// Where the next page begins: opaque to clients, so that what it holds may change.
pub(super) fn cursor(last: JobId) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(last.as_bytes())
}

/// The last job of the page before.
pub(super) fn before(cursor: &str) -> Answer<JobId> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).ok();
    let id = bytes.and_then(|bytes| bytes.try_into().ok()).map(JobId::from_bytes);
    id.ok_or_else(Failure::bad_cursor)
}

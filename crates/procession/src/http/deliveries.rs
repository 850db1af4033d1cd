//! `GET /v1/deliveries` and `POST /v1/deliveries/{id}/repeat`: what follows the ends of jobs.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use procession_core::api::{Delivery, DeliveryPage};
use procession_core::id::JobId;
use procession_core::outbox::{DeliveryId, DeliveryState};
use procession_store::DeliveryQuery;

use super::Context;
use super::jobs::page_size;
use super::problem::{Answer, Failure};
use super::query::Query;

/// A page of deliveries, newest first.
pub async fn list(State(context): State<Context>, query: Query) -> Answer {
    let limit = page_size(&query)?;
    let asked = DeliveryQuery {
        job: query.parsed::<JobId>("job")?,
        states: states(&query)?,
        before: query.get("cursor").map(before).transpose()?,
        limit: limit + 1,
    };
    let mut found = context.store.deliveries(asked).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| cursor(last.number));
    let items = found.into_iter().map(Delivery::of).collect();
    Ok(Json(DeliveryPage { items, next_cursor }).into_response())
}

/// Makes a delivery due now, whatever became of it; 202 with it as it stands then.
pub async fn repeat(State(context): State<Context>, Path(id): Path<String>) -> Answer {
    let id: DeliveryId = id.parse().map_err(|_| unknown())?;
    if !context.store.repeat_delivery(id, Timestamp::now()).await? {
        return Err(unknown());
    }
    let delivery = context.store.delivery(id).await?.ok_or_else(unknown)?;
    context.scheduler.deliver.notify_one();
    Ok((StatusCode::ACCEPTED, Json(Delivery::of(delivery))).into_response())
}

fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "unknown_delivery", "there is no delivery with this id")
}

fn states(query: &Query) -> Answer<Vec<DeliveryState>> {
    let names = query.get("state").into_iter().flat_map(|names| names.split(','));
    let states: Answer<Vec<DeliveryState>> =
        names.map(|name| name.trim().parse().map_err(|problem| Failure::query("state", problem))).collect();
    states.map(|mut states| {
        states.sort_unstable();
        states.dedup();
        states
    })
}

/// Opaque to clients, so that what it holds may change.
fn cursor(last: u64) -> String {
    URL_SAFE_NO_PAD.encode(last.to_be_bytes())
}

fn before(cursor: &str) -> Answer<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(Failure::bad_cursor)
}

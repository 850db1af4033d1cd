//! `/healthz` (the process answers), `/readyz` (it takes jobs), `/v1/stats`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use procession_core::api::Stats;
use procession_store::StoreError;
use serde_json::json;

use super::Context;
use super::problem::{Answer, Failure};

/// A store slower than this is not ready.
const PROBE: Duration = Duration::from_secs(2);

/// The process answers.
pub async fn healthz() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}

/// Jobs are taken: the store writes, and nobody asked the server to stop.
pub async fn readyz(State(context): State<Context>) -> Answer {
    if context.drain.is_draining() {
        let detail = "the server is stopping";
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail));
    }
    match tokio::time::timeout(PROBE, context.store.probe()).await {
        Ok(Ok(())) if context.door.space.is_low() || context.door.space.is_full() => {
            return Err(StoreError::Full.into());
        }
        // The next server writes; to clients the two are one.
        Ok(Err(StoreError::Closed)) if context.handover.is_begun() => {}
        Ok(probed) => probed?,
        Err(_) => {
            let detail = "the store does not answer";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail));
        }
    }
    Ok(Json(json!({"status": "ready"})).into_response())
}

/// The server as a whole.
pub async fn stats(State(context): State<Context>) -> Answer {
    let tasks = context.store.stats().await?;
    let sum = |count: fn(&procession_store::TaskCounts) -> u64| tasks.values().map(count).sum();
    let facts = &context.facts;
    Ok(Json(Stats {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: facts.started_at,
        config_revision: facts.revision.clone(),
        config_loaded_at: facts.config_loaded_at,
        containment: facts.containment.name().into(),
        keeper_pid: facts.keeper_pid,
        server_pid: std::process::id(),
        running: sum(|task| task.running),
        max_running: facts.slots,
        queued: sum(|task| task.queued),
        finished: sum(|task| task.finished),
        failed: sum(|task| task.failed),
        connections: context.background.connections() as u64,
    })
    .into_response())
}

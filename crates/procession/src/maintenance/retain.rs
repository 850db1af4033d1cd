//! Removes finished jobs when their time is over: rows first, then files, in small batches,
//! so that nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::scheduler::Scheduler;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(60);

/// Jobs removed in one transaction.
const BATCH: usize = 500;

/// Runs until the server stops.
pub async fn retain(scheduler: Arc<Scheduler>, age: Option<Duration>) {
    let Some(age) = age else { return };
    loop {
        if let Err(error) = prune(&scheduler, age).await {
            tracing::error!(%error, "finished jobs cannot be removed");
        }
        if !scheduler.background.goes_on_after(LOOK).await {
            return;
        }
    }
}

async fn prune(scheduler: &Scheduler, age: Duration) -> anyhow::Result<()> {
    loop {
        let before = Timestamp::now().checked_sub(age)?;
        let removed = scheduler.store.prune(before, BATCH).await?;
        let last = removed.len() < BATCH;
        let data = scheduler.data.clone();
        scheduler.background.blocking(move || data.remove_jobs(removed)).await;
        if last {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

//! Removes folders in `jobs` that belong to no job: a server that was killed between a body and
//! its row, or between a row's end and its files, left them. By the rule that `doctor` names
//! them by, slowly, and never what the store knows.

use std::sync::Arc;
use std::time::Duration;

use procession_core::id::JobId;
use procession_store::StoreError;

use crate::scheduler::Scheduler;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3600);

/// Jobs asked about before a pause.
const BATCH: usize = 100;

/// It.
const PAUSE: Duration = Duration::from_millis(100);

/// Before what is unknown is asked about once more: a clock that was set makes a body that is
/// arriving look old.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs until the server stops.
pub async fn sweep(scheduler: Arc<Scheduler>) {
    loop {
        if let Err(error) = sweep_once(&scheduler).await {
            tracing::error!(%error, "folders that belong to no job cannot be removed");
        }
        if !scheduler.background.goes_on_after(LOOK).await {
            return;
        }
    }
}

async fn sweep_once(scheduler: &Scheduler) -> anyhow::Result<()> {
    let data = scheduler.data.clone();
    let settled = scheduler.background.blocking(move || data.settled_jobs()).await?;
    let stray = unknown(scheduler, &settled).await?;
    if stray.is_empty() || !scheduler.background.goes_on_after(AGAIN).await {
        return Ok(());
    }
    let stray = unknown(scheduler, &stray).await?;
    let mut removed = 0;
    for job in stray {
        if scheduler.background.is_put_down() {
            break;
        }
        let data = scheduler.data.clone();
        match scheduler.background.blocking(move || data.remove_job(job)).await {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(%error, %job, "the folder of no job stays behind"),
        }
    }
    tracing::info!(removed, "folders that belonged to no job were removed");
    Ok(())
}

/// Those the store does not know; none where work is put down meanwhile.
async fn unknown(scheduler: &Scheduler, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
    let mut unknown = Vec::new();
    for batch in jobs.chunks(BATCH) {
        for job in batch {
            if scheduler.store.get(*job).await?.is_none() {
                unknown.push(*job);
            }
        }
        if !scheduler.background.goes_on_after(PAUSE).await {
            return Ok(Vec::new());
        }
    }
    Ok(unknown)
}

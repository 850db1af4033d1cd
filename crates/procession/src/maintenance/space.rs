//! Watches the free space of the data directory's disk: below `[retention] min_free` no job
//! is taken (503 `disk_full`), so that those that run can still record how they end.

use std::sync::Arc;
use std::time::Duration;

use crate::scheduler::Scheduler;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until the server stops.
pub async fn watch_space(scheduler: Arc<Scheduler>, min_free: Option<u64>) {
    let Some(min_free) = min_free else { return };
    loop {
        match rustix::fs::statvfs(scheduler.data.root()) {
            Ok(disk) => {
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                if scheduler.space.set_low(free < min_free) {
                    tracing::warn!(free, min_free, "free space has crossed [retention] min_free");
                }
            }
            Err(error) => tracing::error!(%error, "the free space of the data directory is not known"),
        }
        if !scheduler.background.goes_on_after(LOOK).await {
            return;
        }
    }
}

//! Ends jobs that have waited longer than their `queue_timeout`, and families that took longer than
//! their `timeout`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use procession_store::Effects;

use crate::scheduler::Scheduler;

/// The longest between two looks: a job submitted meanwhile may expire sooner than any
/// known before.
const LOOK: Duration = Duration::from_millis(500);

/// Runs until the server stops.
pub async fn expire(scheduler: Arc<Scheduler>) {
    while scheduler.background.goes_on_after(LOOK).await {
        // Asked of a reader, so that a store with nothing to do is left in peace.
        while matches!(scheduler.store.next_due().await, Ok(Some(due)) if due <= Timestamp::now()) {
            let effects = match scheduler.store.expire(Timestamp::now()).await {
                Ok(effects) => effects,
                Err(error) => {
                    tracing::error!(%error, "waiting jobs cannot be expired");
                    break;
                }
            };
            // What was due and is not ended is being stopped, or about to be promoted.
            let none = effects == Effects::default();
            scheduler.follow(effects, false);
            if none {
                break;
            }
        }
    }
}

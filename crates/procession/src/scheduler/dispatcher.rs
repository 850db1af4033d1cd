//! Gives free slots to waiting jobs. One loop, woken by whoever frees a slot or adds a
//! job; it registers for the wake-up before it asks the store, so none is missed, and a
//! slow poll is the net below.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use procession_core::frame::ToKeeper;
use procession_core::id::ClaimId;
use procession_core::task::Task;
use procession_keeper::fault;
use procession_store::{Claim, ClaimedBatch, Effects, Room, StoreError};

use super::Scheduler;
use crate::drain::{Drain, Stage};
use crate::random;

/// How long nothing at all may happen before the store is asked anyway.
const NET: Duration = Duration::from_secs(5);

/// After the store failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The most jobs claimed in one transaction.
const BATCH: usize = 256;

impl Scheduler {
    /// Runs until the server drains or retires: what is queued then waits for the next one.
    pub async fn dispatch(self: Arc<Self>, drain: Arc<Drain>) {
        tokio::select! {
            () = self.settle_losses() => {}
            () = drain.reached(Stage::Retiring) => {}
        }
        self.gather_all().await;
        while !drain.starts_nothing() {
            let woken = self.wake.notified();
            let pause = match self.claim_and_launch().await {
                Ok(Claimed::Full) => continue,
                Ok(Claimed::All { next_due }) => until(next_due),
                Err(error @ StoreError::Disk(_)) => self.background.give_up(&error),
                Err(error) => {
                    if self.space.met(&error) {
                        tracing::error!(%error, "no jobs can be claimed");
                    }
                    PAUSE
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
                () = drain.reached(Stage::Retiring) => {}
            }
            // Others would meet the same want of processes or descriptors.
            while let Some(wait) = self.pressure.left() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = drain.reached(Stage::Retiring) => break,
                }
            }
        }
        drain.launches_are_over();
    }

    /// Nothing is claimed before the keeper can know whose claims are whose.
    async fn settle_losses(&self) {
        self.losses.are_recorded().await;
        self.keeper.send(&ToKeeper::Settled);
        self.keeper.written().await;
    }

    async fn claim_and_launch(self: &Arc<Self>) -> Result<Claimed, StoreError> {
        let free = self.slots.saturating_sub(self.running.len()).min(BATCH);
        // Nobody is there who could start anything: jobs wait for the next keeper's server.
        if free == 0 || self.keeper.is_gone() {
            return Ok(Claimed::All { next_due: None });
        }
        fault::check("claim.before_commit").map_err(|e| StoreError::Database(e.to_string()))?;
        let ClaimedBatch { jobs, begun, effects, next_due } = self.store.claim(self.question(free)).await?;
        fault::point("claim.after_commit");
        // What began has children, or a join, that may be given slots now.
        let filled = jobs.len() == free || !begun.is_empty();
        begun.iter().for_each(|parent| self.board.tell(*parent));
        if effects != Effects::default() {
            self.follow(effects, false);
        }
        for claimed in jobs {
            self.launch(claimed);
        }
        Ok(if filled { Claimed::Full } else { Claimed::All { next_due } })
    }

    fn question(&self, free: usize) -> Claim {
        Claim {
            node: self.node.clone(),
            boot_id: self.boot_id,
            free,
            tasks: self.tasks.iter().map(|(name, task)| (name.clone(), room(task))).collect(),
            now: Timestamp::now(),
            claim_id: ClaimId(random::bytes()),
        }
    }
}

fn room(task: &Task) -> Room {
    Room { running: task.limits.max_running, per_lane: task.limits.per_lane }
}

/// What a claim found.
enum Claimed {
    /// As many as there were slots: there may be more.
    Full,
    /// All that could run.
    All { next_due: Option<Timestamp> },
}

fn until(due: Option<Timestamp>) -> Duration {
    let wait =
        due.map_or(NET, |due| Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default());
    wait.clamp(Duration::from_millis(1), NET)
}

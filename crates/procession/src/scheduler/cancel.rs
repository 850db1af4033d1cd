//! Ends a job on request: in the store first, then, where it runs, through the keeper.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use procession_core::frame::ToKeeper;
use procession_core::id::{JobId, TaskName};
use procession_core::job::Lease;
use procession_core::outcome::CancelledBy;
use procession_core::state::JobState;
use procession_core::task::Task;
use procession_keeper::fault;
use procession_store::{Cancelled, Query, StoreError, TaskCounts};

use super::Scheduler;
use super::running::Stop;

/// Jobs asked for at once.
const PAGE: usize = 500;

/// Tasks that are not in the config and have unfinished jobs, and how many.
pub fn unfinished_of_removed(
    tasks: &BTreeMap<TaskName, Arc<Task>>,
    counts: BTreeMap<TaskName, TaskCounts>,
) -> impl Iterator<Item = (TaskName, u64)> {
    let removed = counts.into_iter().filter(|(name, _)| !tasks.contains_key(name));
    removed.map(|(name, counts)| (name, counts.unfinished())).filter(|(_, jobs)| *jobs > 0)
}

impl Scheduler {
    /// Ends `job` for a client; `now`: without asking its program first.
    pub async fn cancel(self: &Arc<Self>, job: JobId, now: bool) -> Result<Cancelled, StoreError> {
        self.end_job(job, Stop { by: CancelledBy::Client, now }).await
    }

    /// Ends the unfinished jobs of tasks that are not in the config, or says that there are some:
    /// they may have come while the config changed.
    pub async fn look_for_removed(self: &Arc<Self>, cancels: bool) -> Result<(), StoreError> {
        for (task, jobs) in unfinished_of_removed(&self.tasks, self.store.stats().await?) {
            if cancels {
                self.cancel_all_of(task).await?;
            } else {
                tracing::warn!(%task, jobs, "a task that is not in the config has unfinished jobs");
            }
        }
        Ok(())
    }

    async fn cancel_all_of(self: &Arc<Self>, task: TaskName) -> Result<(), StoreError> {
        let states = JobState::ALL.into_iter().filter(|state| !state.is_final()).collect();
        let mut page = Query { task: Some(task), states, limit: PAGE, ..Query::default() };
        loop {
            let jobs = self.store.list(page.clone()).await?;
            let Some(oldest) = jobs.last() else { return Ok(()) };
            page.before = Some(oldest.id);
            let stop = Stop { by: CancelledBy::TaskRemoved, now: false };
            // At once, so that they share the disk's work.
            try_join_all(jobs.iter().map(|job| self.end_job(job.id, stop))).await?;
        }
    }

    async fn end_job(self: &Arc<Self>, job: JobId, stop: Stop) -> Result<Cancelled, StoreError> {
        fault::check("cancel.before_commit").map_err(|e| StoreError::Database(e.to_string()))?;
        let met = self.store.cancel(job, stop.by, Timestamp::now()).await?;
        fault::point("cancel.after_commit");
        match met.clone() {
            Cancelled::Asked(effects) | Cancelled::Ended(effects) => self.follow(effects, stop.now),
            Cancelled::Unknown | Cancelled::AlreadyOver => {}
        }
        self.board.tell(job);
        Ok(met)
    }

    /// Ends every running attempt because the server stops.
    pub fn stop_all(&self, now: bool) {
        for lease in self.running.leases() {
            self.stop_attempt(lease, Stop { by: CancelledBy::Shutdown, now });
        }
    }

    /// Tells the keeper, at once or as soon as the launch has gone out.
    pub(super) fn stop_attempt(&self, lease: Lease, stop: Stop) {
        let key = lease.key();
        if self.running.may_stop(key, stop) {
            self.keeper.send(&ToKeeper::Stop { key, by: stop.by, now: stop.now });
        }
    }
}

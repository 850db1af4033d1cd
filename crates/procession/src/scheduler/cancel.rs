//! Ends a job on request: in the store first, then, where it runs, through the keeper.

use jiff::Timestamp;
use procession_core::frame::ToKeeper;
use procession_core::id::JobId;
use procession_core::job::Lease;
use procession_core::outcome::CancelledBy;
use procession_keeper::fault;
use procession_store::{Cancelled, StoreError};

use super::Scheduler;
use super::running::Stop;

impl Scheduler {
    /// Ends `job`; `now`: without asking its program first.
    pub async fn cancel(&self, job: JobId, now: bool) -> Result<Cancelled, StoreError> {
        fault::check("cancel.before_commit").map_err(|e| StoreError::Database(e.to_string()))?;
        let met = self.store.cancel(job, CancelledBy::Client, Timestamp::now()).await?;
        fault::point("cancel.after_commit");
        match met {
            Cancelled::Running(lease) => self.stop_attempt(lease, Stop { by: CancelledBy::Client, now }),
            Cancelled::Ended => self.wake.notify_one(),
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

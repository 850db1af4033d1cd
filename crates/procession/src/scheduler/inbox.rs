//! What the keeper says, in its order.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use procession_core::frame::{Started, ToKeeper, ToServer};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Scheduler;
use super::note::Note;
use crate::drain::{Drain, Stage};

/// A program that ends sooner never has its start noted apart from its end.
const SOON_OVER: Duration = Duration::from_millis(250);

impl Scheduler {
    /// Runs until the keeper is gone.
    pub async fn listen(self: Arc<Self>, mut inbox: UnboundedReceiver<ToServer>, drain: Arc<Drain>) {
        while let Some(frame) = inbox.recv().await {
            match frame {
                // The next server asks for all of it.
                ToServer::Started(_) | ToServer::Output(_) | ToServer::Exited(_)
                    if self.background.is_put_down() => {}
                ToServer::Started(started) => self.note_start(started),
                ToServer::Output(notice) => self.running.output(notice, Timestamp::now()),
                ToServer::Exited(record) => self.background.errand(self.clone().attempt_over(record)),
                ToServer::Shutdown(shutdown) => drain.ask(shutdown),
                ToServer::Retire => drain.advance(Stage::Retiring),
                ToServer::Ping => self.keeper.send(&ToKeeper::Pong),
                ToServer::ReopenLog => self.background.log().reopen(),
                ToServer::Hello(_) | ToServer::Attempts { .. } | ToServer::Proceed | ToServer::Held(_) => {
                    tracing::error!("the keeper said something out of turn");
                }
            }
        }
    }

    /// Whoever reads the job sees the start in `Running`; the store is told only of programs
    /// that run for a while. A failure loses nothing: the end carries the start time too.
    fn note_start(self: &Arc<Self>, started: Started) {
        self.running.started(&started);
        let Some(note) = Note::from_bytes(&started.cookie) else { return };
        let lease = note.lease(started.key);
        let at = Timestamp::from_microsecond(started.started_us).unwrap_or_else(|_| Timestamp::now());
        let scheduler = self.clone();
        self.background.errand(async move {
            if !scheduler.background.goes_on_after(SOON_OVER).await {
                return;
            }
            if scheduler.running.get(lease.job).is_none_or(|live| live.lease != lease) {
                return;
            }
            if let Err(error) = scheduler.store.started(lease, at, started.containment).await {
                tracing::warn!(job = %lease.job, %error, "a start cannot be noted");
            }
        });
    }
}

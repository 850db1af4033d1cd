//! A job as clients see it: what the store has, and for a running one what is known beyond
//! it; and waiting until it is over.

use std::time::Duration;

use procession_core::api::{Job, Output};
use procession_core::id::JobId;
use procession_core::job::JobRecord;
use procession_core::state::JobState;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::problem::{Answer, Failure};
use crate::submit::Accepted;

impl Context {
    /// The stored job, or 404.
    pub(super) async fn record(&self, job: JobId) -> Answer<JobRecord> {
        self.store.get(job).await?.ok_or_else(Failure::unknown_job)
    }

    /// The job as it stands.
    pub(super) async fn job(&self, job: JobId) -> Answer<Job> {
        Ok(self.show(self.record(job).await?))
    }

    /// A job that was just taken, without asking the store for what is known.
    pub(super) async fn taken(&self, accepted: &Accepted) -> Answer<Job> {
        match accepted {
            Accepted::New(record) => Ok(Job::of(record.as_ref().clone())),
            Accepted::Replay(id) | Accepted::Duplicate(id) => self.job(*id).await,
        }
    }

    /// Adds what is known of a running attempt.
    pub(super) fn show(&self, record: JobRecord) -> Job {
        let mut job = Job::of(record);
        if job.state != JobState::Running {
            return job;
        }
        let Some(live) = self.running.get(job.id).filter(|live| live.lease.attempt.0 == job.attempt) else {
            return job;
        };
        job.started_at = job.started_at.or(live.started_at);
        job.containment = job.containment.or(live.containment.map(|level| level.name().to_owned()));
        job.progress = live.progress;
        job.output =
            Some(Output { stdout_bytes: live.stdout, stderr_bytes: live.stderr, ..Output::default() });
        job
    }

    /// The job once it is over, or as it stands when `wait` has passed or the server stops.
    pub(super) async fn wait_for_end(&self, job: JobId, wait: Duration) -> Answer<Job> {
        let deadline = Instant::now() + wait;
        // Registered before the first look: an end between the two is not missed.
        let mut watcher = self.board.watch(job);
        loop {
            // News of a running job are mostly of its output: the store is asked once its slot is free.
            let runs = self.running.get(job).is_some() && !self.handover.is_begun();
            if !runs {
                let seen = self.job(job).await?;
                if seen.state.is_final() {
                    return Ok(seen);
                }
            }
            tokio::select! {
                changed = timeout_at(deadline, watcher.changed()) => {
                    if changed.is_err() {
                        return self.job(job).await;
                    }
                }
                () = self.handover.next_look() => {}
                () = self.background.stopping().cancelled() => return self.job(job).await,
            }
        }
    }
}

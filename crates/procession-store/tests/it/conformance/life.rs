//! The whole way of a job, and what is kept of it.

use std::sync::Arc;

use procession_core::outcome::Outcome;
use procession_core::record::Containment;
use procession_core::state::JobState;
use procession_store::{Applied, Store};

use crate::fixture::*;

pub(crate) async fn a_job_from_submission_to_success(store: &Arc<dyn Store>) {
    store.put_tasks(vec![task("a"), task("b")]).await.expect("known");
    let lease = running(&**store, "a", 0).await;
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.attempt, job.started_at), (JobState::Running, 1, None));
    assert_eq!(store.started(lease, at(1), Containment::Cgroup).await, Ok(Applied::Applied));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.started_at, job.containment), (Some(at(1)), Some(Containment::Cgroup)));
    assert_eq!(store.finish(ok(lease, 1)).await, Ok(Applied::Applied));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.outcome), (JobState::Succeeded, Some(Outcome::Exited { code: 0 })));
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.running, counts.queued, counts.finished, counts.failed), (0, 0, 1, 0));
}

pub(crate) async fn a_job_is_loaded_as_it_was_submitted(_store: &Arc<dyn Store>) {}

//! The whole way of a job, and what is kept of it.

use std::sync::Arc;

use bytes::Bytes;
use procession_core::job::{
    Artifact, Finished, OutputSummary, Progress, ResultSummary, StoredPayload, StreamSummary,
};
use procession_core::outcome::{CancelledBy, LostReason, Outcome};
use procession_core::placeholder::RequestValues;
use procession_core::record::{Containment, OutputPlace};
use procession_core::state::JobState;
use procession_store::{Applied, Store};

use crate::fixture::*;

pub(crate) async fn a_job_from_submission_to_success(store: &Arc<dyn Store>) {
    store.put_tasks(vec![task("a"), task("b")]).await.expect("known");
    let lease = running(&**store, "a", 0).await;
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.attempt, job.started_at), (JobState::Running, 1, None));
    assert_eq!(job.node.as_deref(), Some("n1"));
    let attempts = store.attempts(lease.job).await.expect("read");
    assert_eq!(attempts.len(), 1);
    assert_eq!((&attempts[0].outcome, attempts[0].claimed_at), (&None, at(0)));

    assert_eq!(store.started(lease, at(1), Containment::Cgroup).await, Ok(Applied::Applied));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.started_at, job.containment), (Some(at(1)), Some(Containment::Cgroup)));

    assert_eq!(store.finish(ok(lease, 1)).await, Ok(change(Applied::Applied)));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.state, job.outcome), (JobState::Succeeded, Some(Outcome::Exited { code: 0 })));
    assert_eq!((job.finished_at, job.run_ms, job.attempt), (Some(at(2)), Some(1_000), 1));
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.running, counts.queued, counts.finished, counts.failed), (0, 0, 1, 0));
}

pub(crate) async fn a_job_is_loaded_as_it_was_submitted(store: &Arc<dyn Store>) {
    let mut full = job("a", 1);
    full.payload = StoredPayload::File { len: 10 << 20 };
    full.request = RequestValues {
        query: labels(&[("fast", "1"), ("empty", "")]),
        headers: labels(&[("x-who", "me \"and\" you")]),
    };
    full.labels = labels(&[("kind", "roof ü"), ("n", "7")]);
    full.priority = -100;
    full.run_at = Some(at(90));
    full.expires_at = Some(at(100));
    full.submitted_by = "token:default".into();
    full.retry_of = Some(id(0));
    let plain = job("a", 2);
    for submitted in [full, plain] {
        put(&**store, submitted.clone()).await;
        let job = store.get(submitted.id).await.expect("read").expect("there");
        let queued = if submitted.run_at.is_some() { JobState::Scheduled } else { JobState::Queued };
        assert_eq!((job.id, job.task, job.state), (submitted.id, submitted.task, queued));
        assert_eq!((job.attempt, job.max_attempts, job.outcome), (0, 1, None));
        assert_eq!((job.submitted_at, job.run_at), (submitted.submitted_at, submitted.run_at));
        assert_eq!((job.expires_at, job.priority), (submitted.expires_at, submitted.priority));
        assert_eq!((job.labels, job.retry_of), (submitted.labels, submitted.retry_of));
        assert_eq!(
            (job.submitted_by, job.config_revision),
            (submitted.submitted_by.to_string(), "r1".into())
        );
        assert_eq!((job.started_at, job.finished_at, job.node), (None, None, None));
        assert_eq!((job.output, job.result, job.usage), (None, ResultSummary::None, None));
        let len = if submitted.run_at.is_some() { 10 << 20 } else { 10 };
        assert_eq!(job.payload_len, len);
        let (payload, request) = store.payload(submitted.id).await.expect("read").expect("there");
        assert_eq!((payload, request), (submitted.payload, submitted.request));
        assert_eq!(store.attempts(submitted.id).await, Ok(vec![]));
    }
    assert_eq!(store.get(id(3)).await, Ok(None));
    assert_eq!(store.payload(id(3)).await, Ok(None));
    assert_eq!(store.attempts(id(3)).await, Ok(vec![]));
}

pub(crate) async fn what_an_attempt_left_is_loaded_as_it_was_recorded(store: &Arc<dyn Store>) {
    let results = [
        ResultSummary::Inline { json: true, bytes: Bytes::from_static(b"{\"a\":1}") },
        ResultSummary::Inline { json: false, bytes: Bytes::new() },
        ResultSummary::File { json: true, len: 1 << 40 },
    ];
    for (n, result) in (0..).zip(results) {
        let lease = running(&**store, "a", n).await;
        let stream = |total: u64, tail: Vec<u8>| StreamSummary {
            total,
            written: total - 1,
            place: OutputPlace::File,
            tail: tail.into(),
        };
        let finished = Finished {
            output: OutputSummary {
                stdout: stream(1 << 34, vec![0xff; 16 << 10]),
                stderr: stream(17, b"\0oops\n".to_vec()),
                limit: 1 << 33,
            },
            result: result.clone(),
            artifacts: vec![Artifact { name: "img/ä.png".into(), size: 5 }],
            progress: Some(Progress { fraction: 0.1 + 0.2, message: "roof left".into() }),
            containment: Some(Containment::Monitor),
            leaked: 3,
            ..ended(lease, Outcome::Exited { code: 3 }, n)
        };
        assert_eq!(store.finish(finished.clone()).await, Ok(change(Applied::Applied)));
        let job = store.get(lease.job).await.expect("read").expect("there");
        assert_eq!((job.state, job.outcome), (JobState::Failed, Some(finished.outcome.clone())));
        assert_eq!((job.started_at, job.finished_at), (finished.started_at, Some(finished.finished_at)));
        assert_eq!((job.usage, job.run_ms), (finished.usage, finished.run_ms));
        assert_eq!(job.output.as_ref(), Some(&finished.output));
        assert_eq!((job.result, job.artifacts), (result, finished.artifacts));
        assert_eq!((job.progress, job.leaked), (finished.progress, 3));
        assert_eq!((job.containment, job.node.as_deref()), (finished.containment, Some("n1")));
        assert_eq!(job.config_revision, "r2");
        let attempts = store.attempts(lease.job).await.expect("read");
        assert_eq!(attempts.len(), 1);
        assert_eq!((attempts[0].attempt, attempts[0].fence), (1, lease.fence));
        assert_eq!(attempts[0].output, Some(finished.output));
        assert_eq!((attempts[0].claimed_at, attempts[0].node.as_str()), (at(n), "n1"));
    }
}

pub(crate) async fn every_outcome_leads_to_its_state(store: &Arc<dyn Store>) {
    let (code, signal) = (Some(143), None);
    let outcomes = [
        (Outcome::Exited { code: 0 }, JobState::Succeeded),
        (Outcome::Exited { code: 255 }, JobState::Failed),
        (Outcome::Signaled { signal: 9, name: "SIGKILL".into(), core: false }, JobState::Failed),
        (Outcome::OomKilled, JobState::Failed),
        (
            Outcome::SpawnFailed { errno: "ENOENT".into(), phase: "exec".into(), message: "no".into() },
            JobState::Failed,
        ),
        (Outcome::ChildrenFailed { failed: 2 }, JobState::Failed),
        (Outcome::ResultMissing, JobState::Failed),
        (Outcome::BadResult { message: "no JSON".into() }, JobState::Failed),
        (Outcome::TimedOut { limit_ms: 5, code, signal }, JobState::TimedOut),
        (Outcome::Cancelled { by: CancelledBy::Client, code, signal }, JobState::Cancelled),
        (Outcome::Lost { reason: LostReason::Reboot }, JobState::Lost),
    ];
    for (n, (outcome, end)) in (0..).zip(outcomes) {
        let lease = running(&**store, "a", n).await;
        assert_eq!(store.finish(ended(lease, outcome.clone(), n)).await, Ok(change(Applied::Applied)));
        let job = store.get(lease.job).await.expect("read").expect("there");
        assert_eq!((job.state, job.outcome), (end, Some(outcome)));
    }
    let counts = store.stats().await.expect("read")[&task("a")];
    assert_eq!((counts.finished, counts.failed), (11, 10));
}

pub(crate) async fn what_was_seen_running_stays_seen_though_its_end_is_lost(store: &Arc<dyn Store>) {
    let lease = running(&**store, "a", 0).await;
    assert_eq!(store.started(lease, at(1), Containment::Monitor).await, Ok(Applied::Applied));
    let finished = Finished {
        started_at: None,
        containment: None,
        ..ended(lease, Outcome::Lost { reason: LostReason::Reboot }, 5)
    };
    assert_eq!(store.finish(finished).await, Ok(change(Applied::Applied)));
    let job = store.get(lease.job).await.expect("read").expect("there");
    assert_eq!((job.started_at, job.containment), (Some(at(1)), Some(Containment::Monitor)));
}

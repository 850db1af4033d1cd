//! Stores to test and jobs to put in them. Time is a number here: second n of the test.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::id::{ClaimId, JobId, TaskName};
use procession_core::job::{
    Admission, Claimed, Finished, Idempotency, Lease, NewJob, OutputSummary, ResultSummary, StoredPayload,
    StreamSummary, Then,
};
use procession_core::limits::{Limit, TaskLimits};
use procession_core::outcome::Outcome;
use procession_core::record::{Containment, OutputPlace, Usage};
use procession_core::state::JobState;
use procession_store::{
    Applied, Change, Claim, Effects, MemoryStore, Query, Room, SqliteStore, Store, Submitted,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A store and whatever it lives in.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    _folder: Option<TempDir>,
}

pub(crate) fn sqlite() -> Fixture {
    let (folder, path) = place();
    let store = Arc::new(SqliteStore::open(&path).expect("a new store"));
    Fixture { store, _folder: Some(folder) }
}

pub(crate) fn memory() -> Fixture {
    Fixture { store: Arc::new(MemoryStore::new()), _folder: None }
}

/// Runs something beside the test.
#[expect(clippy::disallowed_methods, reason = "a test waits for all it started")]
pub(crate) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// A program to run beside the test.
#[expect(clippy::disallowed_methods, reason = "what these tests do to a store takes a process")]
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    std::process::Command::new(name)
}

/// A folder and the path of a store in it, which is not there yet.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a scratch folder");
    let path = folder.path().join("store.db");
    (folder, path)
}

/// The start of every test's time, in milliseconds.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// Second `n` of the test.
pub(crate) fn at(n: i64) -> Timestamp {
    Timestamp::from_millisecond(EPOCH_MS + n * 1_000).expect("within range")
}

pub(crate) fn task(name: &str) -> TaskName {
    name.parse().expect("a task name")
}

/// An id made in second `n`, unlike all others of this process.
pub(crate) fn id(n: i64) -> JobId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    JobId::new((EPOCH_MS + n * 1_000) as u64, random)
}

/// A job of `name` submitted in second `n`, with all the room there is.
pub(crate) fn job(name: &str, n: i64) -> NewJob {
    NewJob {
        admission: Some(admission(Limit::Unlimited, 1_000_000)),
        payload: StoredPayload::Inline(Bytes::from_static(b"{\"roof\":7}")),
        submitted_at: at(n),
        config_revision: "r1".into(),
        ..NewJob::for_testing(id(n), name)
    }
}

/// Under these limits, on a node with eight slots.
pub(crate) fn admission(max_running: Limit, max_queued: u64) -> Admission {
    let limits = TaskLimits { max_running, per_lane: Limit::Unlimited, max_queued };
    Admission { limits, rate: None, node_slots: 8 }
}

/// It was taken, and nothing else happened.
pub(crate) fn taken() -> Submitted {
    Submitted::New(Effects::default())
}

/// The same of a write about an attempt.
pub(crate) fn change(applied: Applied) -> Change {
    Change::alone(applied)
}

pub(crate) fn key(key: &str, body: u8) -> Option<Box<Idempotency>> {
    Some(Box::new(Idempotency { principal: "token:a".into(), key: key.into(), body_hash: [body; 32] }))
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Submits a job that has room; returns its id.
pub(crate) async fn put(store: &dyn Store, job: NewJob) -> JobId {
    let id = job.id;
    assert_eq!(store.submit(job).await, Ok(taken()));
    id
}

pub(crate) const BOOT: [u8; 16] = [7; 16];

/// A question for up to `free` jobs of `tasks`, in second `n`.
pub(crate) fn ask(free: usize, tasks: &[(&str, Limit)], n: i64) -> Claim {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut claim_id = [0; 16];
    claim_id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Claim {
        node: "n1".into(),
        boot_id: BOOT,
        free,
        tasks: tasks.iter().map(|(name, limit)| (task(name), room(*limit))).collect(),
        now: at(n),
        claim_id: ClaimId(claim_id),
    }
}

/// So many at once, whatever their lanes.
pub(crate) fn room(running: Limit) -> Room {
    Room { running, per_lane: Limit::Unlimited }
}

/// Claims up to `free` jobs of one unlimited task.
pub(crate) async fn take(store: &dyn Store, free: usize, name: &str, n: i64) -> Vec<Claimed> {
    store.claim(ask(free, &[(name, Limit::Unlimited)], n)).await.expect("claims").jobs
}

/// Submits a job of `name` and claims it.
pub(crate) async fn running(store: &dyn Store, name: &str, n: i64) -> Lease {
    let id = put(store, job(name, n)).await;
    let jobs = take(store, 1, name, n).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].lease.job, id);
    jobs[0].lease
}

/// The end of an attempt that ran in second `n`.
pub(crate) fn ended(lease: Lease, outcome: Outcome, n: i64) -> Finished {
    let stream = |text: &'static [u8]| StreamSummary {
        total: text.len() as u64,
        written: text.len() as u64,
        place: OutputPlace::Inline,
        tail: Bytes::from_static(text),
    };
    Finished {
        lease,
        outcome,
        then: Then::End,
        started_at: Some(at(n)),
        finished_at: at(n + 1),
        run_ms: Some(1_000),
        usage: Some(Usage { user_us: 1, system_us: 2, max_rss_bytes: 3 }),
        output: OutputSummary { stdout: stream(b"hello\n"), stderr: stream(b""), limit: 1 << 20 },
        result: ResultSummary::None,
        artifacts: vec![],
        progress: None,
        containment: Some(Containment::Cgroup),
        leaked: 0,
        config_revision: "r2".into(),
    }
}

pub(crate) fn ok(lease: Lease, n: i64) -> Finished {
    ended(lease, Outcome::Exited { code: 0 }, n)
}

pub(crate) async fn state(store: &dyn Store, id: JobId) -> JobState {
    store.get(id).await.expect("read").expect("there").state
}

/// The ids of a page, newest first.
pub(crate) async fn page(store: &dyn Store, query: Query) -> Vec<JobId> {
    store.list(query).await.expect("listed").into_iter().map(|job| job.id).collect()
}

/// Everything there is, of any state.
pub(crate) fn everything() -> Query {
    Query { limit: usize::MAX, ..Query::default() }
}

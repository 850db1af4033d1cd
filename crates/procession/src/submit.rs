//! The one door into the store: HTTP, custom routes, retries by hand, and later sub-jobs
//! and schedules all pass here. A job that comes out is durable.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::admission::Full;
use procession_core::command::Surroundings;
use procession_core::id::JobId;
use procession_core::job::{Idempotency, JobRecord, NewJob, StoredPayload};
use procession_core::limits::INLINE_PAYLOAD;
use procession_core::payload::{BadJson, Payload};
use procession_core::placeholder::RequestValues;
use procession_core::task::{Body, Task};
use procession_core::validate::{Rejection, RequestBody, ValidJob, validate};
use procession_keeper::fault;
use procession_store::{Store, StoreError, Submitted};
use sha2::{Digest, Sha256};

use crate::background::Background;
use crate::data::{DataDir, sync_with_folder};
use crate::drain::Drain;
use crate::meters::Meters;
use crate::random;
use crate::space::Space;

/// What the door needs.
pub struct Door {
    /// What every job shares.
    pub surroundings: Surroundings,
    /// The config in force.
    pub revision: String,
    /// Slots of this node.
    pub slots: u64,
    /// The durable queue.
    pub store: Arc<dyn Store>,
    /// Where large bodies lie.
    pub data: DataDir,
    /// Rates.
    pub meters: Arc<Meters>,
    /// Whether the server is on its way out.
    pub drain: Arc<Drain>,
    /// Whether the disk has room.
    pub space: Arc<Space>,
    /// For blocking file work.
    pub background: Background,
    /// Tells dispatcher and watchers of a new job.
    pub taken: Arc<dyn Fn(JobId) + Send + Sync>,
}

/// One request for a job.
#[derive(Debug)]
pub struct Request {
    /// Its task.
    pub task: Arc<Task>,
    /// Its body.
    pub body: Received,
    /// Query parameters and headers.
    pub values: RequestValues,
    /// -100 to 100.
    pub priority: i32,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// The client's key.
    pub idempotency_key: Option<String>,
    /// Who asks.
    pub principal: String,
    /// The job it repeats.
    pub retry_of: Option<JobId>,
}

/// A body as it came in.
#[derive(Debug)]
pub enum Received {
    /// In memory.
    Memory(Bytes),
    /// In a file of its own, which is moved or removed.
    Spooled(Spooled),
}

/// A body in a file below `incoming/`; removed when dropped, unless it became a job's.
#[derive(Debug)]
pub struct Spooled {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub len: u64,
    /// SHA-256 of it.
    pub hash: [u8; 32],
}

/// A job that is in the store.
#[derive(Debug)]
pub enum Accepted {
    /// A new one, as it was taken.
    New(Box<JobRecord>),
    /// It was there before: the same key came with the same body.
    Replay(JobId),
}

impl Accepted {
    /// The job's id.
    pub fn id(&self) -> JobId {
        match self {
            Accepted::New(record) => record.id,
            Accepted::Replay(id) => *id,
        }
    }
}

/// Why there is no job.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The body is no JSON.
    #[error("the body is not JSON we take: {0}")]
    Json(#[from] BadJson),
    /// It does not fit the task.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No room.
    #[error("{}", busy(*.full))]
    Busy {
        /// What is full.
        full: Full,
        /// When to come again.
        retry_after: Duration,
    },
    /// The key came before with another body.
    #[error("the idempotency key was used for job {0} with another body")]
    Conflict(JobId),
    /// The server is on its way out.
    #[error("the server is stopping and takes no new jobs")]
    Draining,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The body could not be kept.
    #[error("the body cannot be kept: {0}")]
    Body(#[from] io::Error),
}

fn busy(full: Full) -> &'static str {
    match full {
        Full::Task => "all slots and the waiting room of the task are taken",
        Full::Node => "no slot of this server is free and the task has no waiting room",
    }
}

impl Door {
    /// Validates, admits, makes durable. When it returns a new job, the job survives a
    /// power cut.
    pub async fn submit(&self, request: Request) -> Result<Accepted, SubmitError> {
        let accepted = self.take(request).await;
        if let Err(SubmitError::Store(error)) = &accepted {
            self.space.met(error);
        }
        accepted
    }

    async fn take(&self, request: Request) -> Result<Accepted, SubmitError> {
        if self.drain.is_draining() {
            return Err(SubmitError::Draining);
        }
        if self.space.is_low() {
            return Err(StoreError::Full.into());
        }
        let (valid, hash) = self.validate(&request)?;
        let id = random::job_id();
        let payload = self.keep_body(id, request.body).await?;
        let kept_file = matches!(payload, StoredPayload::File { .. });
        let key = request.idempotency_key.or_else(|| valid.idempotency_key().map(str::to_owned));
        let now = Timestamp::now();
        let job = NewJob {
            id,
            task: request.task.name.clone(),
            limits: request.task.limits,
            node_slots: self.slots,
            payload,
            request: valid.request().clone(),
            labels: valid.labels().clone(),
            priority: request.priority,
            submitted_at: now,
            run_at: request.run_at,
            expires_at: request
                .task
                .queue_timeout
                .and_then(|wait| request.run_at.unwrap_or(now).checked_add(wait).ok()),
            idempotency: key.map(|key| Idempotency {
                principal: request.principal.clone(),
                key,
                body_hash: hash,
            }),
            submitted_by: request.principal,
            retry_of: request.retry_of,
            config_revision: self.revision.clone(),
        };
        let taken = JobRecord::taken(&job);
        fault::check("submit.before_commit").map_err(io::Error::other)?;
        let submitted = self.store.submit(job).await;
        fault::point("submit.after_commit");
        if kept_file && !matches!(submitted, Ok(Submitted::New)) {
            self.forget_body(id).await;
        }
        self.answer(taken, submitted?)
    }

    fn answer(&self, taken: JobRecord, submitted: Submitted) -> Result<Accepted, SubmitError> {
        match submitted {
            Submitted::New => {
                self.meters.submitted(&taken.task);
                tracing::debug!(job = %taken.id, task = %taken.task, "a job was accepted");
                (self.taken)(taken.id);
                Ok(Accepted::New(Box::new(taken)))
            }
            Submitted::Replay(id) => Ok(Accepted::Replay(id)),
            Submitted::Conflict(id) => Err(SubmitError::Conflict(id)),
            Submitted::Busy(full) => {
                Err(SubmitError::Busy { full, retry_after: self.meters.retry_after(&taken.task) })
            }
        }
    }

    fn validate(&self, request: &Request) -> Result<(ValidJob, [u8; 32]), SubmitError> {
        let (body, hash) = match &request.body {
            Received::Spooled(spooled) => (RequestBody::Bytes, spooled.hash),
            Received::Memory(bytes) => {
                let body = match request.task.input.body {
                    Body::Bytes => RequestBody::Bytes,
                    // Nothing sent is `null` to a schema, and an empty stdin to the program.
                    Body::Json if bytes.is_empty() => RequestBody::Json(Payload::stored(Bytes::new())),
                    Body::Json => RequestBody::Json(Payload::parse(bytes.clone())?),
                };
                (body, Sha256::digest(bytes).into())
            }
        };
        let valid = validate(&request.task, &body, &request.values, &self.surroundings)?;
        Ok((valid, hash))
    }

    async fn keep_body(&self, id: JobId, body: Received) -> io::Result<StoredPayload> {
        match body {
            Received::Memory(bytes) if bytes.len() <= INLINE_PAYLOAD => Ok(StoredPayload::Inline(bytes)),
            Received::Memory(bytes) => {
                let path = self.data.payload(id);
                let len = bytes.len() as u64;
                self.background.blocking(move || write_durably(&path, &bytes)).await?;
                Ok(StoredPayload::File { len })
            }
            Received::Spooled(spooled) if spooled.len <= INLINE_PAYLOAD as u64 => {
                let read = move || fs::read(&spooled.path);
                Ok(StoredPayload::Inline(self.background.blocking(read).await?.into()))
            }
            Received::Spooled(spooled) => {
                let path = self.data.payload(id);
                let len = spooled.len;
                self.background.blocking(move || move_durably(&spooled.path, &path)).await?;
                Ok(StoredPayload::File { len })
            }
        }
    }

    async fn forget_body(&self, id: JobId) {
        let folder = self.data.job(id);
        if let Err(error) = self.background.blocking(move || fs::remove_dir_all(folder)).await {
            tracing::warn!(%error, job = %id, "the body of a job that was not taken stays behind");
        }
    }
}

/// Writes a body so that it survives a power cut before its row does.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = job_folder(path)?;
    fs::write(path, bytes)?;
    sync_with_folder(&File::open(path)?, folder)
}

fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    let folder = job_folder(to)?;
    fs::rename(from, to)?;
    sync_with_folder(&File::open(to)?, folder)
}

/// Makes the folder of a job's file, durably.
fn job_folder(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    if let Some(above) = folder.parent() {
        File::open(above)?.sync_all()?;
    }
    Ok(folder)
}

impl Spooled {
    /// A new place below `incoming/`.
    pub fn place(data: &DataDir) -> PathBuf {
        data.incoming().join(format!("{:032x}", u128::from_be_bytes(random::bytes())))
    }

    /// A copy of a body that is another job's.
    pub fn copy_of(from: &Path, data: &DataDir) -> io::Result<Self> {
        let mut copy = Self { path: Self::place(data), len: 0, hash: [0; 32] };
        let (mut from, mut to) = (File::open(from)?, File::create_new(&copy.path)?);
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 128 * 1024];
        loop {
            let read = from.read(&mut chunk)?;
            if read == 0 {
                copy.hash = hash.finalize().into();
                return Ok(copy);
            }
            hash.update(&chunk[..read]);
            to.write_all(&chunk[..read])?;
            copy.len += read as u64;
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // Gone already where it became a job's.
        let _ = fs::remove_file(&self.path);
    }
}

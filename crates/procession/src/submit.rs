//! The one door into the store: HTTP, custom routes, retries by hand, what follows and schedules
//! all pass here. A job that comes out is durable.

mod follow;
mod schedule;

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
use procession_core::job::{Admission, Idempotency, JobRecord, NewJob, StoredPayload};
use procession_core::limits::INLINE_PAYLOAD;
use procession_core::payload::{BadJson, Payload};
use procession_core::placeholder::RequestValues;
use procession_core::task::{Body, Task};
use procession_core::validate::{Rejection, RequestBody, Tasks, ValidJob, validate};
use procession_keeper::fault;
use procession_store::{Effects, Store, StoreError, Submitted};
use sha2::{Digest, Sha256};

use crate::background::Background;
use crate::compose::{Composer, stored};
use crate::data::{DataDir, sync_with_folder};
use crate::drain::Drain;
use crate::meters::Meters;
use crate::random;
use crate::space::Space;

pub use self::schedule::Ran;

/// What the door needs.
pub struct Door {
    /// What every job shares.
    pub surroundings: Surroundings,
    /// The config in force.
    pub revision: String,
    /// Slots of this node.
    pub slots: u64,
    /// The tasks of the config.
    pub tasks: Tasks,
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
    /// Tells dispatcher and watchers of a new job, and of what became of others for it.
    pub taken: Arc<dyn Fn(JobId, Effects) + Send + Sync>,
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
    /// Its lane, where the task does not say.
    pub lane: Option<String>,
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
    /// An unfinished job has the `unique` value it would have.
    Duplicate(JobId),
}

impl Accepted {
    /// The job's id.
    pub fn id(&self) -> JobId {
        match self {
            Accepted::New(record) => record.id,
            Accepted::Replay(id) | Accepted::Duplicate(id) => *id,
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
        Full::Rate(_) => "more jobs have come than the task's rate allows",
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
        let (job, kept) = self.prepare(random::job_id(), request).await?;
        let taken = JobRecord::taken(&job);
        fault::check("submit.before_commit").map_err(io::Error::other)?;
        let submitted = self.store.submit(job).await;
        fault::point("submit.after_commit");
        kept.settle(submitted.as_ref().ok()).await;
        self.answer(taken, submitted?)
    }

    /// A job that may be given to the store, and the bodies it has outside.
    async fn prepare(&self, id: JobId, request: Request) -> Result<(NewJob, Kept<'_>), SubmitError> {
        if self.drain.is_draining() {
            return Err(SubmitError::Draining);
        }
        if self.space.is_low() {
            return Err(StoreError::Full.into());
        }
        let (valid, hash) = self.validate(&request)?;
        let Request { task, body, priority, lane, run_at, idempotency_key, principal, retry_of, .. } =
            request;
        let mut kept = Kept { door: self, files: Vec::new() };
        let payload = self.keep_body(id, body, &mut kept).await?;
        let key = idempotency_key.or_else(|| valid.idempotency_key().map(str::to_owned));
        let idempotency =
            key.map(|key| Box::new(Idempotency { principal: principal.clone(), key, body_hash: hash }));
        let mut composer = Composer::new(&self.revision, &principal, Timestamp::now());
        let mut job = composer.job(id, &task, valid, payload);
        job.admission = Some(Admission { limits: task.limits, rate: task.rate, node_slots: self.slots });
        (job.priority, job.lane, job.run_at) = (priority, job.lane.or(lane), run_at);
        (job.idempotency, job.retry_of) = (idempotency, retry_of);
        job.expires_at = composer.expires_at(&task, run_at);
        kept.write(composer.files).await?;
        Ok((job, kept))
    }

    fn answer(&self, taken: JobRecord, submitted: Submitted) -> Result<Accepted, SubmitError> {
        match submitted {
            Submitted::New(effects) => {
                self.meters.submitted(&taken.task);
                tracing::debug!(job = %taken.id, task = %taken.task, "a job was accepted");
                (self.taken)(taken.id, effects);
                Ok(Accepted::New(Box::new(taken)))
            }
            Submitted::Replay(id) => Ok(Accepted::Replay(id)),
            Submitted::Duplicate(id) => Ok(Accepted::Duplicate(id)),
            Submitted::Conflict(id) => Err(SubmitError::Conflict(id)),
            Submitted::Busy(full) => {
                let retry_after = match full {
                    Full::Rate(wait) => wait,
                    Full::Task | Full::Node => self.meters.retry_after(&taken.task),
                };
                Err(SubmitError::Busy { full, retry_after })
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
        let valid = validate(&request.task, &body, &request.values, &self.surroundings, &self.tasks)?;
        Ok((valid, hash))
    }

    async fn keep_body(&self, id: JobId, body: Received, kept: &mut Kept<'_>) -> io::Result<StoredPayload> {
        match body {
            Received::Memory(bytes) => {
                let (payload, file) = stored(id, bytes);
                kept.write(file.into_iter().collect()).await?;
                Ok(payload)
            }
            Received::Spooled(spooled) if spooled.len <= INLINE_PAYLOAD as u64 => {
                let read = move || fs::read(&spooled.path);
                Ok(StoredPayload::Inline(self.background.blocking(read).await?.into()))
            }
            Received::Spooled(spooled) => {
                let path = self.data.payload(id);
                let len = spooled.len;
                kept.files.push(id);
                self.background.blocking(move || move_durably(&spooled.path, &path)).await?;
                Ok(StoredPayload::File { len })
            }
        }
    }
}

/// Bodies that were written for jobs that are not taken yet.
struct Kept<'a> {
    door: &'a Door,
    files: Vec<JobId>,
}

impl Kept<'_> {
    async fn write(&mut self, files: Vec<(JobId, Bytes)>) -> io::Result<()> {
        for (id, bytes) in files {
            let path = self.door.data.payload(id);
            self.files.push(id);
            self.door.background.blocking(move || write_durably(&path, &bytes)).await?;
        }
        Ok(())
    }

    /// They stay where their jobs were taken, and go where these were not.
    async fn settle(self, submitted: Option<&Submitted>) {
        if matches!(submitted, Some(Submitted::New(_))) {
            return;
        }
        for id in self.files {
            let folder = self.door.data.job(id);
            if let Err(error) = self.door.background.blocking(move || fs::remove_dir_all(folder)).await {
                tracing::warn!(%error, job = %id, "the body of a job that was not taken stays behind");
            }
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

//! Makes a claimed job ready to run: program found, arguments filled, folder lent, files
//! in place. What goes wrong here is how the attempt ended (`spawn_failed`), never a lost
//! job.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::command::{Command, assemble};
use procession_core::frame::ToKeeper;
use procession_core::job::{Claimed, Finished, Lease, OutputSummary, ResultSummary, StoredPayload};
use procession_core::launch::{Launch, OutputPlan, Stdin};
use procession_core::outcome::{Outcome, errno_name};
use procession_core::payload::Payload;
use procession_core::placeholder::{FillError, JobFact, JobFacts, Values};
use procession_core::task::{Body, Channel, Task};
use serde_json::Value;

use super::Scheduler;
use super::note::Note;
use super::running::Live;
use super::scratch::Scratch;
use crate::data::Stream;

/// Why an attempt could not be made ready.
#[derive(Debug, thiserror::Error)]
enum Unready {
    /// The task left the config between submission and claim.
    #[error("the task is not in the config any more")]
    NoTask,
    /// The program of the command.
    #[error("{0}: {1}")]
    Program(String, io::Error),
    /// The config changed since submission, and the request lacks what it asks for now.
    #[error("the command cannot be filled: {0}")]
    Arguments(FillError),
    /// The scratch folder and what goes into it.
    #[error("{0}: {1}")]
    Files(&'static str, io::Error),
}

impl Scheduler {
    /// Takes the slot and hands the attempt to the keeper; on failure ends it.
    pub(super) fn launch(self: &Arc<Self>, claimed: Claimed) {
        let lease = claimed.lease;
        match self.prepare(&claimed) {
            Ok((launch, live)) => {
                let key = lease.key();
                self.running.insert(live);
                self.keeper.send(&ToKeeper::Spawn(Box::new(launch)));
                if let Some(stop) = self.running.launched(key) {
                    self.keeper.send(&ToKeeper::Stop { key, by: stop.by, now: stop.now });
                }
            }
            Err(unready) => {
                tracing::warn!(job = %lease.job, %unready, "an attempt cannot be started");
                let scheduler = self.clone();
                self.background.errand(async move {
                    scheduler.record_end(unready.finished(lease, &scheduler.revision)).await;
                });
            }
        }
    }

    fn prepare(&self, claimed: &Claimed) -> Result<(Launch, Live), Unready> {
        let task = self.tasks.get(&claimed.task).ok_or(Unready::NoTask)?;
        let scratch = self.lend()?;
        match self.fill(task, claimed, &scratch) {
            Ok(launch) => {
                let lease = claimed.lease;
                Ok((launch, Live::new(lease, scratch.number, task.output.limit, task.timeout)))
            }
            Err(unready) => {
                // What was put into it (a secret, a body) goes with it.
                if let Err(error) =
                    self.scratch.give_back(scratch.number, self.scratch.left_in(scratch.number))
                {
                    tracing::warn!(%error, folder = %scratch.path.display(), "a scratch folder stays behind");
                }
                Err(unready)
            }
        }
    }

    fn lend(&self) -> Result<Scratch, Unready> {
        let (scratch, fresh) = self.scratch.borrow().map_err(|e| Unready::Files("scratch folder", e))?;
        if fresh {
            self.progress.watch(&scratch);
        }
        Ok(scratch)
    }

    fn fill(&self, task: &Task, claimed: &Claimed, scratch: &Scratch) -> Result<Launch, Unready> {
        let lease = &claimed.lease;
        let body = BodyAt::of(task, claimed, scratch, &self.data.payload(lease.job));
        let facts = facts(claimed, scratch, &body);
        let payload = body.parsed(task);
        let (value, text) = payload.as_ref().map_or((&Value::Null, ""), |p| (p.value(), p.text()));
        let values = Values { payload: value, payload_text: text, request: &claimed.request, job: &facts };
        let command = assemble(task, values, &self.surroundings)
            .map_err(|mut errors| Unready::Arguments(errors.swap_remove(0)))?;
        let program = self.program(task, &command)?;
        body.write().map_err(|e| Unready::Files("payload file", e))?;
        copy_secrets(task, scratch).map_err(|e| Unready::Files("secret", e))?;
        let path = |stream| bytes_of(&self.data.output(lease.job, lease.attempt.0, stream));
        Ok(Launch {
            key: lease.key(),
            program: bytes_of(&program),
            argv: command.argv.into_iter().map(Bytes::from).collect(),
            env: command.env.into_iter().map(|(name, value)| format!("{name}={value}").into()).collect(),
            directory: bytes_of(&task.directory),
            stdin: body.stdin(task),
            output: OutputPlan {
                mode: task.output.mode,
                limit: task.output.limit,
                stdout: path(Stream::Stdout),
                stderr: path(Stream::Stderr),
            },
            timeout: task.timeout,
            grace: task.grace,
            leave_children: task.leave_children,
            credentials: None,
            rlimits: Vec::new(),
            cookie: Note::new(task, lease, scratch.number, claimed.deferred, &self.revision).to_bytes(),
        })
    }

    /// The program by its absolute path: with a slash, from the task's directory; else from
    /// the *server's* `PATH`, whatever the job's environment says.
    fn program(&self, task: &Task, command: &Command) -> Result<PathBuf, Unready> {
        let name = command.argv.first().map(String::as_str).unwrap_or_default();
        if name.contains('/') {
            return Ok(task.directory.join(name));
        }
        let path = self.surroundings.environment.get("PATH").map_or("/usr/bin:/bin", String::as_str);
        find_in(path, name).ok_or_else(|| Unready::Program(name.into(), io::Error::from_raw_os_error(ENOENT)))
    }
}

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EINVAL: i32 = 22;

/// The first executable file called `name` in the folders of `path`.
pub(crate) fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    let executable = |candidate: &PathBuf| {
        fs::metadata(candidate).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name))
        .find(executable)
}

/// Where an attempt finds its body.
struct BodyAt<'a> {
    payload: &'a StoredPayload,
    /// The file with the body, if the attempt gets one.
    file: Option<PathBuf>,
    /// It has to be written first.
    write: bool,
}

impl<'a> BodyAt<'a> {
    fn of(task: &Task, claimed: &'a Claimed, scratch: &Scratch, large: &Path) -> Self {
        let payload = &claimed.payload;
        let named = task
            .templates()
            .flat_map(|t| t.holes())
            .any(|hole| matches!(hole.from, procession_core::placeholder::Source::PayloadFile));
        match payload {
            StoredPayload::File { .. } => Self { payload, file: Some(large.to_owned()), write: false },
            StoredPayload::Inline(_) if named || task.input.channel == Channel::File => {
                Self { payload, file: Some(scratch.payload()), write: true }
            }
            StoredPayload::Inline(_) => Self { payload, file: None, write: false },
        }
    }

    fn parsed(&self, task: &Task) -> Option<Payload> {
        if task.input.body == Body::Bytes {
            return None;
        }
        match self.payload {
            StoredPayload::Inline(bytes) => Some(Payload::stored(bytes.clone())),
            // Only templates need the value; a body this large was checked when it came.
            StoredPayload::File { .. } => {
                let needed = task.templates().any(|template| template.takes_client_text());
                let file = self.file.as_ref().filter(|_| needed || task.input.channel == Channel::Env)?;
                fs::read(file).ok().map(|bytes| Payload::stored(bytes.into()))
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        match (self.payload, &self.file) {
            (StoredPayload::Inline(bytes), Some(path)) if self.write => write_private(path, bytes),
            _ => Ok(()),
        }
    }

    fn stdin(&self, task: &Task) -> Stdin {
        match (task.input.channel, self.payload) {
            (Channel::Stdin, StoredPayload::Inline(bytes)) => Stdin::Bytes(bytes.clone()),
            (Channel::Stdin, StoredPayload::File { .. }) => match &self.file {
                Some(path) => Stdin::File(bytes_of(path)),
                None => Stdin::Null,
            },
            _ => Stdin::Null,
        }
    }
}

fn facts(claimed: &Claimed, scratch: &Scratch, body: &BodyAt<'_>) -> JobFacts {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let index = claimed.index.map(|index| index.to_string()).unwrap_or_default();
    let facts: BTreeMap<JobFact, String> = [
        (JobFact::Id, claimed.lease.job.to_string()),
        (JobFact::Attempt, claimed.lease.attempt.0.to_string()),
        (JobFact::Index, index),
        (JobFact::Dir, text(scratch.path.clone())),
        (JobFact::Artifacts, text(scratch.artifacts())),
        (JobFact::Result, text(scratch.result())),
    ]
    .into();
    JobFacts { facts, payload_file: body.file.clone().map(text).unwrap_or_default() }
}

fn copy_secrets(task: &Task, scratch: &Scratch) -> io::Result<()> {
    if task.secrets.is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).create(scratch.secrets())?;
    for (name, source) in &task.secrets {
        let secret = fs::read(source)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
        write_private(&scratch.secrets().join(name), &secret)?;
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

fn bytes_of(path: &Path) -> Bytes {
    Bytes::copy_from_slice(AsRef::<OsStr>::as_ref(path).as_bytes())
}

impl Unready {
    /// The end of an attempt that never reached the keeper.
    fn finished(&self, lease: Lease, revision: &str) -> Finished {
        let (phase, errno) = match self {
            Unready::NoTask | Unready::Arguments(_) => ("prepare", EINVAL),
            Unready::Program(_, error) => ("exec", error.raw_os_error().unwrap_or(EIO)),
            Unready::Files(_, error) => ("prepare", error.raw_os_error().unwrap_or(EIO)),
        };
        Finished {
            lease,
            outcome: Outcome::SpawnFailed {
                errno: errno_name(errno),
                phase: phase.into(),
                message: self.to_string(),
            },
            started_at: None,
            finished_at: Timestamp::now(),
            run_ms: None,
            usage: None,
            output: OutputSummary::default(),
            result: ResultSummary::None,
            artifacts: Vec::new(),
            progress: None,
            containment: None,
            leaked: 0,
            config_revision: revision.to_owned(),
        }
    }
}

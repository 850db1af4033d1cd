//! Makes a claimed job ready to run: program found, arguments filled, folder lent, files
//! in place. What goes wrong here is how the attempt ended (`spawn_failed`), or, where the
//! machine was short of something, a wait; never a lost job.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::command::{Command, assemble};
use procession_core::frame::ToKeeper;
use procession_core::job::{Claimed, Finished};
use procession_core::launch::{Launch, OutputPlan, Stdin};
use procession_core::limits::INLINE_PAYLOAD;
use procession_core::outcome::{Outcome, errno_name};
use procession_core::placeholder::{FillError, JobFact, JobFacts, ParentFacts, Values};
use procession_core::retry::is_pressure;
use procession_core::task::Task;
use procession_keeper::fault;
use rustix::io::Errno;
use serde_json::Value;

use super::Scheduler;
use super::family::{Kin, NoKin};
use super::files::{BodyAt, copy_secrets, is_slow, write_private};
use super::finish::Terms;
use super::note::{Note, kept_of};
use super::running::Live;
use super::scratch::Scratch;
use crate::data::Stream;

/// Beside what is pressure anywhere: no space for the files an attempt needs.
const NO_SPACE: [Errno; 2] = [Errno::NOSPC, Errno::DQUOT];

/// Why an attempt could not be made ready.
#[derive(Debug, thiserror::Error)]
enum Unready {
    /// The program of the command is nowhere.
    #[error("{0}: no such program in the server's PATH")]
    Program(String),
    /// The config changed since submission: its task is a family now.
    #[error("its task has no command any more, since the config was changed")]
    NoCommand,
    /// The config changed since submission, and the request lacks what it asks for now.
    #[error("the command cannot be filled: {0}")]
    Arguments(FillError),
    /// The scratch folder and what goes into it.
    #[error("{0}: {1}")]
    Files(&'static str, io::Error),
    /// What its family left.
    #[error("its family: {0}")]
    Kin(NoKin),
}

impl Scheduler {
    /// Takes the slot and hands the attempt to the keeper; on failure ends it. Returns before
    /// that where large files, secrets or what its family left have to be read first.
    pub(super) fn launch(self: &Arc<Self>, claimed: Claimed) {
        let Some(task) = self.tasks.get(&claimed.task).cloned() else {
            // Only tasks of the config are claimed.
            return tracing::error!(task = %claimed.task, "a job of an unknown task was claimed");
        };
        let timeout = time_left(task.timeout, &claimed, Timestamp::now());
        self.running.insert(Live::new(claimed.lease, kept_of(&task), timeout));
        let slow = is_slow(&task, &claimed);
        if !slow && claimed.parent.is_none() {
            let prepared = self.prepare(&task, &claimed, &Kin::default());
            return self.hand_over(&task, &claimed, prepared);
        }
        let scheduler = self.clone();
        self.background.errand(async move {
            let kin = match scheduler.kin(&task, &claimed).await {
                Ok(kin) => kin,
                Err(error) => return scheduler.hand_over(&task, &claimed, Err(Unready::Kin(error))),
            };
            if !slow {
                let prepared = scheduler.prepare(&task, &claimed, &kin);
                return scheduler.hand_over(&task, &claimed, prepared);
            }
            let (preparer, of) = (scheduler.clone(), task.clone());
            let prepare = move || (preparer.prepare(&of, &claimed, &kin), claimed);
            let (prepared, claimed) = scheduler.background.blocking(prepare).await;
            scheduler.hand_over(&task, &claimed, prepared);
        });
    }

    fn hand_over(
        self: &Arc<Self>,
        task: &Task,
        claimed: &Claimed,
        prepared: Result<(Launch, Scratch), Unready>,
    ) {
        let (lease, key) = (claimed.lease, claimed.lease.key());
        match prepared {
            // The keeper died since it was claimed: provably never started.
            Ok((_, scratch)) if self.keeper.is_gone() => {
                self.give_back(scratch.number, self.scratch.left_in(scratch.number));
                let scheduler = self.clone();
                self.background.errand(async move { scheduler.give_back_claim(lease).await });
            }
            Ok((launch, scratch)) => {
                tracing::debug!(job = %lease.job, attempt = lease.attempt.0, "an attempt starts");
                self.running.lent(key, scratch.number);
                fault::point("spawn.before_send");
                self.keeper.send(&ToKeeper::Spawn(Box::new(launch)));
                fault::point("spawn.after_send");
                if let Some(stop) = self.running.launched(key) {
                    self.keeper.send(&ToKeeper::Stop { key, by: stop.by, now: stop.now });
                }
            }
            Err(unready) => {
                let end = unready.end();
                // The same want is met by each of them, several times a second.
                if end != End::Wait || !self.pressure.is_felt() {
                    tracing::warn!(job = %lease.job, %unready, "an attempt cannot be started");
                }
                let (scheduler, terms) = (self.clone(), Terms::of(task, claimed.history));
                self.background.errand(async move {
                    match end {
                        End::Wait => scheduler.put_off(lease).await,
                        End::Failed(outcome) => {
                            let now = Timestamp::now();
                            let end = Finished::unseen(lease, outcome, now, &scheduler.revision);
                            scheduler.record_end(end, terms).await;
                        }
                    }
                });
            }
        }
    }

    fn prepare(&self, task: &Task, claimed: &Claimed, kin: &Kin) -> Result<(Launch, Scratch), Unready> {
        if task.command.is_empty() {
            return Err(Unready::NoCommand);
        }
        let (scratch, fresh) = self.scratch.borrow().map_err(|e| Unready::Files("scratch folder", e))?;
        if fresh {
            self.progress.watch(&scratch);
        }
        match self.fill(task, claimed, kin, &scratch) {
            Ok(launch) => Ok((launch, scratch)),
            Err(unready) => {
                // What was put into it (a secret, a body) goes with it.
                self.give_back(scratch.number, self.scratch.left_in(scratch.number));
                Err(unready)
            }
        }
    }

    fn fill(&self, task: &Task, claimed: &Claimed, kin: &Kin, scratch: &Scratch) -> Result<Launch, Unready> {
        let lease = &claimed.lease;
        let body = BodyAt::of(task, claimed, scratch, &self.data.payload(lease.job));
        let facts = facts(claimed, kin, scratch, &body);
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
            stdin: stdin(task, &body, kin, scratch).map_err(|e| Unready::Files("children's results", e))?,
            output: OutputPlan {
                mode: task.output.mode,
                limit: task.output.limit,
                stdout: path(Stream::Stdout),
                stderr: path(Stream::Stderr),
            },
            timeout: time_left(task.timeout, claimed, Timestamp::now()),
            grace: task.grace,
            leave_children: task.leave_children,
            credentials: None,
            rlimits: Vec::new(),
            cookie: Note::new(task, claimed, scratch.number, &self.revision).to_bytes(),
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
        find_in(path, name).ok_or_else(|| Unready::Program(name.into()))
    }
}

/// The first executable file called `name` in the folders of `path`.
fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    let executable = |candidate: &PathBuf| {
        fs::metadata(candidate).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name))
        .find(executable)
}

/// What the program reads: a join, its family.
fn stdin(task: &Task, body: &BodyAt<'_>, kin: &Kin, scratch: &Scratch) -> io::Result<Stdin> {
    match &kin.children {
        None => Ok(body.stdin(task)),
        Some(family) if family.len() <= INLINE_PAYLOAD => Ok(Stdin::Bytes(family.clone())),
        Some(family) => {
            write_private(&scratch.family(), family)?;
            Ok(Stdin::File(bytes_of(&scratch.family())))
        }
    }
}

/// How long an attempt that starts then may take: a join, what is left of its family's time.
pub(super) fn time_left(limit: Option<Duration>, claimed: &Claimed, start: Timestamp) -> Option<Duration> {
    let limit = limit?;
    let Some(begun) = claimed.begun_at else { return Some(limit) };
    let gone = Duration::try_from(start.duration_since(begun)).unwrap_or_default();
    Some(limit.saturating_sub(gone).max(Duration::from_millis(1)))
}

fn facts(claimed: &Claimed, kin: &Kin, scratch: &Scratch, body: &BodyAt<'_>) -> JobFacts {
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
    let parent = claimed.parent.zip(kin.parent_payload.clone());
    JobFacts {
        facts,
        payload_file: body.file.clone().map(text).unwrap_or_default(),
        parent: parent.map(|(id, payload)| ParentFacts { id: id.to_string(), payload_file: text(payload) }),
    }
}

/// A path as the keeper takes it.
pub(super) fn bytes_of(path: &Path) -> Bytes {
    Bytes::copy_from_slice(AsRef::<OsStr>::as_ref(path).as_bytes())
}

/// What becomes of a job whose attempt could not be made ready.
#[derive(Debug, PartialEq)]
enum End {
    /// Nothing of it ran and nothing is consumed: it asks again later.
    Wait,
    /// It is over.
    Failed(Outcome),
}

impl Unready {
    fn end(&self) -> End {
        let (phase, errno) = match self {
            Unready::Program(_) => ("exec", Errno::NOENT),
            Unready::NoCommand => ("prepare", Errno::NOENT),
            Unready::Arguments(_) => ("prepare", Errno::INVAL),
            // Asked again when the store answers.
            Unready::Kin(NoKin::Store(_)) => return End::Wait,
            Unready::Kin(NoKin::TooMuch) => ("prepare", Errno::FBIG),
            Unready::Files(_, error) | Unready::Kin(NoKin::Files(error)) => {
                let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
                if is_pressure(errno.raw_os_error()) || NO_SPACE.contains(&errno) {
                    return End::Wait;
                }
                ("prepare", errno)
            }
        };
        let errno = errno_name(errno.raw_os_error());
        End::Failed(Outcome::SpawnFailed { errno, phase: phase.into(), message: self.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p03_a_want_of_descriptors_or_space_is_not_the_jobs_end() {
        let files = |errno: Errno| Unready::Files("scratch folder", errno.into()).end();
        let pressure = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN];
        for errno in pressure.into_iter().chain(NO_SPACE) {
            assert_eq!(files(errno), End::Wait, "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::NOENT, Errno::ROFS] {
            assert!(matches!(files(errno), End::Failed(_)), "{errno}");
        }
    }
}

//! A program that runs beside the demo for as long as it does: its lines are read, and it is
//! asked to end when the demo does. Not a job: jobs are the keeper's.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

/// How long a companion may take to say that it is there.
const START: Duration = Duration::from_secs(30);

/// How long one that was asked to end may take, before the demo leaves it to itself.
const END: Duration = Duration::from_secs(10);

/// One program; asked to end when dropped.
pub(super) struct Companion {
    child: Child,
    name: String,
    lines: Lines<BufReader<Receiver>>,
}

impl Companion {
    /// Starts `program` in `folder`; its stdout and stderr are read as one.
    pub(super) fn start(program: &Path, args: &[&str], folder: &Path) -> anyhow::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        #[expect(clippy::disallowed_methods, reason = "the demo's own helpers, which are no jobs")]
        let mut command = Command::new(program);
        let child = command
            .args(args)
            .current_dir(folder)
            .env_remove("PROCESSION_CONFIG")
            .stdin(Stdio::null())
            .stderr(writer.try_clone()?)
            .stdout(writer)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let reader = Receiver::from_owned_fd(reader.into())?;
        let name = program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned();
        Ok(Self { child, name, lines: BufReader::new(reader).lines() })
    }

    /// What follows `beginning` in the first line that begins so.
    pub(super) async fn line_beginning(&mut self, beginning: &str) -> anyhow::Result<String> {
        let found = async {
            let mut said = String::new();
            while let Some(line) = self.lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Ok(rest.trim().to_owned());
                }
                said.push_str(&line);
                said.push('\n');
            }
            bail!("{} ended and said:\n{said}", self.name)
        };
        timeout(START, found).await.with_context(|| format!("{} says nothing", self.name))?
    }

    /// Hands on its lines until it ends.
    pub(super) async fn end_of_output(
        &mut self,
        bound: Duration,
        mut hear: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let all = async {
            while let Some(line) = self.lines.next_line().await? {
                hear(&line)?;
            }
            Ok(())
        };
        timeout(bound, all).await.with_context(|| format!("{} takes too long", self.name))?
    }

    /// Returns once it has ended by itself; what it says meanwhile is shown.
    pub(super) async fn ended(&mut self) {
        while let Ok(Some(line)) = self.lines.next_line().await {
            eprintln!("{line}");
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let Ok(None) = self.child.try_wait() else { return };
        // Not reaped yet, so the pid is still this child's.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = std::time::Instant::now() + END;
        while let Ok(None) = self.child.try_wait() {
            if std::time::Instant::now() > deadline {
                eprintln!("{} (process {}) has not ended yet", self.name, self.child.id());
                return;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a child has no awaitable end in a drop; bounded above"
            )]
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

//! `stop`: asks the keeper to end, and waits until it has. Each further step of impatience
//! comes after a time that the one before must have been enough for; it never waits for ever.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use procession_core::frame::Shutdown;
use procession_core::frame::admin::{Answer, Ask, Status};
use procession_core::quantity::{parse_duration, show_duration};
use procession_keeper::{AskError, Handle};
use serde_json::json;

use super::exit::Exit;
use super::holder::{self, Holder};
use super::screen::Screen;
use super::{Global, own_data};
use crate::config::{self, LoadOptions};
use crate::data::DataDir;

/// A keeper that is well answers at once.
const ANSWER: Duration = Duration::from_secs(5);

/// What ends sooner needs no explanation.
const SOON: Duration = Duration::from_millis(500);

/// Between two looks at a keeper that may be alone by now.
const LOOK: Duration = Duration::from_millis(200);

/// For what comes after the jobs: their ends are recorded, answers finished.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// For a keeper that was asked the third time: it waits for nothing.
const FORCED: Duration = Duration::from_secs(10);

/// `procession stop`.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 once nothing runs any more, also if nothing did.")]
pub struct StopArgs {
    /// How long what runs may take to finish before it is ended [default: the config's stop_timeout]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Leave what runs to the keeper, which keeps its output and exit codes for the next `serve`.
    #[arg(long, conflicts_with = "now")]
    keep_jobs: bool,
    /// End what runs at once: SIGTERM, after each task's grace SIGKILL.
    #[arg(long)]
    now: bool,
}

/// The times a stop may take.
struct Times {
    /// For jobs to finish.
    drain: Duration,
    /// For jobs that were asked to end.
    end: Duration,
}

/// Whether a question reached the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Or it will hear it: the question lies before it.
    Heard,
    /// Nobody was there to hear it.
    Unheard,
}

/// A keeper that is to end.
struct Stopping<'a> {
    data: &'a DataDir,
    holder: &'a Holder,
    screen: &'a Screen,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The keeper waits for this many jobs.
    Alone(u32),
}

/// Asks for it and waits.
pub(super) fn run(args: &StopArgs, global: &Global, screen: &Screen) -> anyhow::Result<Exit> {
    let data = own_data::find(global)?;
    let Some(holder) = holder::find(&data)? else {
        if screen.is_json() {
            screen.line(&json!({ "stopped": false, "running": false }).to_string())?;
        } else {
            screen.line(&format!("nothing runs (data directory {})", data.root().display()))?;
        }
        return Ok(Exit::OK);
    };
    let stopping = Stopping { data: &data, holder: &holder, screen };
    let end = stopping.stop(args, &times(args, global))?;
    if screen.is_json() {
        let left = if let End::Alone(jobs) = end { jobs } else { 0 };
        screen.line(&json!({ "stopped": true, "running": left > 0, "jobs": left }).to_string())?;
    } else {
        screen.line(&match end {
            End::Stopped => "stopped".into(),
            End::Alone(jobs) => format!(
                "stopped; process {} stays with {} and keeps what comes of them for the next `procession serve`",
                holder.pid(),
                counted(jobs)
            ),
        })?;
    }
    Ok(Exit::OK)
}

/// By the config, as far as that is good; else by the defaults.
fn times(args: &StopArgs, global: &Global) -> Times {
    let options = LoadOptions { insecure: true, ..LoadOptions::default() };
    let config = global.config_file().ok().and_then(|file| config::load(&file, &options).ok());
    let drain = config.as_ref().map_or(Duration::from_secs(80), |config| config.server.stop_timeout);
    let graces = config.iter().flat_map(|config| config.tasks.values()).map(|task| task.grace);
    let grace = graces.max().unwrap_or(Duration::from_secs(30));
    Times { drain: args.timeout.unwrap_or(drain), end: grace.saturating_add(AFTERWARDS) }
}

impl Stopping<'_> {
    fn stop(&self, args: &StopArgs, times: &Times) -> anyhow::Result<End> {
        let before = self.status();
        let wish = Shutdown { now: args.now, timeout: args.timeout, keep_jobs: args.keep_jobs };
        if self.ask(wish)? == Asked::Unheard {
            if args.keep_jobs {
                bail!("no keeper answers, so it cannot be asked to keep its jobs");
            }
            if self.holder.process.is_none() {
                return self.wait_for_heir(args, times);
            }
            self.signal(Handle::terminate)?;
            if args.now {
                self.signal(Handle::hasten)?;
            }
        }
        // Without a server nobody else counts the time.
        let alone = before.as_ref().is_some_and(|status| status.alone);
        let patience = match (args.now, alone) {
            (true, _) => times.end,
            (false, true) => times.drain,
            (false, false) => times.drain.saturating_add(times.end),
        };
        if let Some(end) = self.wait(patience, args, before.map_or(0, |status| status.running))? {
            return Ok(end);
        }
        if !args.now {
            self.screen.say("procession: that took too long; what runs is ended now");
            let now = Shutdown { now: true, ..Shutdown::default() };
            if self.ask(now)? == Asked::Unheard {
                self.signal(Handle::hasten)?;
            }
            if self.holder.ends_within(self.data, times.end)? {
                return Ok(End::Stopped);
            }
        }
        self.screen.say("procession: that took too long; the keeper is told to wait for nothing");
        self.signal(Handle::force)?;
        if self.holder.ends_within(self.data, FORCED)? {
            return Ok(End::Stopped);
        }
        bail!("process {} does not end; it may wait for a disk that does not answer", self.holder.pid())
    }

    /// `None`: `patience` is over.
    fn wait(&self, patience: Duration, args: &StopArgs, running: u32) -> anyhow::Result<Option<End>> {
        let began = Instant::now();
        let mut explained = false;
        while began.elapsed() < patience {
            let left = patience.saturating_sub(began.elapsed());
            if self.holder.ends_within(self.data, left.min(LOOK))? {
                return Ok(Some(End::Stopped));
            }
            if args.keep_jobs
                && let Some(status) = self.status().filter(|status| status.alone)
            {
                return Ok(Some(End::Alone(status.running)));
            }
            if !explained && began.elapsed() > SOON {
                explained = true;
                self.explain(args, running, left);
            }
        }
        Ok(None)
    }

    fn explain(&self, args: &StopArgs, running: u32, left: Duration) {
        if running > 0 && !args.keep_jobs {
            let left = show_duration(Duration::from_secs(left.as_secs()));
            let jobs = counted(running);
            self.screen
                .say(&format!("procession: waiting for {jobs}, at most {left}; `stop --now` ends them"));
        } else {
            self.screen.say(&format!("procession: waiting for process {} to end", self.holder.pid()));
        }
    }

    fn status(&self) -> Option<Status> {
        match self.holder.ask(self.data, &Ask::Status, ANSWER) {
            Ok(Answer::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// A keeper answers in the act of hearing: who hangs up has not heard. One that is late has
    /// the question before it, and a signal on top of that would end what is to be waited for.
    fn ask(&self, shutdown: Shutdown) -> anyhow::Result<Asked> {
        match self.holder.ask(self.data, &Ask::Stop(shutdown), ANSWER) {
            Ok(Answer::Done) => Ok(Asked::Heard),
            Ok(Answer::Failed { message }) => bail!("{message}"),
            Ok(other) => bail!("the keeper answered {other:?}"),
            Err(AskError::Late(_)) => {
                let pid = self.holder.pid();
                self.screen.say(&format!("procession: process {pid} is slow to answer; it has been asked"));
                Ok(Asked::Heard)
            }
            Err(AskError::Nobody | AskError::Crowded | AskError::HungUp) => Ok(Asked::Unheard),
            Err(error) => Err(error.into()),
        }
    }

    /// As a service manager would; only to the very process that took the lock.
    fn signal(&self, how: fn(&Handle) -> std::io::Result<()>) -> anyhow::Result<()> {
        let process = self.holder.process.as_ref().with_context(|| {
            format!("process {} is not seen from here, so it cannot be signalled", self.holder.pid())
        })?;
        how(process).with_context(|| format!("process {} cannot be signalled", self.holder.pid()))
    }

    /// The process that took the lock is gone, and with it whoever could be asked. The server it
    /// left ends by itself, or becomes a keeper that can be asked.
    fn wait_for_heir(&self, args: &StopArgs, times: &Times) -> anyhow::Result<End> {
        let pid = self.holder.pid();
        self.screen.say(&format!(
            "procession: the keeper, process {pid}, is gone; waiting for the server it left, at most {} s",
            holder::HEIR.as_secs()
        ));
        let began = Instant::now();
        while began.elapsed() < holder::HEIR {
            if self.holder.ends_within(self.data, LOOK)? {
                return Ok(End::Stopped);
            }
            if let Some(heir) = holder::find(self.data)?.filter(|holder| holder.process.is_some()) {
                return Stopping { holder: &heir, ..*self }.stop(args, times);
            }
        }
        bail!(
            "the data directory is still held, but its lock names process {pid}, which is not the one that took it; \
             the server's process id is in the file `server.pid`"
        )
    }
}

fn counted(jobs: u32) -> String {
    if jobs == 1 { "1 running job".into() } else { format!("{jobs} running jobs") }
}

//! `status`: whether a server runs on this machine's data directory, and how it is. Asks the
//! keeper, which answers whether or not a server does; what only the server knows comes over
//! HTTP, where that answers.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use procession_core::api::Stats;
use procession_core::frame::admin::{Answer, Ask, Status};
use serde_json::{Value, json};

use super::client::{Call, Client};
use super::exit::Exit;
use super::holder::{self, Holder};
use super::screen::Screen;
use super::table::{Cell, Table};
use super::{Global, endpoint, own_data, when};
use crate::config;

/// A keeper that is well answers at once.
const KEEPER: Duration = Duration::from_secs(5);

/// A server that has not answered by then hangs.
const SERVER: Duration = Duration::from_secs(5);

/// `procession status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 0 if the server runs and is ready, 3 if nothing runs, 4 if something runs and is not ready.")]
pub struct StatusArgs {}

/// Everything that is known.
struct Found {
    holder: Holder,
    /// Nothing: the keeper does not answer.
    keeper: Option<Status>,
    server: Asked,
    listeners: Vec<String>,
}

/// Shows it.
pub(super) fn run(_: &StatusArgs, global: &Global, screen: &Screen) -> anyhow::Result<Exit> {
    let data = own_data::find(global)?;
    let folder = data.root();
    let Some(holder) = holder::find(&data)? else {
        if screen.is_json() {
            screen.line(&json!({ "state": "stopped", "ready": false, "data_dir": folder }).to_string())?;
        } else {
            screen.line(&format!("not running (data directory {})", folder.display()))?;
        }
        return Ok(Exit::NOT_RUNNING);
    };
    let keeper = match holder.ask(&data, &Ask::Status, KEEPER) {
        Ok(Answer::Status(status)) => Some(status),
        Ok(other) => anyhow::bail!("the keeper answered {other:?}"),
        Err(error) => {
            if holder.process.is_some() {
                let pid = holder.pid();
                screen.say(&format!("procession: process {pid} holds the data directory: {error}"));
            }
            None
        }
    };
    let ready = keeper.as_ref().is_some_and(|status| status.ready);
    let server = if ready { stats(folder) } else { Asked::Unanswered };
    // What is left to itself has closed them.
    let listens = !keeper.as_ref().is_some_and(|status| status.alone);
    let listen = std::fs::read_to_string(data.listen()).ok().filter(|_| listens).unwrap_or_default();
    let found = Found { holder, keeper, server, listeners: listen.lines().map(str::to_owned).collect() };
    if screen.is_json() {
        screen.line(&found.json().to_string())?;
    } else {
        screen.table(&found.table(Timestamp::now()))?;
    }
    Ok(if found.state() == "ready" { Exit::OK } else { Exit::NOT_READY })
}

/// What came of asking the server itself.
enum Asked {
    Stats(Box<Stats>),
    /// It says no, is not ready or cannot be asked from here.
    Unanswered,
    /// Nothing.
    Hangs,
}

fn stats(folder: &std::path::Path) -> Asked {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(endpoint), Ok(runtime)) = (endpoint::of_folder(folder), runtime) else {
        return Asked::Unanswered;
    };
    let client = Client::new(endpoint);
    let asked = async { tokio::time::timeout(SERVER, client.ask(Call::get("/v1/stats"))).await };
    match runtime.block_on(asked).map(|answer| answer.and_then(|answer| answer.json())) {
        Err(_) => Asked::Hangs,
        Ok(Ok(stats)) => Asked::Stats(Box::new(stats)),
        Ok(Err(_)) => Asked::Unanswered,
    }
}

impl Asked {
    fn stats(&self) -> Option<&Stats> {
        if let Asked::Stats(stats) = self { Some(stats) } else { None }
    }
}

impl Found {
    /// As it says itself; else as stands in the lock.
    fn keeper_pid(&self) -> String {
        let said = self.keeper.as_ref().map(|status| status.keeper_pid.to_string());
        said.unwrap_or_else(|| self.holder.pid().to_owned())
    }

    fn state(&self) -> &'static str {
        match &self.keeper {
            None if self.holder.process.is_none() => "orphaned",
            None => "silent",
            Some(status) if status.alone => "alone",
            Some(status) if status.stopping => "stopping",
            Some(_) if matches!(self.server, Asked::Hangs) => "hanging",
            Some(status) if status.ready => "ready",
            Some(_) => "starting",
        }
    }

    fn json(&self) -> Value {
        let status = self.keeper.clone().unwrap_or_default();
        let pid = |pid: u32| (pid != 0).then_some(pid);
        let reloaded =
            Timestamp::from_microsecond(status.reloaded_us).ok().filter(|_| status.reloaded_us != 0);
        json!({
            "state": self.state(),
            "ready": self.state() == "ready",
            "version": status.release,
            "keeper_pid": self.keeper_pid().parse::<u32>().ok(),
            "server_pid": pid(status.server_pid),
            "uptime_ms": self.holder.age().map(|age| age.as_millis() as u64),
            "listeners": self.listeners,
            "generation": status.generation,
            "stopping": status.stopping,
            "alone": status.alone,
            "attempts": status.running,
            "unrecorded": status.unrecorded,
            "running": self.server.stats().map(|stats| stats.running),
            "queued": self.server.stats().map(|stats| stats.queued),
            "config_revision": self.server.stats().map(|stats| &stats.config_revision),
            "last_reload": reloaded.map(|at| json!({
                "at": at,
                "error": (!status.reload_error.is_empty()).then_some(status.reload_error),
            })),
        })
    }

    fn table(&self, now: Timestamp) -> Table {
        let mut table = Table::new(["SERVER", self.state()]);
        let mut row = |name: &str, text: String| table.row([Cell::new(name), Cell::new(text)]);
        if let Some(meaning) = self.meaning() {
            row("", meaning.into());
        }
        let gone = if self.state() == "orphaned" { ", gone" } else { "" };
        row("keeper", format!("process {}{gone}", self.keeper_pid()));
        let Some(status) = &self.keeper else { return table };
        if status.server_pid != 0 {
            row("server", format!("process {}, number {}", status.server_pid, status.generation));
        }
        row("version", status.release.clone());
        if let Some(age) = self.holder.age() {
            row("up", when::span(age.as_millis() as u64));
        }
        for name in &self.listeners {
            row("listening", config::address(name));
        }
        match self.server.stats() {
            Some(stats) => row("jobs", format!("{} running, {} queued", stats.running, stats.queued)),
            None => row("jobs", format!("{} running", status.running)),
        }
        if status.reloaded_us != 0
            && let Ok(at) = Timestamp::from_microsecond(status.reloaded_us)
        {
            let mut complaints = status.reload_error.lines();
            let first = complaints.next().map(|line| format!(", refused: {line}")).unwrap_or_default();
            row("reload", format!("{}{first}", when::ago(at, now)));
            complaints.for_each(|line| row("", line.into()));
        }
        table
    }

    fn meaning(&self) -> Option<&'static str> {
        Some(match self.state() {
            "silent" => "the keeper does not answer",
            "orphaned" => "the keeper was killed; its server finishes what ran, then ends or takes its place",
            "alone" => "stopped, but jobs run on; `procession serve` takes them over",
            "stopping" => "takes nothing new and waits for what runs",
            "starting" => "does not answer yet",
            "hanging" => {
                "answers nothing, though it was ready; what runs is not touched, `procession reload` replaces it"
            }
            _ => return None,
        })
    }
}

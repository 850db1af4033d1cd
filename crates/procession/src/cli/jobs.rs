//! `jobs`: the newest jobs, in a table. Pages are fetched until there are as many as were
//! asked for; `cancel --task` finds its jobs by the same way.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use procession_core::api::Job;
use procession_core::id::TaskName;
use procession_core::state::JobState;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::client::{Call, Client, Failure};
use super::exit::Exit;
use super::id;
use super::paint::Style;
use super::query::Query;
use super::screen::Screen;
use super::table::{Cell, Table};
use super::when;
use super::words;

/// Jobs asked for at a time.
const PAGE: usize = 100;

/// `procession jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only of this task.
    #[arg(long)]
    task: Option<TaskName>,
    /// Only in this state; several with commas between.
    #[arg(long, value_delimiter = ',', value_parser = state_parser())]
    state: Vec<JobState>,
    /// Only with this label; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Only submitted since: a duration (1h) or a time (2026-01-02T03:04:05Z).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most this many.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Accepts the names of states, and completes them.
pub(super) fn state_parser() -> impl TypedValueParser<Value = JobState> {
    PossibleValuesParser::new(JobState::ALL.map(JobState::name)).try_map(|name| name.parse::<JobState>())
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE"),
    }
}

/// Lists them.
pub(super) async fn run(args: &JobsArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    let wanted = if args.all { usize::MAX } else { args.limit as usize };
    if screen.is_json() {
        let found: Found<Box<RawValue>> = collect(client, || args.filter(), wanted).await?;
        screen.items(&found.items)?;
        return Ok(Exit::OK);
    }
    let found: Found<Job> = collect(client, || args.filter(), wanted).await?;
    if found.items.is_empty() {
        screen.say("no jobs");
        return Ok(Exit::OK);
    }
    screen.table(&table(&found.items, now))?;
    if found.more {
        screen.hint("there are more: --limit N, --all");
    }
    Ok(Exit::OK)
}

impl JobsArgs {
    fn filter(&self) -> Query {
        let states: Vec<&str> = self.state.iter().map(|state| state.name()).collect();
        let query = Query::of("/v1/jobs")
            .maybe("task", self.task.as_ref().map(TaskName::as_str))
            .maybe("state", Some(states.join(",")).filter(|states| !states.is_empty()).as_deref())
            .maybe("since", self.since.as_deref());
        self.label.iter().fold(query, |query, (key, value)| query.with(&format!("label.{key}"), value))
    }
}

/// Jobs, and whether there are others behind them.
pub(super) struct Found<T> {
    pub(super) items: Vec<T>,
    pub(super) more: bool,
}

/// Up to `wanted` jobs of `filter`, page by page.
pub(super) async fn collect<T: DeserializeOwned>(
    client: &Client,
    filter: impl Fn() -> Query,
    wanted: usize,
) -> Result<Found<T>, Failure> {
    #[derive(Deserialize)]
    struct Page<T> {
        items: Vec<T>,
        next_cursor: Option<String>,
    }
    let mut found = Found { items: Vec::new(), more: true };
    let mut cursor = None;
    while found.more && found.items.len() < wanted {
        let limit = (wanted - found.items.len()).min(PAGE).to_string();
        let path = filter().with("limit", &limit).maybe("cursor", cursor.as_deref()).end();
        let page: Page<T> = client.ask(Call::get(path)).await?.json()?;
        found.items.extend(page.items);
        found.more = page.next_cursor.is_some();
        cursor = page.next_cursor;
    }
    Ok(found)
}

fn table(jobs: &[Job], now: Timestamp) -> Table {
    let mut table = Table::new(["ID", "TASK", "STATE", "EXIT", "SUBMITTED", "RAN", "NOTE"]);
    for job in jobs {
        table.row([
            Cell::new(id::short(job.id)),
            Cell::new(job.task.as_str()),
            Cell::new(job.state.name()).styled(Style::of(job.state)),
            Cell::new(words::exit(job)),
            Cell::new(when::ago(job.submitted_at, now)),
            Cell::new(ran(job, now)),
            Cell::new(words::note(job)),
        ]);
    }
    table
}

/// How long its last attempt ran, or runs so far.
pub(super) fn ran(job: &Job, now: Timestamp) -> String {
    let so_far = || {
        let at = job.started_at.filter(|_| job.state == JobState::Running)?;
        u64::try_from(now.as_millisecond() - at.as_millisecond()).ok()
    };
    job.run_ms.filter(|_| job.state != JobState::Running).or_else(so_far).map(when::span).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use procession_core::outcome::Outcome;

    use super::*;
    use crate::cli::job;

    #[test]
    fn the_table_of_jobs() {
        let mut running = job::queued();
        running.state = JobState::Running;
        running.started_at = Some(running.submitted_at);
        let signaled = Outcome::Signaled { signal: 9, name: "SIGKILL".into(), core: false };
        let jobs = [job::queued(), running, job::ended(Outcome::Exited { code: 3 }), job::ended(signaled)];
        let now = jobs[0].submitted_at + SignedDuration::from_secs(118);
        let header = "ID        TASK   STATE    EXIT     SUBMITTED  RAN    NOTE";
        assert_eq!(
            table(&jobs, now).lines(false),
            [
                header,
                "00000000  hello  queued            1m ago",
                "00000000  hello  running           1m ago     1m58s",
                "00000000  hello  failed   3        1m ago     812ms",
                "00000000  hello  failed   SIGKILL  1m ago     812ms",
            ]
        );
    }

    #[test]
    fn labels_need_a_key() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("a").is_err() && label("=b").is_err());
    }
}

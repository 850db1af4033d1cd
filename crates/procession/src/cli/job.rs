//! `job`: all about one job, with the last lines it wrote; or, with `--explain`, why it is
//! where it is. Facts without a value are left out; the JSON has them all.

use clap::Args;
use jiff::Timestamp;
use procession_core::api::{Explanation, Job, Output};

use super::client::{Call, Client};
use super::exit::Exit;
use super::id;
use super::jobs;
use super::paint::Style;
use super::plain;
use super::screen::Screen;
use super::table::{Cell, Table};
use super::when;
use super::words;

/// Lines shown of the end of each stream.
const TAIL: usize = 10;
/// Characters shown of a result; all of it is in the JSON.
const RESULT: usize = 2000;

/// `procession job`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// An id, or its unique end.
    id: String,
    /// Say what it waits for, what it does now, or who ended it and how.
    #[arg(long)]
    explain: bool,
}

/// Shows it.
pub(super) async fn run(args: &JobArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let id = id::resolve(client, &args.id).await?;
    let what = if args.explain { "/explain" } else { "" };
    let answer = client.ask(Call::get(format!("/v1/jobs/{id}{what}"))).await?;
    let now = Timestamp::now();
    if screen.is_json() {
        screen.json(&answer)?;
    } else if args.explain {
        let explanation: Explanation = answer.json()?;
        let state = explanation.state.name().replace('_', " ");
        screen.line(&plain::line(&format!("{} {state}: {}", id::short(id), explanation.summary)))?;
        let facts = explained(&explanation, now);
        if !facts.rows.is_empty() {
            screen.table(&facts.table())?;
        }
    } else {
        let job: Job = answer.json()?;
        screen.table(&facts(&job, now).table())?;
        if let Some(output) = &job.output {
            show_tails(screen, output)?;
        }
    }
    Ok(Exit::OK)
}

/// Names and values, those without a value left out.
#[derive(Default)]
struct Facts {
    rows: Vec<(&'static str, Cell)>,
}

impl Facts {
    fn add(&mut self, name: &'static str, value: impl Into<Option<String>>) {
        if let Some(value) = value.into().filter(|value| !value.is_empty()) {
            self.rows.push((name, Cell::new(value)));
        }
    }

    fn table(self) -> Table {
        let mut table = Table::new([]);
        for (name, value) in self.rows {
            table.row([Cell::new(name).styled(Style::Dim), value]);
        }
        table
    }
}

fn facts(job: &Job, now: Timestamp) -> Facts {
    let exact = |at: Option<Timestamp>| at.map(|at| when::exact(at, now));
    let mut facts = Facts::default();
    facts.add("job", job.id.to_string());
    facts.add("task", job.task.to_string());
    facts.rows.push(("state", Cell::new(words::state(job)).styled(Style::of(job.state))));
    facts.add("progress", job.progress.as_ref().map(words::progress));
    facts.add("submitted", format!("{} by {}", when::exact(job.submitted_at, now), job.submitted_by));
    facts.add("not before", exact(job.run_at));
    facts.add("cancel requested", exact(job.cancel_requested_at));
    facts.add("started", exact(job.started_at));
    facts.add("finished", exact(job.finished_at));
    facts.add("waited", job.queued_ms.map(when::span));
    facts.add("ran", jobs::ran(job, now));
    facts.add("attempt", (job.max_attempts > 1).then(|| format!("{} of {}", job.attempt, job.max_attempts)));
    facts.add(
        "used",
        job.usage.map(|usage| {
            let (user, system) = (when::span(usage.user_ms), when::span(usage.system_ms));
            format!("{user} user, {system} system, {} memory", when::size(usage.max_rss_bytes))
        }),
    );
    facts.add("output", job.output.as_ref().map(sizes));
    facts.add(
        "left processes",
        (job.leaked_processes > 0).then(|| format!("{}, ended", job.leaked_processes)),
    );
    facts.add(
        "children",
        job.children.as_ref().map(|children| {
            let counts: Vec<String> = children.iter().map(|(state, n)| format!("{n} {state}")).collect();
            counts.join(", ")
        }),
    );
    facts.add("parent", job.parent.map(|id| id.to_string()));
    facts.add("retry of", job.retry_of.map(|id| id.to_string()));
    facts.add("lane", job.lane.clone());
    let labels: Vec<String> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    facts.add("labels", labels.join(", "));
    facts.add("priority", (job.priority != 0).then(|| job.priority.to_string()));
    facts.add("node", job.node.clone());
    facts.add("result", job.result.as_ref().map(|result| shortened(&result.to_string())));
    facts
}

fn sizes(output: &Output) -> String {
    let stream = |bytes, dropped| match dropped {
        0 => when::size(bytes),
        dropped => format!("{} ({} dropped)", when::size(bytes), when::size(dropped)),
    };
    let stdout = stream(output.stdout_bytes, output.stdout_dropped);
    format!("stdout {stdout}, stderr {}", stream(output.stderr_bytes, output.stderr_dropped))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(RESULT) {
        Some((at, _)) => format!("{}… (all of it: --output json)", &text[..at]),
        None => text.to_owned(),
    }
}

fn explained(explanation: &Explanation, now: Timestamp) -> Facts {
    let exact = |at: Option<Timestamp>| at.map(|at| when::exact(at, now));
    let mut facts = Facts::default();
    facts.add("ahead of it", explanation.position.map(|ahead| ahead.to_string()));
    facts.add("waits for", explanation.waits_for.as_ref().map(|what| what.replace('_', " ")));
    facts.add("not before", exact(explanation.run_at));
    facts.add("gives up", exact(explanation.expires_at));
    facts.add("process", explanation.pid.map(|pid| pid.to_string()));
    facts.add("deadline", exact(explanation.deadline));
    facts.add("last output", exact(explanation.last_output_at));
    facts.add("cancel requested", exact(explanation.cancel_requested_at));
    facts
}

fn show_tails(screen: &Screen, output: &Output) -> anyhow::Result<()> {
    for (name, bytes, tail) in [
        ("stdout", output.stdout_bytes, &output.stdout_tail),
        ("stderr", output.stderr_bytes, &output.stderr_tail),
    ] {
        let (text, cut) = last_lines(&plain::lines(tail), TAIL);
        if text.is_empty() {
            continue;
        }
        let cut = cut || (tail.len() as u64) < bytes;
        let title = if cut { format!("last lines of {name}") } else { name.to_owned() };
        screen.line(&format!("\n{}\n{text}", screen.paint(Style::Dim, &title)))?;
    }
    Ok(())
}

/// At most the last `count` lines, and whether there were more.
fn last_lines(text: &str, count: usize) -> (String, bool) {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let first = lines.len().saturating_sub(count);
    (lines[first..].join("\n"), first > 0)
}

/// A job that waits, for tests of this folder.
#[cfg(test)]
pub(super) fn queued() -> Job {
    let submitted_at = "2026-01-02T03:04:05Z";
    serde_json::from_value(serde_json::json!({
        "id": "019b7a4a-0000-7000-8000-000000000000", "task": "hello", "state": "queued",
        "attempt": 0, "max_attempts": 1, "submitted_at": submitted_at, "labels": {}, "priority": 0,
        "submitted_by": "token:default", "config_revision": "1", "leaked_processes": 0,
    }))
    .expect("a job")
}

/// A job that ended so, for tests of this folder.
#[cfg(test)]
pub(super) fn ended(outcome: procession_core::outcome::Outcome) -> Job {
    Job {
        state: outcome.state(),
        attempt: 1,
        exit_code: outcome.exit_code(),
        signal: outcome.signal(),
        outcome: Some(outcome),
        run_ms: Some(812),
        ..queued()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use procession_core::outcome::Outcome;
    use procession_core::state::JobState;

    use super::*;

    #[test]
    fn facts_without_a_value_are_left_out() {
        let mut job = ended(Outcome::Exited { code: 3 });
        job.children = Some(BTreeMap::from([(JobState::Succeeded, 5), (JobState::Failed, 2)]));
        let lines = facts(&job, job.submitted_at).table().lines(false);
        let starts: Vec<&str> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(starts, ["job", "task", "state", "submitted", "ran", "children"]);
        assert!(lines[2].ends_with("failed: exit code 3"), "{lines:?}");
        assert!(lines[5].ends_with("5 succeeded, 2 failed"), "{lines:?}");
    }

    #[test]
    fn tails_are_cut_to_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), ("b\nc".into(), true));
        assert_eq!(last_lines("a\n", 2), ("a".into(), false));
        assert_eq!(last_lines("", 2), (String::new(), false));
    }

    #[test]
    fn dropped_output_is_said() {
        let output = Output { stdout_bytes: 2048, stdout_dropped: 1024, ..Output::default() };
        assert_eq!(sizes(&output), "stdout 2.0 KiB (1.0 KiB dropped), stderr 0 B");
    }
}

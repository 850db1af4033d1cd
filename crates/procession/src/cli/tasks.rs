//! `tasks`: what the server can run, and how busy it is with it. Counts of finished jobs
//! are since the store was made, also of jobs that were removed.

use clap::Args;
use procession_core::api::{Items, TaskInfo};

use super::client::{Call, Client};
use super::exit::Exit;
use super::paint::Style;
use super::screen::Screen;
use super::table::{Cell, Table};

/// `procession tasks`.
#[derive(Debug, Args)]
pub struct TasksArgs {}

/// Lists them.
pub(super) async fn run(_: &TasksArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(Call::get("/v1/tasks")).await?;
    if screen.is_json() {
        screen.json(&answer)?;
        return Ok(Exit::OK);
    }
    let tasks: Items<TaskInfo> = answer.json()?;
    if tasks.items.is_empty() {
        screen.say("no tasks: the config names none");
    } else {
        screen.table(&table(&tasks.items))?;
    }
    Ok(Exit::OK)
}

fn table(tasks: &[TaskInfo]) -> Table {
    let mut table = Table::new(["TASK", "RUNNING", "QUEUED", "FINISHED", "FAILED", "STATE", "DESCRIPTION"]);
    for task in tasks {
        let (state, style) = if task.paused { ("paused", Style::Bad) } else { ("open", Style::Good) };
        let failed = if task.failed > 0 { Style::Bad } else { Style::Plain };
        table.row([
            Cell::new(task.name.as_str()),
            // What a family holds of its limit is a place, and a slot only while it is joined.
            Cell::new(of(task.families.unwrap_or(task.running), task.limits.max_running)),
            Cell::new(of(task.queued, Some(task.limits.max_queued))),
            Cell::new(task.finished.to_string()),
            Cell::new(task.failed.to_string()).styled(failed),
            Cell::new(state).styled(style),
            Cell::new(task.description.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

/// `2/10`, or `2` where nothing limits it.
fn of(count: u64, limit: Option<u64>) -> String {
    limit.map_or_else(|| count.to_string(), |limit| format!("{count}/{limit}"))
}

#[cfg(test)]
mod tests {
    use procession_core::api::{Rates, TaskLimits};

    use super::*;

    #[test]
    fn the_table_of_tasks() {
        let task = |name: &str, max_running, paused| TaskInfo {
            name: name.parse().expect("a name"),
            description: None,
            running: 2,
            queued: 0,
            families: None,
            finished: 17,
            failed: 1,
            paused,
            limits: TaskLimits { max_running, max_running_per_lane: None, max_queued: 1000 },
            rates: Rates::default(),
        };
        assert_eq!(
            table(&[task("full-report", Some(10), false), task("x", None, true)]).lines(false),
            [
                "TASK         RUNNING  QUEUED  FINISHED  FAILED  STATE   DESCRIPTION",
                "full-report  2/10     0/1000  17        1       open",
                "x            2        0/1000  17        1       paused",
            ]
        );
    }
}

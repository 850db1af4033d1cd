//! `schedules`: what runs by the clock, when it is due next, and what it last did; `run`,
//! `pause` and `resume` one of them. When each is due stands in the config.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use procession_core::api::{Items, Job, ScheduleInfo};
use procession_core::schedule::ScheduleName;

use super::client::{Call, Client};
use super::exit::Exit;
use super::id;
use super::paint::Style;
use super::screen::Screen;
use super::table::{Cell, Table};
use super::when;

/// `procession schedules`.
#[derive(Debug, Args)]
pub struct SchedulesArgs {
    #[command(subcommand)]
    verb: Option<ScheduleVerb>,
}

/// What can be done to a schedule.
#[derive(Debug, Subcommand)]
enum ScheduleVerb {
    /// Submit its job now; its next moment stays.
    Run(One),
    /// Let its moments pass; also after a restart.
    Pause(One),
    /// Go on with its next moment; what has passed is over.
    Resume(One),
}

#[derive(Debug, Args)]
struct One {
    /// The schedule.
    schedule: ScheduleName,
}

/// Lists them, or does something to one.
pub(super) async fn run(args: &SchedulesArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    match &args.verb {
        None => list(client, screen).await,
        Some(ScheduleVerb::Run(one)) => run_now(one, client, screen).await,
        Some(ScheduleVerb::Pause(one)) => set_paused(one, "pause", client, screen).await,
        Some(ScheduleVerb::Resume(one)) => set_paused(one, "resume", client, screen).await,
    }
}

async fn list(client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(Call::get("/v1/schedules")).await?;
    if screen.is_json() {
        screen.json(&answer)?;
        return Ok(Exit::OK);
    }
    let schedules: Items<ScheduleInfo> = answer.json()?;
    if schedules.items.is_empty() {
        screen.say("no schedules: the config names none");
    } else {
        screen.table(&table(&schedules.items, Timestamp::now()))?;
    }
    Ok(Exit::OK)
}

async fn run_now(one: &One, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(Call::post(format!("/v1/schedules/{}/run", one.schedule))).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        let job: Job = answer.json()?;
        screen.line(&job.id.to_string())?;
        screen.hint(&format!("its output: procession logs -f {}", id::short(job.id)));
    }
    Ok(Exit::OK)
}

async fn set_paused(one: &One, verb: &str, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let answer = client.ask(Call::post(format!("/v1/schedules/{}/{verb}", one.schedule))).await?;
    if screen.is_json() {
        screen.json(&answer)?;
        return Ok(Exit::OK);
    }
    let schedule: ScheduleInfo = answer.json()?;
    let next = schedule.next_run_at.map(|at| when::exact(at, Timestamp::now()));
    let line = match next {
        Some(next) => format!("{} runs again: next {next}", schedule.name),
        None => format!("{} is paused", schedule.name),
    };
    screen.line(&line)?;
    Ok(Exit::OK)
}

fn table(schedules: &[ScheduleInfo], now: Timestamp) -> Table {
    let mut table =
        Table::new(["SCHEDULE", "TASK", "WHEN", "TIME ZONE", "NEXT", "LAST", "LAST JOB", "STATE"]);
    for schedule in schedules {
        let (state, style) = if schedule.paused { ("paused", Style::Bad) } else { ("open", Style::Good) };
        let ago = |at: Option<Timestamp>| at.map(|at| when::ago(at, now)).unwrap_or_default();
        table.row([
            Cell::new(schedule.name.as_str()),
            Cell::new(schedule.task.as_str()),
            Cell::new(&schedule.cron),
            Cell::new(&schedule.timezone),
            Cell::new(ago(schedule.next_run_at)),
            Cell::new(ago(schedule.last_run_at)),
            Cell::new(schedule.last_job.map(id::short).unwrap_or_default()),
            Cell::new(state).styled(style),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use procession_core::schedule::{CatchUp, Overlap};

    use super::*;

    #[test]
    fn the_table_of_schedules() {
        let now: Timestamp = "2026-08-01T12:00Z".parse().expect("a moment");
        let schedule = |name: &str, paused| ScheduleInfo {
            name: name.parse().expect("a name"),
            task: "report".parse().expect("a name"),
            cron: "0 3 * * *".into(),
            timezone: "Asia/Shanghai".into(),
            overlap: Overlap::Skip,
            catch_up: CatchUp::None,
            paused,
            next_run_at: (!paused).then(|| now + 7.hours()),
            last_run_at: paused.then(|| now - 17.hours()),
            last_job: paused.then(|| "01900000-0000-7000-8000-00009f3a1c2b".parse().expect("an id")),
        };
        assert_eq!(
            table(&[schedule("nightly", false), schedule("x", true)], now).lines(false),
            [
                "SCHEDULE  TASK    WHEN       TIME ZONE      NEXT   LAST     LAST JOB  STATE",
                "nightly   report  0 3 * * *  Asia/Shanghai  in 7h                     open",
                "x         report  0 3 * * *  Asia/Shanghai         17h ago  9f3a1c2b  paused",
            ]
        );
    }
}

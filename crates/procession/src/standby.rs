//! A server that is to take over from one that serves: checks everything that can be checked
//! before anything is touched, says so, and waits for its turn. What it refuses changes
//! nothing. Called by `app` before the server proper, which then starts as always.

use std::borrow::Cow;
use std::path::Path;

use procession_core::frame::{Hello, ToKeeper, ToServer};
use procession_core::id::TaskName;
use procession_core::validate::Tasks;
use procession_keeper::fault;
use procession_store::sqlite::SqliteStore;

use crate::config::{Config, Listen, LoadOptions, Snapshot, load, restore};
use crate::data::DataDir;
use crate::keeper::Greeting;
use crate::scheduler::unfinished_of_removed;

/// What becomes of a standby.
pub enum Turn {
    /// The server before has released the store: serve, by this config.
    TakeOver(Box<Config>),
    /// It cannot take over, and has told the keeper why.
    Refused,
    /// The keeper hung up: the server before stays.
    NotWanted,
}

/// Checks, says PREPARED or REFUSED, and waits for PROCEED as long as the keeper does.
pub fn stand_by(greeting: &mut Greeting, path: &Path, options: &LoadOptions) -> anyhow::Result<Turn> {
    let config = match checked(path, options, &greeting.hello) {
        Ok(config) => config,
        Err(message) => {
            greeting.say(&ToKeeper::Refused { message })?;
            return Ok(Turn::Refused);
        }
    };
    fault::point("standby.before_prepared");
    greeting.say(&ToKeeper::Prepared)?;
    fault::point("standby.after_prepared");
    while let Some(frame) = greeting.hear()? {
        match frame {
            ToServer::Proceed => {
                fault::point("standby.at_proceed");
                return Ok(Turn::TakeOver(Box::new(config)));
            }
            ToServer::Ping => greeting.say(&ToKeeper::Pong)?,
            // Frames may hold what programs wrote: none is shown.
            _ => anyhow::bail!("the keeper spoke out of turn to a standby"),
        }
    }
    Ok(Turn::NotWanted)
}

/// The config, if a server can take over with it; else all that stands against it.
fn checked(path: &Path, options: &LoadOptions, hello: &Hello) -> Result<Config, String> {
    let config = load(path, options).map_err(|wrong| wrong.to_string())?;
    let mut complaints = Vec::new();
    if !fits(&config.server.listen, &bound(hello)) {
        complaints.push(at_a_restart("listen"));
    }
    let data = DataDir::existing(&config.server.data_dir);
    if holder(&data) != Some(hello.keeper_pid) {
        complaints.push(at_a_restart("data_dir"));
    } else {
        match SqliteStore::check(&data.database()) {
            Ok(_) if hello.force => {}
            Ok(counts) => {
                let before = Snapshot::read(&data.config_in_force()).ok();
                let before = before.and_then(|snapshot| restore(snapshot, options).ok()).unwrap_or_default();
                let changed =
                    |(name, _): &(TaskName, u64)| is_another_kind(&before.tasks, &config.tasks, name);
                let jobs = counts.iter().map(|(name, counts)| (name.clone(), counts.unfinished()));
                complaints.extend(jobs.filter(|(_, jobs)| *jobs > 0).filter(changed).map(of_another_kind));
                complaints.extend(unfinished_of_removed(&config.tasks, counts).map(unfinished));
            }
            Err(error) => complaints.push(format!("error: {error}")),
        }
    }
    if complaints.is_empty() { Ok(config) } else { Err(complaints.join("\n\n")) }
}

fn at_a_restart(key: &str) -> String {
    format!(
        "error: `{key}` is not as it was when the server was started, and takes effect at a restart only\n  \
         = help: write it as it was, or stop the server and start it again"
    )
}

fn bound(hello: &Hello) -> Vec<String> {
    hello.listener_names().map(Cow::into_owned).collect()
}

/// Whether these listeners are what a config asks for; port 0 is any port.
fn fits(asked: &[Listen], bound: &[String]) -> bool {
    let same = |(asked, bound): (&Listen, &String)| match (asked, bound.parse()) {
        (Listen::Tcp(_), Ok(bound)) => asked.fits(bound),
        _ => asked.to_string() == *bound,
    };
    asked.len() == bound.len() && asked.iter().zip(bound).all(same)
}

/// The keeper that has locked a data directory.
fn holder(data: &DataDir) -> Option<u32> {
    std::fs::read_to_string(data.lock()).ok()?.split_whitespace().next()?.parse().ok()
}

/// Whether a task had a command of its own and has a `fan_out` now, or the other way round. What was
/// submitted to the one can do nothing with the other.
fn is_another_kind(before: &Tasks, now: &Tasks, name: &TaskName) -> bool {
    let is_family = |tasks: &Tasks| tasks.get(name).map(|task| task.fan_out.is_some());
    matches!((is_family(before), is_family(now)), (Some(before), Some(now)) if before != now)
}

fn of_another_kind((task, jobs): (TaskName, u64)) -> String {
    let jobs = counted(jobs);
    format!(
        "error: task `{task}` has {jobs} and changes between `command` and `fan_out`\n  \
         = help: let them end or cancel them first, or give the new task another name; with --force they fail"
    )
}

fn counted(jobs: u64) -> String {
    if jobs == 1 { "1 unfinished job".to_owned() } else { format!("{jobs} unfinished jobs") }
}

fn unfinished((task, jobs): (TaskName, u64)) -> String {
    let jobs = counted(jobs);
    format!(
        "error: task `{task}` left the config and has {jobs}\n  \
         = help: let them end or cancel them first, or reload with --force, which cancels them"
    )
}

#[cfg(test)]
mod tests {
    use procession_store::TaskCounts;

    use super::*;

    #[test]
    fn listeners_are_compared_as_they_are_bound() {
        let tcp = |text: &str| Listen::Tcp(text.parse().expect("an address"));
        let unix = Listen::Unix { path: "/run/x".into(), mode: 0o600, group: None };
        let bound = ["127.0.0.1:4711".to_owned(), "unix:/run/x".to_owned()];
        assert!(fits(&[tcp("127.0.0.1:4711"), unix.clone()], &bound));
        assert!(fits(&[tcp("127.0.0.1:0"), unix.clone()], &bound));
        assert!(fits(&[tcp("0.0.0.0:0")], &["0.0.0.0:80".into()]));
        for other in [
            vec![tcp("127.0.0.1:4711")],
            vec![tcp("127.0.0.1:80"), unix.clone()],
            vec![tcp("0.0.0.0:0"), unix.clone()],
            vec![unix, tcp("127.0.0.1:0")],
        ] {
            assert!(!fits(&other, &bound), "{other:?}");
        }
    }

    #[test]
    fn only_tasks_with_unfinished_jobs_are_missed() {
        let counts = |running, queued| TaskCounts { running, queued, ..TaskCounts::default() };
        let name = |text: &str| text.parse::<TaskName>().expect("a name");
        let known = [(name("idle"), counts(0, 0)), (name("busy"), counts(1, 2))].into();
        let config = Config::default();
        assert_eq!(unfinished_of_removed(&config.tasks, known).collect::<Vec<_>>(), [(name("busy"), 3)]);
        let said = unfinished((name("busy"), 3));
        assert!(
            said.contains("`busy`") && said.contains("3 unfinished") && said.contains("--force"),
            "{said}"
        );
    }
}

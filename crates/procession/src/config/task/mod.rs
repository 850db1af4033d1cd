//! `[task.NAME]`: one task of the config becomes core's [`Task`].
//!
//! Each concern of a task has a file here that reads its keys. What is wrong is reported
//! and stands at its default, so the task that comes back is whole even when the config as
//! a whole is refused.

mod command;
mod environment;
mod family;
mod follow_up;
mod input;
mod labels;
mod limits;
mod output;
mod reply;
mod retry;
mod route;
mod script;
mod slot;

use procession_core::id::TaskName;
use procession_core::task::Task;
use procession_core::validate::Tasks;

use super::load::Surroundings;
use super::report::Report;
use super::section::Section;

use family::FanOuts;
use follow_up::Follows;
use route::Routes;

/// What concerns several tasks, and is judged when all of them are read.
#[derive(Debug, Default)]
pub(super) struct Across {
    routes: Routes,
    follows: Follows,
    fan_outs: FanOuts,
}

impl Across {
    /// That what tasks say of each other holds.
    pub(super) fn check(&self, tasks: &Tasks, report: &Report) {
        self.follows.check(tasks, report);
        self.fan_outs.check(tasks, report);
    }
}

/// Reads the task `name`; `across` remembers what the tasks before it said.
pub(super) fn read(
    section: &Section<'_>,
    name: TaskName,
    around: &Surroundings<'_>,
    across: &mut Across,
) -> Task {
    let mut task = Task::new(name, Vec::new(), around.folder.to_owned());
    task.description = section.text("description").map(|text| text.text.to_owned());
    if let Some(allowed) = section.flag("allow_leading_dash") {
        task.allow_leading_dash = allowed;
    }
    input::read(section, around, &mut task);
    limits::read(section, &mut task);
    output::read(section, around, &mut task);
    task.route = route::read(section, &task.name, &mut across.routes);

    let directory = command::directory(section, around);
    let command = match family::read(section, &task, directory.as_deref(), around, &mut across.fan_outs) {
        Some((fan_out, join)) => {
            task.fan_out = Some(fan_out);
            join
        }
        None if section.has("fan_out") => Vec::new(),
        None => command::read(section, &task, directory.as_deref(), around),
    };
    task.retry = retry::retry(section);
    let retry::Keyed { lane, unique } = retry::keyed(section, &mut task);
    let env = environment::read(section, around, &mut task);
    let (labels, key) = labels::read(section);
    task.then = follow_up::then(section, &task.name, &mut across.follows);
    let (callback, url) = follow_up::callback(section, around).unzip();
    if let Some(directory) = directory {
        task.directory = directory;
    }
    let keyed = [&key, &lane, &unique, &url].into_iter().flatten();
    let templates = command.iter().chain(env.values()).chain(labels.values()).chain(keyed);
    input::check_templates(section, &task, &command, templates);
    task.command = command.into_iter().map(|slot| slot.template).collect();
    task.env = env.into_iter().map(|(name, slot)| (name, slot.template)).collect();
    task.labels = labels.into_iter().map(|(name, slot)| (name, slot.template)).collect();
    task.idempotency_key = key.map(|slot| slot.template);
    task.lane = lane.map(|slot| slot.template);
    task.unique = unique.map(|slot| slot.template);
    task.callback = callback;
    task
}

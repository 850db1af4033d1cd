//! `[task.NAME]`: one task of the config becomes core's [`Task`].
//!
//! Each concern of a task has a file here that reads its keys. What is wrong is reported
//! and stands at its default, so the task that comes back is whole even when the config as
//! a whole is refused.

mod command;
mod environment;
mod follow_up;
mod input;
mod labels;
mod limits;
mod output;
mod reply;
mod route;
mod script;
mod slot;

use procession_core::id::TaskName;
use procession_core::task::Task;

use super::load::Surroundings;
use super::section::Section;

pub(super) use follow_up::Follows;
pub(super) use route::Routes;

/// Reads the task `name`. `routes` and `follows` remember what the tasks before it said.
pub(super) fn read(
    section: &Section<'_>,
    name: TaskName,
    around: &Surroundings<'_>,
    routes: &mut Routes,
    follows: &mut Follows,
) -> Task {
    let mut task = Task::new(name, Vec::new(), around.folder.to_owned());
    task.description = section.text("description").map(|text| text.text.to_owned());
    if let Some(allowed) = section.flag("allow_leading_dash") {
        task.allow_leading_dash = allowed;
    }
    input::read(section, around, &mut task);
    limits::read(section, &mut task);
    output::read(section, around, &mut task);
    task.route = route::read(section, &task.name, routes);

    let directory = command::directory(section, around);
    let command = command::read(section, &task, directory.as_deref(), around);
    let env = environment::read(section, around, &mut task);
    let (labels, key) = labels::read(section);
    task.then = follow_up::then(section, &task.name, follows);
    let (callback, url) = follow_up::callback(section, around).unzip();
    if let Some(directory) = directory {
        task.directory = directory;
    }
    let templates = || command.iter().chain(env.values()).chain(labels.values()).chain(&key).chain(&url);
    input::check_templates(section, &task, &command, templates());
    task.command = command.into_iter().map(|slot| slot.template).collect();
    task.env = env.into_iter().map(|(name, slot)| (name, slot.template)).collect();
    task.labels = labels.into_iter().map(|(name, slot)| (name, slot.template)).collect();
    task.idempotency_key = key.map(|slot| slot.template);
    task.callback = callback;
    task
}

//! `fan_out`: how a task divides a request among jobs of another task.

use procession_core::family::{FanOut, MAX_CHILDREN, OnFailure, Over, check};
use procession_core::id::TaskName;
use procession_core::limits::Limit;
use procession_core::task::{Body, Method, Task};
use procession_core::validate::Tasks;

use super::super::diagnostic::Span;
use super::super::keys;
use super::super::load::Surroundings;
use super::super::report::Report;
use super::super::section::{Item, Section};
use super::command;
use super::slot::Slot;

const EXAMPLE: &str =
    "{ task = \"inspect-image\", over = \"/imageUrls\", join = [\"python3\", \"join.py\"] }";

/// Whom the tasks fan out to, and where that is said: judged once all tasks are read.
#[derive(Debug, Default)]
pub(in crate::config) struct FanOuts(Vec<(TaskName, TaskName, Span)>);

/// How the task fans out, and its join.
pub(super) fn read<'a>(
    section: &Section<'a>,
    task: &Task,
    directory: Option<&std::path::Path>,
    around: &Surroundings<'_>,
    all: &mut FanOuts,
) -> Option<(FanOut, Vec<Slot<'a>>)> {
    let item = section.item("fan_out")?;
    let help = format!("write fan_out = {EXAMPLE}");
    let fan_out = item.section(&keys::FAN_OUT, "fan_out", item.span.clone(), &help)?;
    if section.has("command") {
        let message = "a task has a `command` or a `fan_out`";
        let help = "what is to run after the children goes into fan_out: join = [\"python3\", \"join.py\"]";
        section.report.error(&section.span_of("command"), message, help);
    }
    if task.input.body == Body::Bytes {
        let help = "remove `body`: the request is JSON that its children get the parts of";
        section.report.error(&item.span, "body = \"bytes\" cannot be divided", help);
    }
    if fan_out.has("over") && task.route.as_ref().is_some_and(|route| route.method == Method::Get) {
        let help = "write a POST route, or count = 7 for so many children without a body";
        section.report.error(&item.span, "a GET request has no body to divide", help);
    }
    let join = match fan_out.item("join") {
        Some(join) => command::of(&join, &fan_out, task, directory, around),
        None => Vec::new(),
    };
    let on_failure = [("finish", OnFailure::Finish), ("stop", OnFailure::Stop)];
    let max_running = fan_out.count("max_running", 1..=MAX_CHILDREN as u64);
    let join_decides = fan_out.flag("join_decides").unwrap_or(false);
    if join_decides && !fan_out.has("join") {
        let help = "add the `join` that decides, or remove `join_decides`";
        section.report.error(&fan_out.span_of("join_decides"), "there is no join to decide", help);
    }
    let on_failure = fan_out.choice("on_failure", &on_failure).unwrap_or_default();
    let (target, over) = (target(&fan_out, &item, &task.name, all), over(&fan_out, &item));
    let fan_out = FanOut {
        task: target?,
        over: over?,
        max_running: max_running.map_or(Limit::Unlimited, Limit::AtMost),
        on_failure,
        join_decides,
    };
    Some((fan_out, join))
}

fn target(fan_out: &Section<'_>, item: &Item<'_>, from: &TaskName, all: &mut FanOuts) -> Option<TaskName> {
    let Some(text) = fan_out.text("task") else {
        if !fan_out.has("task") {
            item.report.error(&item.span, "`fan_out` names no task", format!("write fan_out = {EXAMPLE}"));
        }
        return None;
    };
    match text.text.parse::<TaskName>() {
        Ok(name) => {
            all.0.push((from.clone(), name.clone(), text.span.clone()));
            Some(name)
        }
        Err(bad) => {
            text.error(format!("\"{}\" cannot name a task", text.text.escape_debug()), bad.to_string());
            None
        }
    }
}

fn over(fan_out: &Section<'_>, item: &Item<'_>) -> Option<Over> {
    let count = fan_out.count("count", 1..=MAX_CHILDREN as u64);
    let pointer = fan_out.text("over");
    match (pointer, fan_out.has("count")) {
        (Some(pointer), false) if pointer.text.is_empty() || pointer.text.starts_with('/') => {
            Some(Over::Pointer(pointer.text.to_owned()))
        }
        (Some(pointer), false) => {
            let help = format!("write over = \"/{}\"", pointer.text.replace('.', "/"));
            pointer.error("`over` is a JSON pointer, which begins with a slash", help);
            None
        }
        (Some(pointer), true) => {
            pointer.error("`over` and `count` both say how many children there are", "remove one of them");
            None
        }
        (None, true) => count.and_then(|count| u32::try_from(count).ok()).map(Over::Count),
        (None, false) => {
            if !fan_out.has("over") {
                let help = "write over = \"/imageUrls\" for one child an element, or count = 7";
                item.report.error(&item.span, "`fan_out` does not say how many children there are", help);
            }
            None
        }
    }
}

impl FanOuts {
    /// That every child has a task that takes its payload, and that none has children without end.
    pub(in crate::config) fn check(&self, tasks: &Tasks, report: &Report) {
        let next = |name: &TaskName| {
            let fan_out = tasks.get(name)?.fan_out.as_ref()?;
            Some(fan_out.task.clone())
        };
        for (name, target, span) in &self.0 {
            match tasks.get(target) {
                None => {
                    let names: Vec<&str> = tasks.keys().map(TaskName::as_str).collect();
                    let help = match super::super::nearest::nearest(target.as_str(), &names) {
                        Some(meant) => format!("did you mean \"{meant}\"?"),
                        None => format!("add [task.{target}]"),
                    };
                    report.error(span, format!("there is no task `{target}`"), help);
                }
                Some(target) if target.input.body == Body::Bytes => {
                    let message = format!("`{}` takes bytes, and a child's payload is JSON", target.name);
                    report.error(span, message, "write body = \"json\" in that task");
                }
                Some(_) => {
                    if let Err(bad) = check(name, next) {
                        report.error(span, bad.to_string(), "let the last of them have a command");
                    }
                }
            }
        }
    }
}

//! `[schedule.NAME]`: a task that runs by the clock. What it would submit is judged here as
//! a client's request would be, so that no schedule fails at night by what stands in the
//! config.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use procession_core::command::Surroundings;
use procession_core::cron::{BadCron, Cron};
use procession_core::id::TaskName;
use procession_core::payload::Payload;
use procession_core::placeholder::RequestValues;
use procession_core::schedule::{CatchUp, Overlap, Schedule, ScheduleName};
use procession_core::task::{Body, Task};
use procession_core::validate::{Complaint, Rejection, RequestBody, Tasks, validate};

use super::json::{json, place_of};
use super::keys;
use super::nearest::nearest;
use super::section::{Section, Text};

/// What schedules refer to.
pub(super) struct Known<'a> {
    /// The tasks of the config.
    pub(super) tasks: &'a Tasks,
    /// Below it the folders of jobs lie.
    pub(super) job_folder: String,
}

/// All schedules of the config.
pub(super) fn read_all(top: &Section<'_>, known: &Known<'_>) -> BTreeMap<ScheduleName, Arc<Schedule>> {
    const HELP: &str = "write [schedule.NAME] above the keys of a schedule";
    let mut schedules = BTreeMap::new();
    let Some(item) = top.item("schedule") else { return schedules };
    for entry in item.entries(HELP).unwrap_or_default() {
        let title = format!("[schedule.{}]", entry.key.text);
        let name = match entry.key.text.parse::<ScheduleName>() {
            Ok(name) => Some(name),
            Err(bad) => {
                let message = format!("\"{}\" cannot name a schedule", entry.key.text.escape_debug());
                entry.key.error(message, bad.to_string());
                None
            }
        };
        let Some(section) = entry.value.section(&keys::SCHEDULE, &title, entry.key.span, HELP) else {
            continue;
        };
        // One with a bad name is read all the same: its other complaints come now.
        let stand_in = || "unnamed".parse().ok();
        let Some(known_as) = name.clone().or_else(stand_in) else { continue };
        let schedule = read(&section, known_as, known);
        if let (Some(name), Some(schedule)) = (name, schedule) {
            schedules.insert(name, Arc::new(schedule));
        }
    }
    schedules
}

fn read(section: &Section<'_>, name: ScheduleName, known: &Known<'_>) -> Option<Schedule> {
    let task = task(section, known);
    let cron = cron(section);
    let overlap = section.choice("overlap", &[("skip", Overlap::Skip), ("queue", Overlap::Queue)]);
    let catch_up = section.choice("catch_up", &[("none", CatchUp::None), ("one", CatchUp::One)]);
    let payload = task.and_then(|task| payload(section, task, known));
    Some(Schedule {
        name,
        task: task?.name.clone(),
        cron: cron?,
        overlap: overlap.unwrap_or_default(),
        catch_up: catch_up.unwrap_or_default(),
        payload: payload?,
    })
}

fn missing(section: &Section<'_>, key: &str, help: &str) {
    section.report.error(&section.span, format!("{} has no `{key}`", section.name), help);
}

fn task<'t>(section: &Section<'_>, known: &Known<'t>) -> Option<&'t Task> {
    if !section.has("task") {
        missing(section, "task", "name the task that runs: task = \"report\"");
    }
    let text = section.text("task")?;
    if let Some(task) = known.tasks.get(text.text) {
        return Some(task);
    }
    let names: Vec<&str> = known.tasks.keys().map(TaskName::as_str).collect();
    let help = match nearest(text.text, &names) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("add [task.{}], or name another", text.text.escape_debug()),
    };
    text.error(format!("there is no task \"{}\"", text.text.escape_debug()), help);
    None
}

fn cron(section: &Section<'_>) -> Option<Cron> {
    let zone = if section.has("timezone") { zone(section) } else { Some(TimeZone::UTC) };
    if !section.has("cron") {
        missing(section, "cron", "say when it runs: cron = \"0 3 * * *\" is 3:00 each day");
    }
    let text = section.text("cron")?;
    // An unknown zone has been said; the expression is looked at all the same.
    let read = Cron::parse(text.text, zone.clone().unwrap_or(TimeZone::UTC));
    let cron = read.map_err(|bad| say_cron(&text, &bad)).ok()?;
    zone.map(|_| cron)
}

fn say_cron(text: &Text<'_>, bad: &BadCron) {
    let words: Vec<&str> = text.text.split_ascii_whitespace().collect();
    let names_zone = |word: &&str| word.contains('/') && TimeZone::get(word).is_ok();
    let (span, help) = match bad {
        BadCron::Field { n, .. } => {
            let field = words.get(*n).copied().unwrap_or_default();
            // Both are of one text.
            let at = field.as_ptr().addr().saturating_sub(text.text.as_ptr().addr());
            let help = "the fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-7";
            (text.span_within(at, field.len()), help.to_owned())
        }
        BadCron::Fields(_) if words.last().is_some_and(names_zone) => {
            let zone = words.last().copied().unwrap_or_default();
            (text.span.clone(), format!("the time zone has a key of its own: timezone = \"{zone}\""))
        }
        BadCron::Fields(6) => (text.span.clone(), "there are no seconds; leave out the first".to_owned()),
        BadCron::Fields(_) => (text.span.clone(), "\"0 3 * * *\" is 3:00 each day".to_owned()),
        BadCron::Nickname(_) => (text.span.clone(), "or write five fields: \"0 3 * * *\"".to_owned()),
        BadCron::Never => (text.span.clone(), "correct the day or the month".to_owned()),
    };
    text.report.error(&span, format!("`cron` has {bad}"), help);
}

fn zone(section: &Section<'_>) -> Option<TimeZone> {
    let text = section.text("timezone")?;
    // What names a zone by its rules or its distance is taken for a mistake.
    let zone = TimeZone::get(text.text).ok().filter(|zone| zone.iana_name().is_some());
    if zone.is_none() {
        let lower = text.text.to_lowercase();
        let all: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
        let small: Vec<String> = all.iter().map(|name| name.to_lowercase()).collect();
        let small: Vec<&str> = small.iter().map(String::as_str).collect();
        let meant =
            nearest(&lower, &small).and_then(|near| all.iter().find(|name| name.eq_ignore_ascii_case(near)));
        let help = match meant {
            // What people seek who have not met the database's choice of towns.
            _ if lower.ends_with("beijing") => "the zone of Beijing is \"Asia/Shanghai\"".to_owned(),
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => {
                "write a name of the time zone database, such as \"Asia/Shanghai\", or \"UTC\"".to_owned()
            }
        };
        text.error(format!("there is no time zone \"{}\"", text.text.escape_debug()), help);
    }
    zone
}

/// The body of each job, judged by its task.
fn payload(section: &Section<'_>, task: &Task, known: &Known<'_>) -> Option<Bytes> {
    let item = section.item("payload");
    let (bytes, body) = match (task.input.body, &item) {
        (Body::Bytes, None) => (Bytes::new(), RequestBody::Bytes),
        (Body::Bytes, Some(item)) => {
            let text = item.text("a string, as the task takes bytes")?;
            (Bytes::copy_from_slice(text.text.as_bytes()), RequestBody::Bytes)
        }
        (Body::Json, None) => (Bytes::new(), RequestBody::Json(Payload::stored(Bytes::new()))),
        (Body::Json, Some(item)) => {
            let bytes = Bytes::from(json(item)?.to_string());
            let payload = Payload::parse(bytes.clone()).map_err(|bad| {
                item.report.error(
                    &item.span,
                    format!("`payload` is no JSON we take: {bad}"),
                    "make it flatter",
                );
            });
            (bytes, RequestBody::Json(payload.ok()?))
        }
    };
    if bytes.len() as u64 > task.input.max_body {
        let message = format!("`payload` is larger than the `max_body` of [task.{}]", task.name);
        section.report.error(&section.span_of("payload"), message, "raise `max_body`, or write less");
        return None;
    }
    let around = Surroundings { job_folder: known.job_folder.clone(), ..Surroundings::default() };
    let judged = validate(task, &body, &RequestValues::default(), &around, known.tasks);
    judged.map_err(|rejection| say_rejection(section, task, &rejection)).ok()?;
    Some(bytes)
}

fn say_rejection(section: &Section<'_>, task: &Task, rejection: &Rejection) {
    let item = section.item("payload");
    let span = |pointer: &str| match &item {
        Some(item) => place_of(item, pointer),
        None => section.span.clone(),
    };
    let say = |complaint: &Complaint, what: &str, help: &str| {
        let message = format!("[task.{}] {what}: {}", task.name, complaint.detail);
        section.report.error(&span(&complaint.pointer), message, help);
    };
    match rejection {
        Rejection::Payload(complaints) => {
            let help =
                if item.is_some() { "write what its schema asks for" } else { "add payload = { … }" };
            complaints.iter().for_each(|complaint| say(complaint, "does not take this payload", help));
        }
        Rejection::Argument(complaints) => {
            for complaint in complaints {
                // Only what stands in the body has a place in it.
                let help = if complaint.pointer.is_empty() {
                    "a schedule has neither query nor headers; a default is written {{query.x:-fast}}"
                } else {
                    "write what its command and labels need"
                };
                say(complaint, "cannot be run like that", help);
            }
        }
        Rejection::TooLarge(large) => {
            let message = format!("[task.{}] cannot be run like that: {large}", task.name);
            section.report.error(&span(""), message, "write less, or payload = \"stdin\" in the task");
        }
    }
}

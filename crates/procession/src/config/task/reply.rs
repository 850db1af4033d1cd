//! `reply`: the shape of a route's answer, and what in it contradicts itself.

use std::time::Duration;

use procession_core::state::JobState;
use procession_core::task::{Reply, ReplyFormat};

use super::super::keys::REPLY;
use super::super::reply_text::{REPLY_FACTS, ReplyText};
use super::super::section::{Entry, Section};

/// A reply as far as it could be read.
pub(super) struct ReadReply {
    pub(super) reply: Reply,
    /// `wait` is there, though perhaps malformed.
    pub(super) has_wait: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Job,
    Envelope,
    Text,
    Stdout,
}

/// Reads `reply` of `task`; without one it is the default.
pub(super) fn read(task: &Section<'_>) -> ReadReply {
    let mut read = ReadReply { reply: Reply::default(), has_wait: false };
    let example = "write reply = { format = \"envelope\" }";
    let at = task.span_of("reply");
    let Some(section) = task.item("reply").and_then(|item| item.section(&REPLY, "reply", at, example)) else {
        return read;
    };
    let formats = [
        ("job", Format::Job),
        ("envelope", Format::Envelope),
        ("text", Format::Text),
        ("stdout", Format::Stdout),
    ];
    read.has_wait = section.has("wait");
    read.reply.wait = section.item("wait").and_then(|_| wait(&section));
    read.reply.always_200 = section.flag("always_200").unwrap_or(false);
    read.reply.status = statuses(&section, read.reply.always_200, read.has_wait);
    let format = section.choice("format", &formats);
    let template = section.has("template").then(|| template(&section, read.has_wait)).flatten();
    if section.has("template") && format.unwrap_or(Format::Job) != Format::Text {
        let help = "write format = \"text\", or remove the template";
        section.report.error(&section.span_of("template"), "only a text reply has a template", help);
    }
    match format {
        Some(Format::Text) if !section.has("template") => section.report.error(
            &section.span_of("format"),
            "a text reply has no template",
            "add one: template = \"Return code: {{exit_code}}\\n\"",
        ),
        Some(Format::Stdout) if !read.has_wait => section.report.error(
            &section.span_of("format"),
            "there is no output to answer with before the job is over",
            "add wait = \"30s\"",
        ),
        _ => {}
    }
    read.reply.format = match format.unwrap_or(Format::Job) {
        Format::Job => ReplyFormat::Job,
        Format::Envelope => ReplyFormat::Envelope,
        Format::Stdout => ReplyFormat::Stdout,
        Format::Text => ReplyFormat::Text { template: template.unwrap_or_default() },
    };
    read
}

fn wait(section: &Section<'_>) -> Option<Duration> {
    let wait = section.duration("wait")?;
    if wait.is_zero() {
        let help = "write a duration such as \"30s\", or remove it: the answer then comes at once";
        section.report.error(&section.span_of("wait"), "`wait` is zero", help);
        return None;
    }
    Some(wait)
}

fn template(section: &Section<'_>, waits: bool) -> Option<String> {
    let text = section.text("template")?;
    let parsed = match ReplyText::parse(text.text) {
        Ok(parsed) => parsed,
        Err(bad) => {
            let names: Vec<&str> = REPLY_FACTS.iter().map(|(name, _)| *name).collect();
            let help = format!("there are {}", names.join(", "));
            section.report.error(&text.span_within(bad.at, bad.length), bad.problem, help);
            return None;
        }
    };
    let early = |name: &&str| !matches!(*name, "job.id" | "state");
    if let Some(name) = parsed.names().find(early).filter(|_| !waits) {
        text.error(
            format!("`{{{{{name}}}}}` is not known before the job is over"),
            "add wait = \"30s\" to the reply",
        );
    }
    Some(text.text.to_owned())
}

/// `status = { failed = 500 }`, in the order of core's states.
fn statuses(section: &Section<'_>, always_200: bool, waits: bool) -> Vec<(JobState, u16)> {
    if !section.has("status") {
        return Vec::new();
    }
    let entries = section.entries("status", "{ failed = 500, timed_out = 504 }").unwrap_or_default();
    let (message, help) = if always_200 {
        ("`status` contradicts always_200 = true", "remove one of the two")
    } else if !waits {
        ("`status` has no effect: the answer goes out before the job is over", "add wait = \"30s\"")
    } else {
        ("", "")
    };
    if !message.is_empty() {
        section.report.error(&section.span_of("status"), message, help);
    }
    let mut statuses: Vec<(JobState, u16)> = entries.iter().filter_map(status).collect();
    statuses.sort_unstable();
    statuses
}

fn status(entry: &Entry<'_>) -> Option<(JobState, u16)> {
    const STATES: [(&str, JobState); 4] = [
        ("failed", JobState::Failed),
        ("timed_out", JobState::TimedOut),
        ("cancelled", JobState::Cancelled),
        ("lost", JobState::Lost),
    ];
    let state = entry.key.choice(&STATES);
    let status = entry.value.count(200..=599).and_then(|status| u16::try_from(status).ok());
    if let Some(without_body @ (204 | 205 | 304)) = status {
        let message = format!("an answer with status {without_body} has no body");
        entry.key.report.error(&entry.value.span, message, "choose another status: 500");
    }
    Some((state?, status?))
}

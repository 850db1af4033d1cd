//! What a request of a task may carry and where its body goes, and which templates that
//! leaves something to fill with.

use procession_core::placeholder::Source;
use procession_core::task::{Body, Channel, Task};

use super::super::load::Surroundings;
use super::super::section::{Section, Text};
use super::slot::{Slot, is_payload};

pub(super) fn read(section: &Section<'_>, around: &Surroundings<'_>, task: &mut Task) {
    if let Some(body) = section.choice("body", &[("json", Body::Json), ("bytes", Body::Bytes)]) {
        task.input.body = body;
    }
    let channels = [
        ("stdin", Channel::Stdin),
        ("file", Channel::File),
        ("argv", Channel::Argv),
        ("env", Channel::Env),
        ("none", Channel::None),
    ];
    if let Some(channel) = section.choice("payload", &channels) {
        task.input.channel = channel;
    }
    if let Some(types) = section.texts("content_types", "[\"image/jpeg\"]") {
        task.input.content_types = types.iter().filter_map(content_type).collect();
    }
    if let Some(max_body) = section.size("max_body") {
        task.input.max_body = max_body;
        if max_body == 0 {
            let help = "write a size such as \"1MiB\"; payload = \"none\" ignores bodies";
            section.report.error(&section.span_of("max_body"), "`max_body` is zero", help);
        }
    }
    if let Some(text) = section.text("schema") {
        task.input.schema = around.schemas.load(&text, around.folder);
        if task.input.body == Body::Bytes {
            text.error(
                "a schema describes JSON, and body = \"bytes\" is any kind of bytes",
                "remove `schema`, or write body = \"json\"",
            );
        }
    }
    if task.input.body == Body::Bytes && matches!(task.input.channel, Channel::Argv | Channel::Env) {
        let word = if task.input.channel == Channel::Argv { "argv" } else { "env" };
        section.report.error(
            &section.span_of("payload"),
            format!("bytes of any kind cannot go by payload = \"{word}\""),
            "write payload = \"stdin\" or \"file\"",
        );
    }
}

/// `type/subtype` or `type/*`, lower-case.
fn content_type(text: &Text<'_>) -> Option<String> {
    let token = |part: &str| {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&c);
        !part.is_empty() && part.bytes().all(fits)
    };
    let fits = text
        .text
        .split_once('/')
        .is_some_and(|(kind, subtype)| token(kind) && (subtype == "*" || token(subtype)));
    if !fits {
        text.error(
            format!("\"{}\" is no content type", text.text.escape_debug()),
            "write the type alone, without parameters: \"image/jpeg\" or \"image/*\"",
        );
    }
    fits.then(|| text.text.to_ascii_lowercase())
}

/// Whether the body can fill what `all` templates ask of it, and whether somebody should
/// know that it shows.
pub(super) fn check_templates<'t, 'a: 't>(
    section: &Section<'a>,
    task: &Task,
    command: &[Slot<'a>],
    all: impl Iterator<Item = &'t Slot<'a>>,
) {
    if task.input.body == Body::Bytes {
        for slot in all {
            if let Some(span) = slot.find(is_payload) {
                section.report.error(
                    &span,
                    "body = \"bytes\" is no JSON: nothing in it can fill a placeholder",
                    "use {{payload_file}}, the body as a file, or write body = \"json\"",
                );
            }
        }
        return;
    }
    let whole =
        |slot: &Slot<'a>| slot.find(|hole| matches!(&hole.from, Source::Payload(path) if path.is_empty()));
    let shown = command.iter().find_map(whole);
    if let Some(span) = shown {
        section.report.warning(
            &span,
            "a payload in the arguments is visible in `ps` to every user of this machine",
            "if the program can read it from standard input, write payload = \"stdin\" instead",
        );
    } else if task.input.channel == Channel::Argv
        && !command.iter().any(|slot| slot.find(is_payload).is_some())
    {
        section.report.warning(
            &section.span_of("payload"),
            "payload = \"argv\", but no argument holds any of it: the program never sees the body",
            "put \"{{payload}}\" in `command`, or write payload = \"stdin\"",
        );
    }
}

//! The command and the directory it runs in: `argv` as a list, never a shell's string,
//! and nothing in it that would let a client choose what runs.

use std::path::{Path, PathBuf};

use procession_core::placeholder::Template;
use procession_core::task::{Channel, Task};

use super::super::load::Surroundings;
use super::super::program::{Missing, look_for};
use super::super::section::{ELEMENT, Item, Section, Text};
use super::script::{self, Exposed};
use super::slot::{Slot, is_clients};

const EXAMPLE: &str = "[\"python3\", \"process.py\"]";

/// The working directory: none where the config's folder is it, by default or by mistake.
pub(super) fn directory(section: &Section<'_>, around: &Surroundings<'_>) -> Option<PathBuf> {
    let text = section.text("directory")?;
    let path = text.path(around.folder)?;
    if !path.is_dir() {
        let message = format!("{} is not a directory", path.display());
        section.report.warning(&text.span, message, "jobs fail with `spawn_failed` until it is there");
    }
    Some(path)
}

/// The arguments; `task` tells how the body comes and whether options may.
pub(super) fn read<'a>(
    section: &Section<'a>,
    task: &Task,
    directory: Option<&Path>,
    around: &Surroundings<'_>,
) -> Vec<Slot<'a>> {
    let Some(item) = section.item("command") else {
        let message = format!("task `{}` has no `command`", task.name);
        section.report.error(&section.span, message, format!("say what to run: command = {EXAMPLE}"));
        return Vec::new();
    };
    of(&item, section, task, directory, around)
}

/// The arguments in `item`, a key of `section`: a command, or a join.
pub(super) fn of<'a>(
    item: &Item<'a>,
    section: &Section<'_>,
    task: &Task,
    directory: Option<&Path>,
    around: &Surroundings<'_>,
) -> Vec<Slot<'a>> {
    let Some(items) = item.items(&split_example(item)) else { return Vec::new() };
    let texts: Vec<Text<'a>> = items.iter().filter_map(|item| item.text(ELEMENT)).collect();
    let slots: Vec<Slot<'a>> = texts.iter().cloned().filter_map(Slot::parse).collect();
    if items.is_empty() {
        let message = format!("`{}` is empty", item.name);
        section.report.error(&item.span, message, format!("say what to run: {EXAMPLE}"));
    }
    // With an element missing the others stand at the wrong places.
    if slots.len() < items.len() {
        return slots;
    }
    if let Some(program) = slots.first() {
        check_program(program, directory.unwrap_or(around.folder), around);
        check_scripts(&slots, task);
    }
    slots
}

/// A command written as one string is shown as the list it probably means.
fn split_example(item: &Item<'_>) -> String {
    match item.as_str() {
        Some(text) if !text.trim().is_empty() => {
            let words: Vec<String> =
                text.split_whitespace().map(|word| format!("\"{}\"", word.escape_default())).collect();
            format!("[{}], one element for each argument", words.join(", "))
        }
        _ => EXAMPLE.into(),
    }
}

fn check_program(program: &Slot<'_>, directory: &Path, around: &Surroundings<'_>) {
    let text = &program.text;
    if text.text.is_empty() {
        return text.error("the program's name is empty", format!("say what to run: {EXAMPLE}"));
    }
    if let Some(span) = program.find(script::is_outside) {
        return text.report.error(
            &span,
            "a client would choose the program",
            "name the program here; what a client may choose is the task",
        );
    }
    if program.template.holes().next().is_some() {
        return;
    }
    if let Err(missing) = look_for(text.text, directory, &around.options.search_path) {
        let help = match missing {
            Missing::NotInPath(_) => "install it, or name it by its path, full or relative to `directory`",
            Missing::NoFile(_) => "a path with a slash is relative to `directory`",
            Missing::NotExecutable(_) => "make it executable with `chmod +x`, or name its interpreter first",
        };
        let message = format!("{missing}: jobs will fail with `spawn_failed`");
        text.report.warning(&text.span, message, help);
    }
}

fn check_scripts(slots: &[Slot<'_>], task: &Task) {
    let argv: Vec<&Template> = slots.iter().map(|slot| &slot.template).collect();
    let Some(exposed) = script::exposed(&argv, task.allow_leading_dash) else { return };
    let Some(slot) = slots.get(exposed.element()) else { return };
    let name = "placeholder_in_script";
    let span = slot.find(script::is_outside).unwrap_or(slot.text.span.clone());
    let report = slot.text.report;
    match &exposed {
        // The program itself was looked at before.
        Exposed::Program(0) => {}
        Exposed::Program(_) => report.error(
            &span,
            "a client would choose the program",
            "name the program here; what a client may choose is the task",
        ),
        Exposed::Variable { name, .. } => report.error(
            &span,
            format!("a client would decide what `{name}` makes programs load"),
            "write its value here, or give the client's value a variable of another name",
        ),
        Exposed::Script { interpreter, .. } => report.error_named(
            name,
            &span,
            format!("a client's text would become part of a script that `{interpreter}` runs"),
            remedy(interpreter, slot),
        ),
        Exposed::File { interpreter, .. } => report.error_named(
            name,
            &span,
            format!("a client would choose what `{interpreter}` runs"),
            "name the script here and pass the client's value as an argument after it",
        ),
        Exposed::Option { interpreter, .. } => report.error_named(
            name,
            &span,
            format!("a client's text could become an option of `{interpreter}`, and options can run code"),
            if slot.text.text.starts_with("{{") && task.allow_leading_dash {
                "write \"--\" before it, or remove allow_leading_dash"
            } else {
                "put the client's value behind the script, as its argument"
            },
        ),
        Exposed::Stdin { interpreter, .. } if task.input.channel == Channel::Stdin => report.error_named(
            name,
            &slot.text.span,
            format!("`{interpreter}` without a script would run the request's body as a program"),
            format!("name a script: [\"{interpreter}\", \"script\"]"),
        ),
        Exposed::Stdin { .. } => {}
    }
}

/// The same command with the client's value as an argument of the script.
fn remedy(interpreter: &str, slot: &Slot<'_>) -> String {
    let hole = slot.find(is_clients).and_then(|span| slot.text.report.source.text.get(span));
    let hole = hole.filter(|text| text.starts_with("{{") && text.ends_with("}}")).unwrap_or("{{payload.n}}");
    let script = match script::family(interpreter) {
        Some("python") => "\"-c\", \"import sys; sys.exit(int(sys.argv[1]))\"",
        Some("perl") => "\"-e\", \"exit $ARGV[0]\", \"--\"",
        Some("ruby") => "\"-e\", \"exit ARGV[0].to_i\", \"--\"",
        Some("node") => "\"-e\", \"process.exit(Number(process.argv[1]))\", \"--\"",
        _ => "\"-c\", \"exit \\\"$1\\\"\", \"sh\"",
    };
    format!("pass it as an argument: [\"{interpreter}\", {script}, \"{hole}\"]")
}

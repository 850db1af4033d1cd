//! The child's environment: what a task sets, what it takes over from the server, and the
//! secrets it gets as files. It starts empty; every name in it is decided here.

use std::collections::BTreeMap;

use procession_core::task::Task;

use super::super::keys::SECRET;
use super::super::load::Surroundings;
use super::super::section::{Entry, Section, Text};
use super::slot::{Slot, is_clients};

/// Variables that make programs load or run other code: a task may set them, a client's
/// value may not be in them.
const LOADS_CODE: [&str; 20] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5OPT",
    "PERL5LIB",
    "PERL5DB",
    "RUBYOPT",
    "RUBYLIB",
    "GCONV_PATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "HOME",
];
const LOADS_CODE_PREFIXES: [&str; 4] = ["LD_", "GIT_", "PYTHON", "BASH_FUNC_"];

/// The variables set; fills in `env_inherit` and `secrets`.
pub(super) fn read<'a>(
    section: &Section<'a>,
    around: &Surroundings<'_>,
    task: &mut Task,
) -> BTreeMap<String, Slot<'a>> {
    task.secrets = secrets(section, around);
    if let Some(patterns) = section.texts("env_inherit", "[\"CUDA_*\"]") {
        task.env_inherit =
            patterns.iter().filter(|text| pattern_fits(text)).map(|text| text.text.into()).collect();
    }
    let mut env = BTreeMap::new();
    for entry in section.entries("env", "{ MODEL = \"v2\" }").unwrap_or_default() {
        let name = &entry.key;
        let free = name_fits(name) && !taken_by_secret(name, task);
        if let Some(slot) = entry.value.text("a string").and_then(Slot::parse) {
            check_value(name, &slot);
            if free {
                env.insert(name.text.to_owned(), slot);
            }
        }
    }
    env
}

/// Whether the value of the variable `name` makes programs load or run other code.
pub(super) fn loads_code(name: &str) -> bool {
    LOADS_CODE.contains(&name) || LOADS_CODE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn check_value(name: &Text<'_>, slot: &Slot<'_>) {
    if let Some(span) = slot.find(is_clients).filter(|_| loads_code(name.text)) {
        name.report.error(
            &span,
            format!("a client would decide what `{}` makes programs load", name.text),
            "write its value here, or give the client's value a variable of another name",
        );
    }
}

/// A name any shell and program takes, and that is not Procession's own.
fn name_fits(name: &Text<'_>) -> bool {
    let text = name.text;
    if !is_variable(text) {
        let message = format!("\"{}\" cannot name a variable", text.escape_debug());
        name.error(message, "a variable's name is letters, digits and _, and does not begin with a digit");
        return false;
    }
    if text.starts_with("PROCESSION_") || text == "TRACEPARENT" {
        name.error(format!("`{text}` is set by Procession"), "choose another name");
        return false;
    }
    true
}

fn is_variable(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain) && !text.as_bytes()[0].is_ascii_digit()
}

fn taken_by_secret(name: &Text<'_>, task: &Task) -> bool {
    let secret = name.text.strip_suffix("_FILE").filter(|secret| task.secrets.contains_key(*secret));
    if let Some(secret) = secret {
        let message = format!("`{}` is the variable of the secret `{secret}`", name.text);
        name.error(message, "rename one of the two");
    }
    secret.is_some()
}

/// A name, or the beginning of one and `*`.
fn pattern_fits(text: &Text<'_>) -> bool {
    let name = text.text.strip_suffix('*').unwrap_or(text.text);
    if name.is_empty() || !is_variable(name) {
        text.error(
            format!("\"{}\" is no variable's name", text.text.escape_debug()),
            "write whole names or their beginnings: [\"HTTPS_PROXY\", \"CUDA_*\"]",
        );
        return false;
    }
    if name.starts_with("PROCESSION_") {
        text.error("what is Procession's own never reaches a job", "remove it");
        return false;
    }
    true
}

fn secrets(section: &Section<'_>, around: &Surroundings<'_>) -> BTreeMap<String, std::path::PathBuf> {
    const EXAMPLE: &str = "{ DB = { file = \"db.secret\" } }";
    let mut secrets = BTreeMap::new();
    for entry in section.entries("secrets", EXAMPLE).unwrap_or_default() {
        let fits = name_fits(&entry.key);
        if let Some(path) = secret_file(&entry, around).filter(|_| fits) {
            secrets.insert(entry.key.text.to_owned(), path);
        }
    }
    secrets
}

fn secret_file(entry: &Entry<'_>, around: &Surroundings<'_>) -> Option<std::path::PathBuf> {
    let name = &entry.value.name;
    let span = entry.key.span.clone();
    let section = entry.value.section(
        &SECRET,
        name,
        span,
        &format!("write {} = {{ file = \"db.secret\" }}", entry.key.text),
    )?;
    let Some(text) = section.text("file") else {
        if !section.has("file") {
            let help = format!("name its file: {} = {{ file = \"db.secret\" }}", entry.key.text);
            section.report.error(&section.span, format!("`{name}` has no `file`"), help);
        }
        return None;
    };
    let path = text.path(around.folder)?;
    if !path.is_file() {
        let message = format!("there is no file {}", path.display());
        section.report.warning(
            &text.span,
            message,
            "jobs fail until it is there; the path is relative to the config's folder",
        );
    }
    Some(path)
}

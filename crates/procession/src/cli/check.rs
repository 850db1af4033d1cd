//! `check`: everything that is wrong with the config, without starting anything.
//!
//! Complaints go to stderr, the verdict to stdout. It reads what `serve` reads, the same way.

use clap::Args;
use serde_json::{Value, json};

use super::Global;
use super::exit::Exit;
use super::screen::Screen;
use crate::config::{self, Diagnostic, LoadOptions, Severity};

/// `procession check`.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 if the config cannot be used; warnings alone are 0.")]
pub struct CheckArgs {
    /// As for `serve --insecure`.
    #[arg(long)]
    insecure: bool,
}

/// Checks it.
pub(super) fn run(args: &CheckArgs, global: &Global, screen: &Screen) -> anyhow::Result<Exit> {
    let file = global.config_file()?;
    let options = LoadOptions { insecure: args.insecure, ..LoadOptions::default() };
    let (tasks, found) = match config::load(&file, &options) {
        Ok(config) => (Some(config.tasks.len()), config.warnings),
        Err(diagnostics) => (None, diagnostics.into_iter().collect()),
    };
    if screen.is_json() {
        let items: Vec<Value> = found.iter().map(as_json).collect();
        screen.line(&json!({ "ok": tasks.is_some(), "items": items }).to_string())?;
    } else {
        found.iter().for_each(|diagnostic| screen.say(&format!("{diagnostic}\n")));
        screen.line(&format!("{}: {}", file.display(), verdict(tasks, &found)))?;
    }
    Ok(if tasks.is_some() { Exit::OK } else { Exit::REFUSED })
}

fn verdict(tasks: Option<usize>, found: &[Diagnostic]) -> String {
    let errors = found.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let what =
        tasks.map_or_else(|| counted(errors, "error"), |tasks| format!("ok, {}", counted(tasks, "task")));
    match found.len() - errors {
        0 => what,
        warnings => format!("{what}, {}", counted(warnings, "warning")),
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn as_json(diagnostic: &Diagnostic) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning | Severity::Advice => "warning",
    };
    let place = diagnostic.place.as_ref().map(|place| {
        json!({ "file": place.file, "line": place.line, "column": place.column, "length": place.length })
    });
    json!({
        "severity": severity, "code": diagnostic.code, "message": diagnostic.message,
        "place": place, "help": diagnostic.help,
    })
}

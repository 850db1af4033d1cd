//! `doctor`: what is wrong with the data directory, and saving what is left of a damaged
//! database. Findings go to stdout: they are the answer.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use super::paint::Style;
use super::screen::Screen;
use super::{Global, own_data};
use crate::data::DataDir;
use crate::doctor::{Finding, Repaired, Saved, examine, repair};

/// `procession doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if all is well, 1 if there is a finding. Looking is safe while a server runs."
)]
pub struct DoctorArgs {
    /// Save what can be read of the database into this new file; no server may run.
    #[arg(long, value_name = "FILE")]
    repair: Option<PathBuf>,
}

/// Looks, or saves.
pub(super) fn run(args: &DoctorArgs, global: &Global, screen: &Screen) -> anyhow::Result<Exit> {
    let data = own_data::find(global)?;
    match &args.repair {
        None => {
            let found = examine(&data)?;
            tell(&found, data.root(), screen)?;
            Ok(if found.is_empty() { Exit::OK } else { Exit::REFUSED })
        }
        Some(file) => {
            let repaired = repair(&data, file)?;
            tell_of_repair(&repaired, file, &data, screen)?;
            Ok(Exit::OK)
        }
    }
}

fn tell(found: &[Finding], root: &Path, screen: &Screen) -> anyhow::Result<()> {
    if screen.is_json() {
        screen.line(&json!({ "ok": found.is_empty(), "findings": found }).to_string())?;
        return Ok(());
    }
    for Finding { code, message, remedy } in found {
        screen.line(&format!("{}: {message}", screen.paint(Style::Bad, code)))?;
        screen.line(&format!("    {remedy}"))?;
    }
    let verdict = match found.len() {
        0 => "healthy".into(),
        1 => "1 finding".into(),
        many => format!("{many} findings"),
    };
    screen.line(&format!("{}: {verdict}", root.display()))?;
    Ok(())
}

fn tell_of_repair(repaired: &Repaired, file: &Path, data: &DataDir, screen: &Screen) -> anyhow::Result<()> {
    let salvage = &repaired.salvage;
    if let Some(error) = &repaired.left_to_root {
        let (file, owner) = (file.display(), data.root().display());
        screen.say(&format!("it belongs to root ({error}): chown --reference={owner} {file}"));
    }
    if screen.is_json() {
        let tables: Vec<Value> = salvage.tables.iter().map(as_json).collect();
        screen.line(
            &json!({
                "file": file, "tables": tables, "ended_by_attempt": salvage.ended_by_attempt,
                "lost": salvage.lost, "dropped": salvage.dropped,
            })
            .to_string(),
        )?;
        return Ok(());
    }
    for table in salvage.tables.iter().filter(|table| table.rows > 0 || is_hurt(table)) {
        screen.line(&in_words(table))?;
    }
    for (count, what) in [
        (salvage.ended_by_attempt, "jobs have their end, without result and artifacts"),
        (salvage.lost, "jobs are lost: nothing says what became of them (`procession retry` runs one again)"),
        (salvage.dropped, "jobs were left out: their rows made no job"),
    ] {
        if count > 0 {
            screen.line(&format!("{count} {what}"))?;
        }
    }
    if salvage.tables.iter().any(|table| table.table == "job" && is_hurt(table)) || salvage.dropped > 0 {
        let jobs = data.jobs();
        screen.line(&format!(
            "files of jobs that could not be saved are removed by the next server: copy {} first to keep them",
            jobs.display()
        ))?;
    }
    let (old, new) = (data.database(), file.display());
    let old = old.display();
    screen.line(&format!("saved into {new}. To use it: move {old}, {old}-wal and {old}-shm away, then"))?;
    screen.line(&format!("    mv {new} {old}"))?;
    Ok(())
}

fn is_hurt(table: &Saved) -> bool {
    table.refused > 0 || table.unreadable > 0 || table.open_end
}

fn in_words(table: &Saved) -> String {
    let mut text = format!("{}: {} rows saved", table.table, table.rows);
    if table.unreadable > 0 {
        text += &format!(", at most {} unreadable", table.unreadable);
    }
    if table.open_end {
        text += ", more unreadable, how many cannot be told";
    }
    if table.refused > 0 {
        text += &format!(", {} left out: no such row can be", table.refused);
    }
    text
}

fn as_json(table: &Saved) -> Value {
    json!({
        "table": table.table, "rows": table.rows, "refused": table.refused,
        "unreadable_at_most": table.unreadable, "open_end": table.open_end,
    })
}

//! From the bytes of `procession.toml` to a [`Config`], or to all complaints about it at
//! once. Reads the file, the schemas it names, and whether programs and secrets are there;
//! changes nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procession_core::id::TaskName;
use procession_core::schedule::{Schedule, ScheduleName};
use procession_core::target::HostPattern;
use procession_core::task::Task;
use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Diagnostics, Severity, Source, Span};
use super::keys::{self, Keys};
use super::limits::Limits;
use super::log::Logging;
use super::report::Report;
use super::retention::Retention;
use super::schedule;
use super::schema::{SchemaFiles, read_bounded};
use super::section::Section;
use super::server::Server;
use super::snapshot::Snapshot;
use super::syntax;
use super::task;
use crate::data::DataDir;

/// A whole config, resolved: every default filled in, every path absolute.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from, absolute.
    pub path: PathBuf,
    /// The folder of that file: what paths in it are relative to.
    pub folder: PathBuf,
    /// The first 12 hex digits of the SHA-256 of the file and the schemas it names.
    pub revision: String,
    /// `[server]`
    pub server: Server,
    /// `[limits]`
    pub limits: Limits,
    /// `[retention]`
    pub retention: Retention,
    /// `[log]`
    pub log: Logging,
    /// `[task.NAME]`, by name.
    pub tasks: BTreeMap<TaskName, Arc<Task>>,
    /// `[schedule.NAME]`, by name.
    pub schedules: BTreeMap<ScheduleName, Arc<Schedule>>,
    /// The texts it was made of.
    pub snapshot: Snapshot,
    /// What to tell the user although the config can be used.
    pub warnings: Vec<Diagnostic>,
}

/// What a config means depends on these facts outside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// `--insecure`: listeners may be reached from other machines without TLS.
    pub insecure: bool,
    /// The server's `PATH`, where programs are looked for.
    pub search_path: OsString,
    /// The machine's cores, for the default of `max_running`.
    pub cores: u64,
}

impl Default for LoadOptions {
    /// This process and machine, securely.
    fn default() -> Self {
        Self {
            insecure: false,
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        }
    }
}

/// What the readers of tasks share.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) folder: &'a Path,
    pub(super) options: &'a LoadOptions,
    pub(super) schemas: SchemaFiles,
    /// `[server] callback_hosts`
    pub(super) callback_hosts: Vec<HostPattern>,
}

/// Reads the config at `path`.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Config, Diagnostics> {
    let shown = path.display().to_string();
    let fatal = |message: String, help: &str| {
        Diagnostics(vec![Diagnostic {
            severity: Severity::Error,
            code: None,
            message,
            place: None,
            help: help.into(),
        }])
    };
    let bytes = read_bounded(path).map_err(|error| {
        let help = "name a readable file with --config, or write one with `procession init`";
        fatal(format!("cannot read {shown}: {error}"), help)
    })?;
    let path = std::path::absolute(path).map_err(|error| {
        fatal(format!("cannot resolve {shown}: {error}"), "name the file by its full path")
    })?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(Diagnostics(vec![not_text(shown, &error)])),
    };
    parse(Source { name: shown, text }, path, options, SchemaFiles::default())
}

/// Reads again a config that took effect before, whatever became of its files.
pub fn restore(snapshot: Snapshot, options: &LoadOptions) -> Result<Config, Diagnostics> {
    let Snapshot { path, text, schemas } = snapshot;
    let source = Source { name: path.display().to_string(), text };
    parse(source, path, options, SchemaFiles::kept(schemas))
}

fn not_text(name: String, error: &std::string::FromUtf8Error) -> Diagnostic {
    let at = error.utf8_error().valid_up_to();
    let source = Source { name, text: String::from_utf8_lossy(error.as_bytes()).into_owned() };
    Diagnostic {
        severity: Severity::Error,
        code: None,
        message: "the file is not UTF-8 text".into(),
        place: Some(source.place(&(at..at + 1))),
        help: "save it with the encoding UTF-8".into(),
    }
}

/// Reads `source`, the text of the file at the absolute `path`.
pub(super) fn parse(
    source: Source,
    path: PathBuf,
    options: &LoadOptions,
    schemas: SchemaFiles,
) -> Result<Config, Diagnostics> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let report = Report::new(source);
    let Ok(document) = DeTable::parse(&report.source.text) else {
        for mistake in syntax::mistakes(&report.source.text) {
            report.error(&mistake.span, mistake.message, mistake.help);
        }
        return Err(Diagnostics(report.finish()));
    };
    let top = Section::open(&report, &keys::TOP, "the config".into(), 0..0, document.get_ref());
    let section = |key: &'static str, keys: &'static Keys| {
        let at = span_of_key(document.get_ref(), key);
        top.item(key)?.section(keys, keys.section, at, &format!("write {} above the keys", keys.section))
    };
    let server = Server::read(section("server", &keys::SERVER).as_ref(), &folder, options.insecure);
    let limits = Limits::read(section("limits", &keys::LIMITS).as_ref(), options.cores);
    let retention = Retention::read(section("retention", &keys::RETENTION).as_ref());
    let log = Logging::read(section("log", &keys::LOG).as_ref());
    let callback_hosts = server.callback_hosts.clone();
    let around = Surroundings { folder: &folder, options, schemas, callback_hosts };
    let tasks = read_tasks(&top, &around);
    let job_folder = DataDir::existing(&server.data_dir).jobs().to_string_lossy().into_owned();
    let schedules = schedule::read_all(&top, &schedule::Known { tasks: &tasks, job_folder });
    let text = report.source.text.clone();
    let snapshot = Snapshot { path: path.clone(), text, schemas: around.schemas.into_texts() };
    let revision = revision(&snapshot);
    let found = Diagnostics(report.finish());
    if found.errors() > 0 {
        return Err(found);
    }
    let warnings = found.into_iter().collect();
    Ok(Config {
        path,
        folder,
        revision,
        server,
        limits,
        retention,
        log,
        tasks,
        schedules,
        snapshot,
        warnings,
    })
}

fn span_of_key(table: &DeTable<'_>, key: &str) -> Span {
    table.get_key_value(key).map_or(0..0, |(key, _)| key.span())
}

fn read_tasks(top: &Section<'_>, around: &Surroundings<'_>) -> BTreeMap<TaskName, Arc<Task>> {
    let mut tasks = BTreeMap::new();
    let Some(item) = top.item("task") else { return tasks };
    let mut across = task::Across::default();
    for entry in item.entries("write [task.NAME] above the keys of a task").unwrap_or_default() {
        let title = format!("[task.{}]", entry.key.text);
        let name = match entry.key.text.parse::<TaskName>() {
            Ok(name) => Some(name),
            Err(bad) => {
                let message = format!("\"{}\" cannot name a task", entry.key.text.escape_debug());
                entry.key.error(message, bad.to_string());
                None
            }
        };
        let Some(section) = entry.value.section(
            &keys::TASK,
            &title,
            entry.key.span,
            "write [task.NAME] above the keys of a task",
        ) else {
            continue;
        };
        // A task with a bad name is read all the same: its other complaints come now.
        let stand_in = || "unnamed".parse().ok();
        let Some(known_as) = name.clone().or_else(stand_in) else { continue };
        let task = task::read(&section, known_as, around, &mut across);
        if let Some(name) = name {
            tasks.insert(name, Arc::new(task));
        }
    }
    across.check(&tasks, top.report);
    tasks
}

/// Changes whenever what tasks mean may have changed.
fn revision(snapshot: &Snapshot) -> String {
    let mut hash = Sha256::new();
    hash.update(&snapshot.text);
    for schema in snapshot.schemas.values() {
        // Each on its own first: a byte moved from one file to the other is a change.
        hash.update(Sha256::digest(schema));
    }
    hash.finalize().iter().take(6).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Default for Config {
    /// What an empty file in the current directory means.
    fn default() -> Self {
        Self {
            path: PathBuf::from("procession.toml"),
            folder: PathBuf::from("."),
            revision: revision(&Snapshot::default()),
            server: Server::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            log: Logging::default(),
            tasks: BTreeMap::new(),
            schedules: BTreeMap::new(),
            snapshot: Snapshot::default(),
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// A config in `folder` with `tasks`, on a port of the kernel's choice.
    #[cfg(test)]
    pub fn for_testing(folder: &Path, tasks: Vec<Task>) -> Self {
        Self {
            path: folder.join("procession.toml"),
            folder: folder.into(),
            server: Server::for_testing(&folder.join("procession-data")),
            limits: Limits::for_testing(),
            retention: Retention::for_testing(),
            tasks: tasks.into_iter().map(|task| (task.name.clone(), Arc::new(task))).collect(),
            ..Self::default()
        }
    }
}

//! Looks at a data directory and says what is wrong with it, each time with what to do; saves
//! what is left of a damaged database into a new file. Changes nothing that is there. Looking
//! is safe while a server runs; saving is refused then. Called by `cli/doctor`.

mod files;

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use procession_keeper::inspect_journal;
use procession_store::sqlite::{Exam, Fault, check_place, salvage};
pub use procession_store::sqlite::{Salvage, Saved};
use serde::Serialize;

use crate::data::DataDir;
use crate::owner::give_to_owner_of;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name that stays the same.
    pub code: &'static str,
    /// What is wrong, and where.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn new(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into() }
    }
}

/// Everything that is wrong with `data`.
///
/// # Errors
/// There is no such folder.
pub fn examine(data: &DataDir) -> anyhow::Result<Vec<Finding>> {
    let root = data.root();
    let meta = match fs::metadata(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_made(root)),
        meta => meta.with_context(|| format!("the data directory {}", root.display()))?,
    };
    if !meta.is_dir() {
        bail!("{} is no folder", root.display());
    }
    let mut found = Vec::new();
    private(root, 0o700, "data_dir_permissions", &mut found);
    token(data, &mut found);
    if let Err(error) = check_place(root) {
        found.push(of_refusal("data_dir_unfit", &error.to_string()));
    }
    database(data, &mut found);
    journal(data, &mut found);
    Ok(found)
}

/// What a repair did.
#[derive(Debug)]
pub struct Repaired {
    /// What was saved and what was not.
    pub salvage: Salvage,
    /// Why root, who made the file, could not give it to the owner of the data directory.
    pub left_to_root: Option<io::Error>,
}

/// Saves what can be read of the database into a new file at `to`. What root makes belongs to
/// the owner of `data`.
///
/// # Errors
/// A server has the data directory, or nothing can be saved.
pub fn repair(data: &DataDir, to: &Path) -> anyhow::Result<Repaired> {
    if !data.root().exists() {
        return Err(not_made(data.root()));
    }
    let _lock = hold(data)?;
    let salvage = salvage(&data.database(), to)?;
    Ok(Repaired { salvage, left_to_root: give_to_owner_of(data.root(), to).err() })
}

fn not_made(root: &Path) -> anyhow::Error {
    anyhow!("there is no data directory {}; a server makes it at its first start", root.display())
}

/// Keeps servers away until it is dropped.
fn hold(data: &DataDir) -> anyhow::Result<Option<File>> {
    let mut file = match File::open(data.lock()) {
        Ok(file) => file,
        // No server was ever started here.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| data.lock().display().to_string()),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            let process = holder.lines().next().unwrap_or_default();
            bail!("the data directory is in use by process {process}: `procession stop` ends it")
        }
        Err(TryLockError::Error(error)) => Err(error).context("the data directory cannot be locked"),
    }
}

fn private(path: &Path, mode: u32, code: &'static str, found: &mut Vec<Finding>) {
    let shown = path.display();
    let open = fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o7777 & !mode);
    if open != 0 {
        let message = format!("{shown} is open to others (mode {:03o})", open | mode);
        found.push(Finding::new(code, message, format!("chmod {mode:03o} {shown}")));
    }
}

fn token(data: &DataDir, found: &mut Vec<Finding>) {
    let path = data.token();
    match fs::metadata(&path) {
        Ok(meta) if meta.len() == 0 => found.push(Finding::new(
            "token_empty",
            format!("{} is empty", path.display()),
            "remove it: the next start makes a new one",
        )),
        Ok(_) => private(&path, 0o600, "token_permissions", found),
        // The next start makes one; until then no server answers that would need it.
        Err(_) => {}
    }
}

fn database(data: &DataDir, found: &mut Vec<Finding>) {
    let path = data.database();
    if !path.exists() && !runs(data) && !data.jobs().exists() {
        found.push(Finding::new(
            "database_missing",
            format!("{} is not there: no server was ever started here", path.display()),
            "nothing, if that is so; else use a folder made by `procession backup` as data_dir",
        ));
        return;
    }
    let mut exam = match Exam::open(&path) {
        Ok(exam) => exam,
        Err(error) => {
            found.push(of_refusal("database_unusable", &error.to_string()));
            return;
        }
    };
    let faults = exam.faults();
    let damaged = faults.iter().any(|fault| matches!(fault, Fault::Damaged(_)));
    found.extend(faults.into_iter().map(of_fault));
    if !damaged && let Err(error) = files::examine(data, &mut exam, found) {
        found.push(Finding::new(
            "files_unread",
            format!("{error:#}"),
            "check the permissions of the folder `jobs`",
        ));
    }
}

/// The store says what is wrong, then what to do.
fn of_refusal(code: &'static str, text: &str) -> Finding {
    let (message, remedy) = text.split_once("; ").unwrap_or((text, REPAIR));
    Finding::new(code, message, remedy)
}

const REPAIR: &str = "stop the server, then `procession doctor --repair NEW-FILE` saves what is left; \
     or use a folder made by `procession backup` as data_dir";

fn of_fault(fault: Fault) -> Finding {
    match fault {
        Fault::Damaged(what) => Finding::new("database_damaged", what, REPAIR),
        Fault::Dangling { table, rows } => Finding::new(
            "rows_dangling",
            format!("{rows} rows of `{table}` name rows that are not there"),
            REPAIR,
        ),
        Fault::Row { job, what } => Finding::new("row_invalid", format!("job {job}: {what}"), REPAIR),
        Fault::More { count } => {
            Finding::new("row_invalid", format!("{count} more jobs like those before"), REPAIR)
        }
        Fault::Depth { task, said, counted } => Finding::new(
            "depth_wrong",
            format!(
                "task {task} is said to have {} queued, {} scheduled and {} unfinished jobs, and has {}, {} and {}",
                said.0, said.1, said.2, counted.0, counted.1, counted.2
            ),
            "restart the server: it counts anew at its start",
        ),
    }
}

fn journal(data: &DataDir, found: &mut Vec<Finding>) {
    let path = data.keeper().join("journal");
    let shown = path.display();
    match inspect_journal(&data.keeper()) {
        Ok(None) => {}
        Ok(Some(state)) if !state.is_journal => found.push(Finding::new(
            "journal_foreign",
            format!("{shown} is not a keeper's journal"),
            "nothing: the next start begins it anew; ends that only it knew are `lost`",
        )),
        // A keeper that is writing it just now is no fault, and one of another boot is not read.
        Ok(Some(state)) if state.torn > 0 && state.this_boot && !runs(data) => found.push(Finding::new(
            "journal_torn",
            format!("the last {} bytes of {shown} are no whole record", state.torn),
            "nothing: the next start cuts them off; an end that was only there is `lost`",
        )),
        Ok(Some(_)) => {}
        Err(error) => found.push(Finding::new(
            "journal_unreadable",
            format!("{shown}: {error}"),
            "make it readable for the user the server runs as, or remove it",
        )),
    }
}

/// Whether a keeper has the data directory. Asked without its lock: to take that, if only for
/// a moment, could keep a server from starting.
fn runs(data: &DataDir) -> bool {
    let pid = fs::read_to_string(data.pid()).ok().and_then(|text| text.trim().parse::<u32>().ok());
    pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
}

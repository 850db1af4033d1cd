//! The files of jobs against the rows that speak of them. A server may be writing both: what
//! looks wrong is asked about once more before it is said.

use std::path::PathBuf;

use procession_core::id::JobId;
use procession_store::sqlite::{Exam, FileKind, StoredFile};

use super::Finding;
use crate::backup::{open_file, paths};
use crate::data::DataDir;

/// How many are named.
const NAMED: usize = 3;

/// A file that is not as its row says.
struct Wrong {
    job: JobId,
    kind: Kind,
    path: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Payload,
    Output,
    Result,
    Artifact,
}

/// Adds what is wrong with files to `found`.
pub(super) fn examine(data: &DataDir, exam: &mut Exam, found: &mut Vec<Finding>) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    exam.files(&mut |file| wrong.extend(wrong_files(data, &file)))?;
    let mut stray = Vec::new();
    for job in data.settled_jobs()? {
        if !exam.knows(job)? {
            stray.push(job);
        }
    }
    // A job that was removed, or came, while this looked.
    exam.look_again()?;
    let mut still = Vec::new();
    for one in wrong {
        if exam.knows(one.job)? {
            still.push(one);
        }
    }
    let mut unknown = Vec::new();
    for job in stray {
        let path = data.job(job);
        if !exam.knows(job)? && path.exists() {
            unknown.push(path);
        }
    }
    for (kind, code, what, remedy) in [
        (
            Kind::Payload,
            "payload_missing",
            "bodies are not there, or not as long as they were",
            "jobs that wait will fail: restore these files from a backup, or cancel the jobs",
        ),
        (Kind::Output, "output_missing", "outputs are not there", FILES),
        (Kind::Result, "result_missing", "results are not there, or not as long as they were", FILES),
        (Kind::Artifact, "artifact_missing", "artifacts are not there", FILES),
    ] {
        let paths: Vec<PathBuf> =
            still.iter().filter(|wrong| wrong.kind == kind).map(|wrong| wrong.path.clone()).collect();
        tell(found, code, what, remedy, &paths);
    }
    tell(found, "files_without_job", "folders belong to no job", STRAY, &unknown);
    Ok(())
}

const FILES: &str =
    "restore these files from a backup made with --files, or remove the jobs (`procession rm`)";

const STRAY: &str = "nothing: no job needs them, and a server removes them within two hours";

fn tell(found: &mut Vec<Finding>, code: &'static str, what: &str, remedy: &str, paths: &[PathBuf]) {
    if paths.is_empty() {
        return;
    }
    let mut named: Vec<String> = paths.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    if paths.len() > NAMED {
        named.push("…".into());
    }
    found.push(Finding::new(code, format!("{} {what}: {}", paths.len(), named.join(", ")), remedy));
}

fn wrong_files(data: &DataDir, file: &StoredFile) -> Vec<Wrong> {
    let (kind, len) = match file.what {
        FileKind::Payload { len } => (Kind::Payload, Some(len)),
        FileKind::Output { .. } => (Kind::Output, None),
        FileKind::Result { len, .. } => (Kind::Result, Some(len)),
        FileKind::Artifacts { .. } => (Kind::Artifact, None),
    };
    let folder = data.job(file.job);
    let is_right = |path: &PathBuf| {
        let found = open_file(&folder, path).and_then(|file| file.metadata());
        found.is_ok_and(|found| len.is_none_or(|len| found.len() == len))
    };
    let wrong = paths(file).into_iter().filter(|path| !is_right(path));
    wrong.map(|path| Wrong { job: file.job, kind, path: folder.join(path) }).collect()
}

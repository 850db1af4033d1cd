//! What a finished program left in its scratch folder: result, artifacts, last progress.
//! The files are a stranger's: only regular ones with a single name count, links are never
//! followed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use procession_core::job::{Artifact, Progress, ResultSummary};
use procession_core::limits::INLINE_RESULT;
use procession_core::outcome::Outcome;
use procession_core::record::{OutputPlace, StreamRecord};
use procession_core::task::{ResultRule, ResultSource};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use super::scratch::Scratch;

/// The largest result that is kept.
const MAX_RESULT: u64 = 64 << 20;

/// The most artifacts listed of one attempt.
const MAX_ARTIFACTS: usize = 10_000;

/// How much of a progress file's end is read.
const PROGRESS_TAIL: u64 = 64 * 1024;

/// Where what is kept goes.
pub(super) struct Destination<'a> {
    /// The attempt's folder; made when something is kept.
    pub folder: &'a Path,
    /// Its stdout's file.
    pub stdout: &'a Path,
}

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Collected {
    pub result: ResultSummary,
    pub artifacts: Vec<Artifact>,
    pub progress: Option<Progress>,
    /// Why the result is no good.
    pub bad_result: Option<String>,
}

/// Moves result and artifacts to their place.
pub(super) fn collect(
    scratch: &Scratch,
    rule: &ResultRule,
    stdout: &StreamRecord,
    to: &Destination<'_>,
) -> io::Result<Collected> {
    let mut collected = Collected { progress: last_progress(&scratch.progress()), ..Collected::default() };
    let found = match rule.source {
        ResultSource::File => open_regular(&scratch.result())?,
        ResultSource::Stdout => match stdout.place {
            OutputPlace::File => open_regular(to.stdout)?,
            OutputPlace::Inline => {
                collected.result = inline(stdout.tail.clone());
                None
            }
        },
    };
    if let Some((file, len)) = found {
        match keep_result(file, len, to) {
            Ok(result) => collected.result = result,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                collected.bad_result = Some(format!("the result has {len} bytes, more than {MAX_RESULT}"));
            }
            Err(error) => return Err(error),
        }
    }
    collected.artifacts = keep_artifacts(scratch, to)?;
    if collected.bad_result.is_none() {
        collected.bad_result = complaint(rule, &collected.result, to);
    }
    Ok(collected)
}

/// The outcome once the result has been judged: only an exit with 0 can fail by it.
pub(super) fn judge(outcome: Outcome, rule: &ResultRule, collected: &Collected) -> Outcome {
    if outcome != (Outcome::Exited { code: 0 }) {
        return outcome;
    }
    match &collected.bad_result {
        Some(message) => Outcome::BadResult { message: message.clone() },
        None if rule.required && collected.result == ResultSummary::None => Outcome::ResultMissing,
        None => outcome,
    }
}

fn complaint(rule: &ResultRule, result: &ResultSummary, to: &Destination<'_>) -> Option<String> {
    let schema = rule.schema.as_ref()?;
    let bytes = match result {
        ResultSummary::None => return None,
        ResultSummary::Inline { bytes, .. } => bytes.clone(),
        ResultSummary::File { .. } => fs::read(to.folder.join("result")).ok()?.into(),
    };
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
        return Some("the result is not JSON".into());
    };
    let complaints = schema.complaints(&value);
    let first = complaints.first()?;
    let more =
        if complaints.len() > 1 { format!(" (and {} more)", complaints.len() - 1) } else { String::new() };
    Some(format!("{}: {}{more}", if first.pointer.is_empty() { "/" } else { &first.pointer }, first.detail))
}

fn keep_result(mut file: File, len: u64, to: &Destination<'_>) -> io::Result<ResultSummary> {
    if len > MAX_RESULT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.by_ref().take(MAX_RESULT).read_to_end(&mut bytes)?;
    if bytes.len() <= INLINE_RESULT {
        return Ok(inline(bytes.into()));
    }
    fs::create_dir_all(to.folder)?;
    fs::write(to.folder.join("result"), &bytes)?;
    Ok(ResultSummary::File { json: is_json(&bytes), len: bytes.len() as u64 })
}

/// An empty result is none: an opened and never written file says nothing.
fn inline(bytes: Bytes) -> ResultSummary {
    if bytes.is_empty() {
        return ResultSummary::None;
    }
    ResultSummary::Inline { json: is_json(&bytes), bytes }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn keep_artifacts(scratch: &Scratch, to: &Destination<'_>) -> io::Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    sift(&scratch.artifacts(), "", &mut artifacts)?;
    if !artifacts.is_empty() {
        fs::create_dir_all(to.folder)?;
        fs::rename(scratch.artifacts(), to.folder.join("artifacts"))?;
    }
    artifacts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

/// Lists regular files with one name; removes everything else, so that what is served
/// later cannot lead out of the folder.
fn sift(folder: &Path, prefix: &str, found: &mut Vec<Artifact>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.path().symlink_metadata()?;
        let name = entry.file_name().into_string().ok().filter(|_| found.len() < MAX_ARTIFACTS);
        match name {
            Some(name) if meta.is_dir() => sift(&entry.path(), &format!("{prefix}{name}/"), found)?,
            Some(name) if meta.is_file() && meta.nlink() == 1 => {
                found.push(Artifact { name: format!("{prefix}{name}"), size: meta.len() });
            }
            _ if meta.is_dir() => fs::remove_dir_all(entry.path())?,
            _ => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// The file and its size; `None` where there is none, or something else has its name.
fn open_regular(path: &Path) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let meta = file.metadata()?;
    Ok((meta.is_file() && meta.nlink() == 1).then_some((file, meta.len())))
}

/// What a progress file says last.
pub(super) fn last_progress(path: &Path) -> Option<Progress> {
    use std::io::{Seek, SeekFrom};
    let (mut file, len) = open_regular(path).ok()??;
    file.seek(SeekFrom::Start(len.saturating_sub(PROGRESS_TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(PROGRESS_TAIL).read_to_end(&mut tail).ok()?;
    Progress::last_of(&String::from_utf8_lossy(&tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use procession_core::validate::Schema;

    struct Attempt {
        root: tempfile::TempDir,
        scratch: Scratch,
    }

    fn attempt() -> Attempt {
        let root = tempfile::tempdir().expect("a folder");
        let scratch = Scratch { number: 0, path: root.path().join("s") };
        fs::create_dir_all(scratch.artifacts()).expect("made");
        Attempt { root, scratch }
    }

    fn run(attempt: &Attempt, rule: &ResultRule, stdout: &StreamRecord) -> Collected {
        let folder = attempt.root.path().join("kept");
        let to = Destination { folder: &folder, stdout: &folder.join("stdout") };
        collect(&attempt.scratch, rule, stdout, &to).expect("collected")
    }

    fn rule(source: ResultSource, schema: Option<Value>) -> ResultRule {
        ResultRule { source, required: true, schema: schema.map(|s| Schema::compile(s).expect("a schema")) }
    }

    const OK: Outcome = Outcome::Exited { code: 0 };

    #[test]
    fn f30_exit_0_without_a_required_result_is_no_success() {
        let rule = rule(ResultSource::File, None);
        let collected = run(&attempt(), &rule, &StreamRecord::default());
        assert_eq!(judge(OK, &rule, &collected), Outcome::ResultMissing);
        assert_eq!(judge(Outcome::Exited { code: 3 }, &rule, &collected), Outcome::Exited { code: 3 });
    }

    #[test]
    fn f31_a_result_must_fit_its_schema() {
        let rule = rule(ResultSource::File, Some(serde_json::json!({"type": "object"})));
        for (result, good) in [("{}", true), ("[1]", false), ("not json", false)] {
            let attempt = attempt();
            fs::write(attempt.scratch.result(), result).expect("written");
            let outcome = judge(OK, &rule, &run(&attempt, &rule, &StreamRecord::default()));
            assert_eq!(outcome == OK, good, "{result}: {outcome:?}");
        }
    }

    #[test]
    fn stdout_can_be_the_result() {
        let stdout = StreamRecord { tail: Bytes::from_static(b"{\"a\":1}\n"), ..Default::default() };
        let collected = run(&attempt(), &rule(ResultSource::Stdout, None), &stdout);
        assert!(matches!(collected.result, ResultSummary::Inline { json: true, .. }));
    }

    #[test]
    fn links_and_pipes_are_no_artifacts() {
        let attempt = attempt();
        let artifacts = attempt.scratch.artifacts();
        fs::create_dir(artifacts.join("sub")).expect("made");
        fs::write(artifacts.join("sub/report.html"), "hi").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", artifacts.join("passwd")).expect("linked");
        std::os::unix::fs::symlink("/etc", artifacts.join("etc")).expect("linked");
        fs::write(attempt.root.path().join("other"), "x").expect("written");
        fs::hard_link(attempt.root.path().join("other"), artifacts.join("hard")).expect("linked");
        std::os::unix::fs::symlink("/etc/passwd", attempt.scratch.result()).expect("linked");
        let collected = run(&attempt, &rule(ResultSource::File, None), &StreamRecord::default());
        assert_eq!(collected.artifacts, [Artifact { name: "sub/report.html".into(), size: 2 }]);
        assert_eq!(collected.result, ResultSummary::None);
        let kept = attempt.root.path().join("kept/artifacts");
        assert!(!kept.join("passwd").exists() && !kept.join("etc").exists() && !kept.join("hard").exists());
    }
}

//! What a finished program left in its scratch folder: result, artifacts, last progress.
//! All of it is a stranger's: the folder is walked by descriptors, links are never followed,
//! only regular files with a single name count, and nothing is removed here.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use procession_core::job::{Artifact, Progress, ResultSummary};
use procession_core::limits::INLINE_RESULT;
use procession_core::outcome::Outcome;
use procession_core::record::{OutputPlace, StreamRecord};
use procession_core::retry::is_pressure;
use procession_core::task::{ResultRule, ResultSource};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, renameat, statat};
use rustix::io::Errno;
use serde_json::Value;

use super::scratch::Scratch;

/// The largest result that is kept.
const MAX_RESULT: u64 = 64 << 20;

/// The most artifacts listed of one attempt.
const MAX_ARTIFACTS: usize = 10_000;

/// Folders in folders of artifacts.
const MAX_DEPTH: usize = 32;

/// How much of a progress file's end is read.
const PROGRESS_TAIL: u64 = 64 * 1024;

/// Where what is kept goes.
pub(super) struct Destination<'a> {
    /// The attempt's folder; made when something is kept.
    pub folder: &'a Path,
    /// Its stdout's file.
    pub stdout: &'a Path,
    /// Bytes kept of it.
    pub stdout_limit: u64,
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

/// Whether `error` says that the machine was short of something that comes back by itself:
/// no word about the job, which is asked for again.
pub(super) fn is_want(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(is_pressure)
}

/// Moves result and artifacts to their place. May be called again where it failed.
pub(super) fn collect(
    scratch: &Scratch,
    rule: &ResultRule,
    stdout: &StreamRecord,
    to: &Destination<'_>,
) -> io::Result<Collected> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let left = match openat(CWD, &scratch.path, flags, Mode::empty()) {
        Ok(left) => Some(left),
        // The program removed its folder, or put something else in its place: it left nothing.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
        Err(error) => return Err(error.into()),
    };
    let mut collected = Collected {
        progress: left.as_ref().and_then(|left| progress_in(left.as_fd(), "progress")),
        ..Collected::default()
    };
    let found = match (rule.source, stdout.place) {
        (ResultSource::Stdout, OutputPlace::File) if stdout.total > to.stdout_limit.min(stdout.written) => {
            collected.bad_result = Some("stdout outgrew output_limit and was cut".into());
            None
        }
        (ResultSource::Stdout, OutputPlace::File) => open_regular(CWD, to.stdout)?,
        (ResultSource::Stdout, OutputPlace::Inline) => {
            collected.result = inline(stdout.tail.clone());
            None
        }
        (ResultSource::File, _) => match &left {
            Some(left) => open_regular(left.as_fd(), "result")?,
            None => None,
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
    match keep_artifacts(left.as_ref().map(AsFd::as_fd), to) {
        Ok(artifacts) => collected.artifacts = artifacts,
        Err(error) if is_want(&error) => return Err(error),
        // The program's end is the program's: files that cannot be kept do not change it.
        Err(error) => {
            tracing::error!(%error, folder = %to.folder.display(), "artifacts cannot be kept");
        }
    }
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

/// Moves the artifacts folder, if it holds a file worth keeping, and lists those. What else
/// is in it is never listed, and what is not listed is never opened. A server that died after
/// the move left it for this one to list.
fn keep_artifacts(left: Option<BorrowedFd<'_>>, to: &Destination<'_>) -> io::Result<Vec<Artifact>> {
    let kept = to.folder.join("artifacts");
    let mut artifacts = Vec::new();
    if let Some(left) = left
        && let Some(folder) = open_folder(left, c"artifacts")?
    {
        list(&folder, "", 0, &mut artifacts)?;
        if !artifacts.is_empty() {
            fs::create_dir_all(to.folder)?;
            renameat(left, "artifacts", CWD, &kept)?;
        }
    }
    if artifacts.is_empty() {
        let name = CString::new(kept.into_os_string().into_vec())?;
        if let Some(folder) = open_folder(CWD, &name)? {
            list(&folder, "", 0, &mut artifacts)?;
        }
    }
    artifacts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

/// Regular files with a single name, below `folder`; no link is followed.
fn list(folder: &OwnedFd, prefix: &str, depth: usize, found: &mut Vec<Artifact>) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let (raw, Ok(name)) = (entry.file_name(), entry.file_name().to_str()) else { continue };
        if matches!(name, "." | "..") || found.len() >= MAX_ARTIFACTS {
            continue;
        }
        let Ok(meta) = statat(folder, raw, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        match FileType::from_raw_mode(meta.st_mode) {
            FileType::RegularFile if meta.st_nlink == 1 => {
                found.push(Artifact { name: format!("{prefix}{name}"), size: meta.st_size as u64 });
            }
            FileType::Directory if depth < MAX_DEPTH => {
                if let Some(inner) = open_folder(folder.as_fd(), raw)? {
                    list(&inner, &format!("{prefix}{name}/"), depth + 1, found)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `None` where something else has the name.
fn open_folder(above: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The file and its size; `None` where there is none, or something else has its name.
fn open_regular(above: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat(above, path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let meta = file.metadata()?;
    Ok((meta.is_file() && meta.nlink() == 1).then_some((file, meta.len())))
}

/// What a progress file says last.
pub(super) fn last_progress(path: &Path) -> Option<Progress> {
    progress_in(CWD, path)
}

fn progress_in(above: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Option<Progress> {
    use std::io::{Seek, SeekFrom};
    let (mut file, len) = open_regular(above, path).ok()??;
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
        let to = Destination { folder: &folder, stdout: &folder.join("stdout"), stdout_limit: 100 };
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
    fn a_stdout_that_was_cut_is_no_result() {
        let stdout =
            StreamRecord { total: 101, written: 101, place: OutputPlace::File, ..Default::default() };
        let rule = rule(ResultSource::Stdout, None);
        let collected = run(&attempt(), &rule, &stdout);
        assert!(matches!(judge(OK, &rule, &collected), Outcome::BadResult { .. }));
    }

    #[test]
    fn f29_what_a_dead_server_moved_already_is_found_again() {
        let attempt = attempt();
        fs::write(attempt.scratch.artifacts().join("a"), "x").expect("written");
        fs::write(attempt.scratch.result(), "7").expect("written");
        let rule = rule(ResultSource::File, None);
        let first = run(&attempt, &rule, &StreamRecord::default());
        assert_eq!(first.artifacts.len(), 1);
        assert_eq!(run(&attempt, &rule, &StreamRecord::default()), first);
    }

    #[test]
    fn a_program_that_removes_its_folder_ends_as_it_ended() {
        let rule = ResultRule { required: false, ..rule(ResultSource::File, None) };
        for gone in ["artifacts", ""] {
            let attempt = attempt();
            fs::remove_dir_all(attempt.scratch.path.join(gone)).expect("removed");
            assert_eq!(judge(OK, &rule, &run(&attempt, &rule, &StreamRecord::default())), OK, "{gone:?}");
        }
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
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_leads_nowhere() {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("theirs"), "x").expect("written");
        std::os::unix::fs::symlink("/nowhere", outside.path().join("link")).expect("linked");
        let attempt = attempt();
        fs::remove_dir(attempt.scratch.artifacts()).expect("removed");
        std::os::unix::fs::symlink(outside.path(), attempt.scratch.artifacts()).expect("linked");
        let collected = run(&attempt, &rule(ResultSource::File, None), &StreamRecord::default());
        assert_eq!(collected.artifacts, []);
        assert!(outside.path().join("link").symlink_metadata().is_ok(), "what it led to is untouched");

        fs::remove_dir_all(&attempt.scratch.path).expect("removed");
        std::os::unix::fs::symlink(outside.path(), &attempt.scratch.path).expect("linked");
        let collected = run(&attempt, &rule(ResultSource::File, None), &StreamRecord::default());
        assert_eq!(collected, Collected::default());
    }
}

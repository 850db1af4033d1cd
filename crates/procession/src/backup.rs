//! A backup: a folder from which a server starts as if it were its data directory, because it
//! is one. Made beside its place and moved there whole. The database is copied by the store;
//! here it is what lies beside it. Called by `cli/backup`, in a process of its own, while a
//! server runs or not.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use procession_core::id::JobId;
use procession_store::sqlite::{Copied, Exam, FileKind, StoredFile, backup as copy_store};
use rustix::fs::syncfs;

use crate::data::{DataDir, Stream, open_beneath, write_atomically};
use crate::owner::give_to_owner_of;
use crate::removal::remove;

/// What was copied.
#[derive(Debug)]
pub struct Backup {
    /// The folder.
    pub folder: PathBuf,
    /// The database.
    pub store: Copied,
    /// Files of jobs.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files that rows speak of and that were not there: their jobs were removed meanwhile, or
    /// `doctor` has more to say.
    pub missing: Vec<PathBuf>,
    /// Bodies that were not there, of jobs that are not over: in the copy as in the original
    /// they will fail.
    pub bodies_missing: Vec<PathBuf>,
    /// Why root, who made it, could not give it to the owner of the original.
    pub left_to_root: Option<io::Error>,
}

/// Copies `data` to `to`, which must not exist or be empty: the database, the token, the
/// node's name, and the bodies of jobs that are not over. With `all` also what finished jobs
/// left behind. What root makes belongs to the owner of `data`.
pub fn backup(data: &DataDir, to: &Path, all: bool) -> anyhow::Result<Backup> {
    let to = free_place(to)?;
    let folder = to.parent().context("the root folder cannot be a backup")?.to_owned();
    let name = to.file_name().context("a backup needs a name")?.to_string_lossy();
    let staging = folder.join(format!(".{name}.{}.new", std::process::id()));
    let made = fill(data, &DataDir::existing(&staging), all).and_then(|made| {
        let left_to_root = give_to_owner_of(data.root(), &staging).err();
        File::open(&staging).and_then(|opened| Ok(syncfs(&opened)?))?;
        fs::rename(&staging, &to).with_context(|| format!("{} cannot be put in place", to.display()))?;
        File::open(&folder).and_then(|opened| opened.sync_all())?;
        Ok(Backup { left_to_root, ..made })
    });
    if made.is_err() {
        // The reason matters more than what is left of the attempt.
        let _ = remove(&staging);
    }
    Ok(Backup { folder: to, ..made? })
}

/// Where the backup will be, if nothing is there.
fn free_place(to: &Path) -> anyhow::Result<PathBuf> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let to = std::path::absolute(to)?;
            let parent = to.parent().unwrap_or(Path::new("/"));
            if !parent.is_dir() {
                bail!("{} is no folder: make it first", parent.display());
            }
            return Ok(to);
        }
        Err(error) => return Err(error).with_context(|| to.display().to_string()),
        Ok(_) => {}
    }
    let to = fs::canonicalize(to)?;
    let shown = to.display();
    let mut entries = fs::read_dir(&to).with_context(|| format!("{shown} is there and is no folder"))?;
    if entries.next().is_some() {
        bail!("{shown} is not empty: name a new folder");
    }
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    if to.parent().is_none_or(|parent| device(parent).ok() != device(&to).ok()) {
        bail!("{shown} is where a disk is mounted: name a new folder in it");
    }
    Ok(to)
}

fn fill(data: &DataDir, copy: &DataDir, all: bool) -> anyhow::Result<Backup> {
    DataDir::create(copy.root()).with_context(|| format!("{} cannot be made", copy.root().display()))?;
    let store = copy_store(&data.database(), &copy.database())?;
    for (from, to, mode) in [(data.node(), copy.node(), 0o644), (data.token(), copy.token(), 0o600)] {
        match fs::read_to_string(&from) {
            Ok(text) => write_atomically(&to, &text, mode)?,
            // The first start on the copy makes one.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| from.display().to_string()),
        }
    }
    let (count, bytes) = (0, 0);
    let mut files =
        Files { data, copy, all, count, bytes, missing: Vec::new(), bodies: Vec::new(), failed: Ok(()) };
    Exam::open(&copy.database())?.files(&mut |file| files.take(&file))?;
    files.failed?;
    let (bodies_missing, removed) = still_needed(data, files.bodies)?;
    Ok(Backup {
        folder: copy.root().to_owned(),
        store,
        files: files.count,
        bytes: files.bytes,
        missing: [files.missing, removed].concat(),
        bodies_missing,
        left_to_root: None,
    })
}

/// Which bodies that were not there belong to jobs that are still not over in the original,
/// and which to jobs that ended, and were removed, while it was copied.
fn still_needed(
    data: &DataDir,
    bodies: Vec<(JobId, PathBuf)>,
) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut needed, mut removed) = (Vec::new(), Vec::new());
    if !bodies.is_empty() {
        let original = Exam::open(&data.database())?;
        for (job, path) in bodies {
            let kind = if original.is_unfinished(job)? { &mut needed } else { &mut removed };
            kind.push(path);
        }
    }
    Ok((needed, removed))
}

/// Copying what lies in `jobs`.
struct Files<'a> {
    data: &'a DataDir,
    copy: &'a DataDir,
    all: bool,
    count: u64,
    bytes: u64,
    missing: Vec<PathBuf>,
    /// Those of jobs that are not over.
    bodies: Vec<(JobId, PathBuf)>,
    failed: anyhow::Result<()>,
}

impl Files<'_> {
    fn take(&mut self, file: &StoredFile) {
        let needed = matches!(file.what, FileKind::Payload { .. }) && !file.over;
        if self.failed.is_ok() && (self.all || needed) {
            self.failed = paths(file).iter().try_for_each(|path| self.copy_one(file, path));
        }
    }

    /// `path`: below the job's folder.
    fn copy_one(&mut self, file: &StoredFile, path: &Path) -> anyhow::Result<()> {
        let from = self.data.job(file.job);
        let to = self.copy.job(file.job).join(path);
        match open_file(&from, path).and_then(|file| copy(file, &to)) {
            Ok(bytes) => {
                self.count += 1;
                self.bytes += bytes;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match file.what {
                    FileKind::Payload { .. } if !file.over => self.bodies.push((file.job, from.join(path))),
                    _ => self.missing.push(from.join(path)),
                }
                Ok(())
            }
            Err(error) => Err(error).with_context(|| from.join(path).display().to_string()),
        }
    }
}

/// The files a row speaks of, below the folder of their job. Shared with `doctor`.
pub fn paths(file: &StoredFile) -> Vec<PathBuf> {
    let data = DataDir::existing(Path::new(""));
    let job = data.job(file.job);
    let whole = match &file.what {
        FileKind::Payload { .. } => vec![data.payload(file.job)],
        FileKind::Result { attempt, .. } => vec![data.result(file.job, *attempt)],
        FileKind::Output { attempt, stdout, stderr } => {
            let streams = [(Stream::Stdout, *stdout), (Stream::Stderr, *stderr)];
            let written = streams.into_iter().filter(|(_, is_file)| *is_file);
            written.map(|(stream, _)| data.output(file.job, *attempt, stream)).collect()
        }
        FileKind::Artifacts { attempt, list } => {
            let folder = data.artifacts(file.job, *attempt);
            list.iter().map(|artifact| folder.join(&artifact.name)).collect()
        }
    };
    whole.iter().filter_map(|path| path.strip_prefix(&job).ok().map(Path::to_owned)).collect()
}

/// Opens a regular file below `folder`, through no link: what a job left running could put
/// one there meanwhile.
pub fn open_file(folder: &Path, path: &Path) -> io::Result<File> {
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a path below the job's folder"));
    }
    let file = open_beneath(folder, path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

fn copy(mut from: File, to: &Path) -> io::Result<u64> {
    if let Some(folder) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let bytes = io::copy(&mut from, &mut copy)?;
    let mode = from.metadata()?.permissions().mode() & 0o777;
    copy.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use procession_store::SqliteStore;

    use super::*;

    #[test]
    fn f43_a_body_whose_job_was_removed_meanwhile_is_no_fault_of_the_backup() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::create(folder.path()).expect("made");
        let _store = SqliteStore::open(&data.database()).expect("a new store");
        let job = JobId::new(1, [7; 10]);
        let bodies = vec![(job, data.payload(job))];
        // That of one that still waits is a test of the whole program.
        assert_eq!(still_needed(&data, bodies).expect("asked"), (vec![], vec![data.payload(job)]));
    }
}

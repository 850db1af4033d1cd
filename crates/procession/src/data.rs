//! The data directory: what lies where, for people and programs. Only this module builds
//! paths in it, and only from typed ids.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use procession_core::id::JobId;
use procession_store::sqlite::check_place;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use sha2::{Digest, Sha256};

use crate::removal::remove;

/// A body lies in its job's folder before the store knows the job. A folder this old, of an id
/// this old, is none on its way: where the store does not know it nobody needs it.
const ARRIVING: Duration = Duration::from_secs(3600);

/// The folder named by `[server] data_dir`.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// No store may lie where the data directory is, or would be.
#[derive(Debug, thiserror::Error)]
#[error("the data directory {folder}: {reason}")]
pub struct Unfit {
    folder: String,
    reason: String,
}

impl DataDir {
    /// Refuses a place that is on another machine or cannot be written, before anything is
    /// made there.
    pub fn check_place(root: &Path) -> Result<(), Unfit> {
        let unfit = |reason: String| Unfit { folder: root.display().to_string(), reason };
        let mut there = root;
        for path in root.ancestors() {
            match (fs::metadata(path), fs::symlink_metadata(path)) {
                (Ok(found), _) if found.is_dir() => {
                    there = path;
                    break;
                }
                (Ok(_), _) => return Err(unfit(format!("{} is no folder", path.display()))),
                (Err(_), Ok(_)) => {
                    return Err(unfit(format!("{} is a link to what is not there", path.display())));
                }
                (Err(_), Err(_)) => {}
            }
        }
        check_place(there).map_err(|error| unfit(error.to_string()))
    }

    /// Makes the folder and those in it, readable by their owner only.
    pub fn create(root: &Path) -> io::Result<Self> {
        let data = Self { root: root.to_owned() };
        for folder in [data.root.clone(), data.jobs(), data.scratch(), data.incoming(), data.log()] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(data)
    }

    /// One that exists.
    pub fn existing(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same for every keeper of the directory, and for no other.
    pub fn label(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_bytes());
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The embedded database.
    pub fn database(&self) -> PathBuf {
        self.root.join("procession.db")
    }

    /// The default token, one line, 0600.
    pub fn token(&self) -> PathBuf {
        self.root.join("token")
    }

    /// Addresses really bound, one a line.
    pub fn listen(&self) -> PathBuf {
        self.root.join("listen")
    }

    /// The keeper's process id.
    pub fn pid(&self) -> PathBuf {
        self.root.join("pid")
    }

    /// The server's process id.
    pub fn server_pid(&self) -> PathBuf {
        self.root.join("server.pid")
    }

    /// Held locked as long as a keeper lives; names it.
    pub fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    /// This node's name, made at the first start: a later host name changes nothing.
    pub fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// The keeper's journal.
    pub fn keeper(&self) -> PathBuf {
        self.root.join("keeper")
    }

    /// The texts of the config in force.
    pub fn config_in_force(&self) -> PathBuf {
        self.keeper().join("config.json")
    }

    /// What jobs leave behind.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// Working folders of running attempts.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Bodies that are still arriving.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The daemon's logs.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// What a daemon's processes say that is no log entry.
    pub fn stderr_log(&self) -> PathBuf {
        self.log().join("stderr.log")
    }

    /// Everything one job leaves; exists only where it left something.
    pub fn job(&self, job: JobId) -> PathBuf {
        self.jobs().join(job.to_string())
    }

    /// A body too large for the store.
    pub fn payload(&self, job: JobId) -> PathBuf {
        self.job(job).join("payload")
    }

    /// A body that the store holds, as a file for those below the job. One for each boot: what was
    /// not on the disk when the power went is made again.
    pub fn parent_payload(&self, job: JobId, boot_id: [u8; 16]) -> PathBuf {
        let [a, b, c, d, ..] = boot_id;
        self.job(job).join(format!("payload.{:08x}", u32::from_be_bytes([a, b, c, d])))
    }

    /// What one attempt leaves.
    pub fn attempt(&self, job: JobId, attempt: u32) -> PathBuf {
        self.job(job).join(attempt.to_string())
    }

    /// One output stream of an attempt.
    pub fn output(&self, job: JobId, attempt: u32, stream: Stream) -> PathBuf {
        self.attempt(job, attempt).join(stream.name())
    }

    /// A result too large for the store.
    pub fn result(&self, job: JobId, attempt: u32) -> PathBuf {
        self.attempt(job, attempt).join("result")
    }

    /// What an attempt left in its artifacts folder.
    pub fn artifacts(&self, job: JobId, attempt: u32) -> PathBuf {
        self.attempt(job, attempt).join("artifacts")
    }
}

impl DataDir {
    /// Bodies that were still arriving when a server ended.
    pub fn half_arrived(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(self.incoming())?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Jobs whose folders are so old that the store knows them, unless they are left over: from
    /// a server that ended between a body and its row, or between a row and its files.
    pub fn settled_jobs(&self) -> io::Result<Vec<JobId>> {
        let now = SystemTime::now();
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= ARRIVING);
        let mut settled = Vec::new();
        for (job, folder) in self.job_folders()? {
            let changed = fs::symlink_metadata(folder).and_then(|meta| meta.modified());
            if is_old(UNIX_EPOCH + Duration::from_millis(job.unix_ms())) && changed.is_ok_and(is_old) {
                settled.push(job);
            }
        }
        Ok(settled)
    }

    /// The folders of jobs. What has not quite a job's name is none and left alone.
    pub fn job_folders(&self) -> io::Result<Vec<(JobId, PathBuf)>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(self.jobs())? {
            let entry = entry?;
            let name = entry.file_name();
            let job = name.to_str().and_then(|name| name.parse::<JobId>().ok());
            if let Some(job) = job.filter(|job| name.to_str() == Some(&job.to_string())) {
                folders.push((job, entry.path()));
            }
        }
        Ok(folders)
    }

    /// Removes all a job left; nothing to remove is fine.
    pub fn remove_job(&self, job: JobId) -> io::Result<()> {
        remove(&self.job(job))
    }

    /// The same of many; what cannot be removed stays behind, and is said.
    pub fn remove_jobs(&self, jobs: Vec<JobId>) {
        for job in jobs {
            if let Err(error) = self.remove_job(job) {
                tracing::warn!(%error, %job, "the files of a removed job stay behind");
            }
        }
    }
}

/// One of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1; both, where merged.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// As in paths and URLs.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Writes `text` to `path` so that a reader sees the old text or the new, and it survives
/// a power cut.
pub fn write_atomically(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    put_in_place(path, mode, |file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })?;
    File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?.sync_all()
}

/// The same for what need not survive that.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    put_in_place(path, 0o644, |file| file.write_all(text.as_bytes()))
}

fn put_in_place(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = folder.join(name);
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh);
    let done = opened.and_then(|mut file| fill(&mut file)).and_then(|()| fs::rename(&fresh, path));
    if done.is_err() {
        // Half of it is of no use to anybody.
        let _ = fs::remove_file(&fresh);
    }
    done
}

/// Opens what lies below `folder`, through no link: what a job left running could put one there
/// meanwhile. A pipe keeps nobody waiting.
pub fn open_beneath(folder: &Path, path: &Path) -> io::Result<File> {
    let folder_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, folder_flags, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, path, flags, Mode::empty(), resolve)?.into())
}

/// Makes what was written to `file` and its name in `folder` survive a power cut.
pub fn sync_with_folder(file: &File, folder: &Path) -> io::Result<()> {
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

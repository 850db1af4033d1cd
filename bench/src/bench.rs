//! What all cases share: the programs under test, a scratch folder, how large to measure.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program;

/// Descriptors wanted for ten thousand connections on both ends.
const DESCRIPTORS: u64 = 65_536;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough to be quoted.
    Full,
    /// Enough to see that it works.
    Smoke,
}

impl Size {
    /// The one or the other.
    pub(crate) fn pick<T>(self, full: T, smoke: T) -> T {
        match self {
            Size::Full => full,
            Size::Smoke => smoke,
        }
    }
}

/// The setting of a run.
pub(crate) struct Bench {
    pub(crate) size: Size,
    /// The product.
    pub(crate) procession: PathBuf,
    /// This program, to be a job or a bare loop.
    pub(crate) myself: PathBuf,
    /// Exits at once.
    pub(crate) tiny: PathBuf,
    /// Sleeps until a signal ends it.
    pub(crate) sleeper: PathBuf,
    /// Sleeps and ignores TERM.
    pub(crate) stubborn: PathBuf,
    /// The same disk as the servers'.
    pub(crate) scratch: TempDir,
}

impl Bench {
    /// Finds the product beside this program and writes the small programs.
    pub(crate) fn prepare(size: Size) -> io::Result<Self> {
        raise_descriptors();
        let myself = std::env::current_exe()?;
        let procession = myself.with_file_name("procession");
        if !procession.exists() {
            let complaint = format!("{} is not built; use bench/run", procession.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, complaint));
        }
        let scratch = tempfile::Builder::new().prefix("procession-bench-").tempdir()?;
        let place = |name: &str| scratch.path().join(name);
        let (tiny, sleeper, stubborn) = (place("tiny"), place("sleeper"), place("stubborn"));
        program::write(program::Kind::Tiny, &tiny)?;
        program::write(program::Kind::Sleeper, &sleeper)?;
        program::write(program::Kind::Stubborn, &stubborn)?;
        Ok(Self { size, procession, myself, tiny, sleeper, stubborn, scratch })
    }

    /// A folder that goes when it is dropped, on the disk that is measured.
    pub(crate) fn folder(&self) -> io::Result<TempDir> {
        tempfile::tempdir_in(self.scratch.path())
    }
}

/// A path in a config file.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// As many descriptors as we may have; the servers inherit them.
fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid struct; a refusal leaves the limit as it is, and the
    // case that needs many connections looks at what there is.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return;
        }
        let wanted = libc::rlimit { rlim_cur: DESCRIPTORS, rlim_max: limit.rlim_max.max(DESCRIPTORS) };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) != 0 {
            let most = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
            libc::setrlimit(libc::RLIMIT_NOFILE, &most);
        }
    }
}

/// Descriptors we have.
pub(crate) fn descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

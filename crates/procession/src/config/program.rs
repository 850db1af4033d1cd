//! Whether the program a task names is there. Asked once when the config is read, only to
//! warn: programs may come and go, and each attempt looks again.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a program will not start, should nothing change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    #[error("`{0}` is in no folder of the server's PATH")]
    NotInPath(String),
    #[error("there is no file {}", .0.display())]
    NoFile(PathBuf),
    #[error("{} is not executable", .0.display())]
    NotExecutable(PathBuf),
}

/// Looks for `program` as the runner does: with a slash it is a path relative to
/// `directory`, without one it is looked for in `search_path`.
pub(super) fn look_for(program: &str, directory: &Path, search_path: &OsStr) -> Result<(), Missing> {
    if program.contains('/') {
        let path: PathBuf = directory.join(program).components().collect();
        return match standing(&path) {
            Standing::Executable => Ok(()),
            Standing::NotExecutable => Err(Missing::NotExecutable(path)),
            Standing::Absent => Err(Missing::NoFile(path)),
        };
    }
    let mut seen = None;
    for folder in std::env::split_paths(search_path) {
        let path = folder.join(program);
        match standing(&path) {
            Standing::Executable => return Ok(()),
            Standing::NotExecutable => seen = seen.or(Some(path)),
            Standing::Absent => {}
        }
    }
    Err(seen.map_or_else(|| Missing::NotInPath(program.into()), Missing::NotExecutable))
}

enum Standing {
    Executable,
    NotExecutable,
    Absent,
}

fn standing(path: &Path) -> Standing {
    match path.metadata() {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Standing::Executable,
        Ok(_) => Standing::NotExecutable,
        Err(_) => Standing::Absent,
    }
}

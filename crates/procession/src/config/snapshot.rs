//! The texts a config was made of: the file and the schemas it names, as they were when it
//! took effect.
//!
//! A server that is started again after a crash reads these and not the files: an edit takes
//! effect when somebody asks for it, never by accident and never half written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::data::write_atomically;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The config file's own path.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: String,
    /// Each schema by its absolute path.
    pub(super) schemas: BTreeMap<PathBuf, String>,
}

impl Snapshot {
    /// Keeps it in a file, readable by its owner only; another one that was there is replaced
    /// whole.
    ///
    /// # Errors
    /// The file cannot be written, or a path is no text.
    pub fn keep(&self, file: &Path) -> io::Result<()> {
        if Self::read(file).is_ok_and(|kept| kept == *self) {
            return Ok(());
        }
        write_atomically(file, &serde_json::to_string(self)?, 0o600)
    }

    /// The one in a file.
    ///
    /// # Errors
    /// There is none, or it is of another version.
    pub fn read(file: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load, restore};

    #[test]
    fn f38_what_took_effect_is_read_again_whatever_became_of_the_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("s.json"), r#"{"type": "object"}"#).expect("written");
        fs::write(path("procession.toml"), "[task.a]\ncommand = [\"true\"]\nschema = \"s.json\"\n")
            .expect("written");
        let config = load(&path("procession.toml"), &LoadOptions::default()).expect("good");
        config.snapshot.keep(&path("in-force")).expect("written");
        fs::write(path("procession.toml"), "[task.a\ncomm").expect("written");
        fs::remove_file(path("s.json")).expect("there");
        assert!(load(&path("procession.toml"), &LoadOptions::default()).is_err());
        let snapshot = Snapshot::read(&path("in-force")).expect("whole");
        assert_eq!(restore(snapshot, &LoadOptions::default()).expect("good"), config);
    }
}

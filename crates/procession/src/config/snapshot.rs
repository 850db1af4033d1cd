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
    /// whole. Where it cannot be written there is none: an older one would be believed.
    pub fn keep(&self, file: &Path) {
        if Self::read(file).is_ok_and(|kept| kept == *self) {
            return;
        }
        let text = serde_json::to_string(self).map_err(io::Error::from);
        if let Err(error) = text.and_then(|text| write_atomically(file, &text, 0o600)) {
            tracing::warn!(%error, "after a crash the config will be read from its file");
            let _ = fs::remove_file(file);
        }
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
        config.snapshot.keep(&path("in-force"));
        fs::write(path("procession.toml"), "[task.a\ncomm").expect("written");
        fs::remove_file(path("s.json")).expect("there");
        assert!(load(&path("procession.toml"), &LoadOptions::default()).is_err());
        let snapshot = Snapshot::read(&path("in-force")).expect("whole");
        assert_eq!(restore(snapshot, &LoadOptions::default()).expect("good"), config);
    }
}

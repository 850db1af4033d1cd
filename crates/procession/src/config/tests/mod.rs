//! Whole configs, from their text to tasks or complaints.

mod contract;
mod documentation;
mod mutations;
mod ui;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::diagnostic::{Diagnostics, Source};
use super::load::parse;
use super::schema::SchemaFiles;
use super::{Config, LoadOptions};

/// A folder with the files configs of tests name, and programs in `bin`.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir().expect("a scratch folder"));
        let root = scratch.path();
        fs::create_dir(root.join("bin")).expect("a folder");
        for program in ["true", "sleep", "sh", "wc", "env", "python3", "node", "perl"] {
            scratch.write(&format!("bin/{program}"), "");
            let all = fs::Permissions::from_mode(0o755);
            fs::set_permissions(root.join("bin").join(program), all).expect("permissions");
        }
        scratch.write("bin/plain", "");
        scratch.write("not-executable", "");
        scratch.write("db.secret", "");
        scratch.write("no-key.secret", "\n");
        scratch.write("open.secret", "open to all\n");
        scratch.write("hook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        for (secret, mode) in [("open.secret", 0o644), ("hook.secret", 0o600), ("no-key.secret", 0o600)] {
            fs::set_permissions(root.join(secret), fs::Permissions::from_mode(mode)).expect("permissions");
        }
        scratch.write("good.json", r#"{"type": "object"}"#);
        scratch.write("full-report.schema.json", r#"{"type": "object", "required": ["requestId"]}"#);
        scratch.write("broken.json", "{\n  \"type\": \"object\",\n}\n");
        scratch.write("wrong.json", r#"{"type": "objekt"}"#);
        scratch.write("remote.json", r#"{"$ref": "https://example.org/schema.json"}"#);
        scratch
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file");
    }

    fn options(&self) -> LoadOptions {
        LoadOptions { insecure: false, search_path: self.path().join("bin").into(), cores: 2 }
    }

    fn parse(&self, text: &str) -> Result<Config, Diagnostics> {
        let source = Source { name: "procession.toml".into(), text: text.into() };
        parse(source, self.path().join("procession.toml"), &self.options(), SchemaFiles::default())
    }

    /// What a user would see of `text`: complaints, or warnings.
    fn complaints(&self, text: &str) -> String {
        let found = match self.parse(text) {
            Ok(config) => Diagnostics(config.warnings),
            Err(found) => found,
        };
        found.to_string().replace(&self.path().display().to_string(), "DIR")
    }
}

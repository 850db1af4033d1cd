//! The JSON Schemas a config names: read once each, compiled, and part of the config's
//! revision. What a schema means is core's business.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use procession_core::validate::Schema;

use super::diagnostic::{Diagnostic, Severity, Source};
use super::section::Text;

/// A config or schema larger than this is no config: better refused than read for ever.
const LARGEST: u64 = 8 << 20;

/// The schemas read so far, by path.
#[derive(Debug, Default)]
pub(super) struct SchemaFiles {
    read: RefCell<BTreeMap<PathBuf, ReadSchema>>,
    /// In place of the files, where a config is read again that took effect before.
    kept: Option<BTreeMap<PathBuf, String>>,
}

#[derive(Debug)]
struct ReadSchema {
    bytes: Vec<u8>,
    /// None: it is broken, and that was said.
    schema: Option<Schema>,
}

impl SchemaFiles {
    /// Those of a snapshot.
    pub(super) fn kept(schemas: BTreeMap<PathBuf, String>) -> Self {
        Self { kept: Some(schemas), ..Self::default() }
    }

    /// Whether a config is read again that took effect before.
    pub(super) fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The schema in the file that `text` names, relative to `folder`.
    pub(super) fn load(&self, text: &Text<'_>, folder: &Path) -> Option<Schema> {
        let path = text.path(folder)?;
        if let Some(known) = self.read.borrow().get(&path) {
            return known.schema.clone();
        }
        let bytes = match self.bytes_of(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                text.error(message, "the path is relative to the config file's folder");
                return None;
            }
        };
        let schema = compile(&bytes, text);
        self.read.borrow_mut().insert(path, ReadSchema { bytes, schema: schema.clone() });
        schema
    }

    fn bytes_of(&self, path: &Path) -> io::Result<Vec<u8>> {
        match &self.kept {
            None => read_bounded(path),
            Some(kept) => {
                kept.get(path).map(|text| text.clone().into_bytes()).ok_or(io::ErrorKind::NotFound.into())
            }
        }
    }

    /// Each file's text, by path. What could be compiled is text.
    pub(super) fn into_texts(self) -> BTreeMap<PathBuf, String> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        self.read.into_inner().into_iter().map(|(path, file)| (path, text(file.bytes))).collect()
    }
}

fn compile(bytes: &[u8], named: &Text<'_>) -> Option<Schema> {
    let value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => {
            named.report.push(bad_json(bytes, named, &error));
            return None;
        }
    };
    let say = |bad: procession_core::validate::BadSchema| {
        named.error(
            format!("{} is {bad}", named.text),
            "correct the file; everything it refers to must stand in it",
        );
    };
    Schema::compile(value).map_err(say).ok()
}

/// Shown at the place in the schema's own file.
fn bad_json(bytes: &[u8], named: &Text<'_>, error: &serde_json::Error) -> Diagnostic {
    let source = Source { name: named.text.into(), text: String::from_utf8_lossy(bytes).into_owned() };
    let by = named.report.source.place(&named.span);
    let said = error.to_string();
    let problem = said.split(" at line ").next().unwrap_or_default();
    Diagnostic {
        severity: Severity::Error,
        code: None,
        message: format!("the schema is not JSON: {problem}"),
        place: Some(source.place_at(error.line(), error.column())),
        help: format!("correct the file; {}:{} names it", by.file, by.line),
    }
}

/// All of a file, unless it is absurdly large.
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would keep its reader waiting.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 8 MiB"));
    }
    Ok(bytes)
}

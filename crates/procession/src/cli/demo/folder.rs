//! The example's files, as they stand in `examples/subway-inspection`, written into a folder.
//! What is there already is left alone: people try things out in it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::data::DataDir;

/// Names and contents of the example.
macro_rules! example {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../../examples/subway-inspection/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = example![
    "README.md",
    "full-report.schema.json",
    "photos/CREDITS.md",
    "photos/bogie.jpg",
    "photos/front.jpg",
    "photos/roof-left.jpg",
    "photos/roof-right.jpg",
    "photos/side-left.jpg",
    "photos/side-right.jpg",
    "photos/underframe.jpg",
    "prepare.py",
    "process.py",
    "procession.toml",
    "request.json",
    "serve_photos.py",
];

/// The address in the example's config.
const ADDRESS: &str = "127.0.0.1:8080";

/// How the address of a photograph in the example's request begins; a port follows.
const PHOTOS: &str = "http://127.0.0.1:";

/// The folder of a demo.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Writes what is missing.
    pub(super) fn set_up(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        for (name, content) in FILES {
            let file = path.join(name);
            if file.exists() {
                continue;
            }
            let parent = file.parent().unwrap_or(&path);
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            fs::write(&file, adapted(name, content))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The server's data.
    pub(super) fn data(&self) -> DataDir {
        DataDir::existing(&self.0.join("procession-data"))
    }

    /// The example's request, its photographs at `photos` (`http://127.0.0.1:PORT/`).
    pub(super) fn request(&self, photos: &str) -> anyhow::Result<String> {
        let file = self.0.join("request.json");
        let request = moved(&fs::read_to_string(&file)?, photos);
        fs::write(&file, &request)?;
        Ok(request)
    }
}

/// The config's port may be taken, by a server that has nothing to do with the demo.
fn adapted(name: &str, content: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(content) {
        Ok(text) if name == "procession.toml" && TcpListener::bind(ADDRESS).is_err() => {
            text.replace(ADDRESS, "127.0.0.1:0").into()
        }
        _ => content.into(),
    }
}

/// `request` with every photograph at `photos`, wherever it was before.
fn moved(request: &str, photos: &str) -> String {
    let mut parts = request.split(PHOTOS);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('/');
        out.push_str(photos);
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_move_as_often_as_the_demo_runs() {
        let once = moved(
            r#"{"a": "http://127.0.0.1:9400/x.jpg", "b": "http://127.0.0.1:9400/y.jpg"}"#,
            "http://127.0.0.1:1/",
        );
        assert_eq!(once, r#"{"a": "http://127.0.0.1:1/x.jpg", "b": "http://127.0.0.1:1/y.jpg"}"#);
        let twice = moved(&once, "http://127.0.0.1:23/");
        assert_eq!(twice, once.replace(":1/", ":23/"));
    }

    #[test]
    fn everything_of_the_example_is_written_and_nothing_overwritten() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("process.py");
        fs::write(&file, "mine").expect("written");
        Folder::set_up(root.path()).expect("set up");
        assert_eq!(fs::read(&file).expect("readable"), b"mine");
        for (name, _) in FILES {
            assert!(root.path().join(name).exists(), "{name}");
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/subway-inspection/photos");
        for photo in fs::read_dir(shipped).expect("the example") {
            let name = photo.expect("an entry").file_name();
            assert!(root.path().join("photos").join(&name).exists(), "{name:?} is not in the demo");
        }
    }
}

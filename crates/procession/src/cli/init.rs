//! `init`: a first config, with one task that works. What it writes is `init.toml`, as it
//! stands beside this file; a test proves that it is good.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::screen::Screen;

const NAME: &str = "procession.toml";
const CONFIG: &str = include_str!("init.toml");

/// `procession init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it; made if it does not exist.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Writes it, unless there is one, and says what to do with it.
pub(super) fn run(args: &InitArgs, screen: &Screen) -> anyhow::Result<Exit> {
    let file = write(&args.folder)?;
    if screen.is_json() {
        screen.line(&json!({ "config": file }).to_string())?;
        return Ok(Exit::OK);
    }
    let shown = file.display();
    let here = args.folder == Path::new(".");
    let config = if here { String::new() } else { format!(" --config {shown}") };
    screen.line(&format!(
        "wrote {shown}\n\n\
         start the server:   procession serve{config}\n\
         then, elsewhere:    procession submit hello --data '{{\"name\": \"Ada\"}}' --wait{config}"
    ))?;
    Ok(Exit::OK)
}

fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = if folder == Path::new(".") { PathBuf::from(NAME) } else { folder.join(NAME) };
    let mut open = OpenOptions::new();
    match open.write(true).create_new(true).open(&file).and_then(|mut out| out.write_all(CONFIG.as_bytes())) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists already and stays as it is", file.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot write {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, LoadOptions};

    #[test]
    fn what_it_writes_is_a_config_without_complaints() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = write(&folder.path().join("new")).expect("written");
        let config = config::load(&file, &LoadOptions::default()).expect("a good config");
        assert_eq!(config.warnings, []);
        assert!(config.tasks.contains_key("hello"));
    }

    #[test]
    fn it_never_overwrites() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(NAME), "mine").expect("written");
        assert!(write(folder.path()).expect_err("exists").to_string().contains("stays as it is"));
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).expect("read"), "mine");
    }
}

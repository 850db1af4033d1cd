//! `self result`: writes the job's result file, whole or not at all. Written again, the last
//! one counts; whether it fits the task is judged when the job is over.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::de::IgnoredAny;

use crate::cli::exit::Exit;

/// `procession self result`.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// JSON, @FILE, or - for stdin; files and stdin may hold any bytes.
    #[arg(value_name = "JSON|@FILE|-", default_value = "-", allow_hyphen_values = true)]
    result: String,
}

/// Writes it.
pub(super) fn run(args: &ResultArgs) -> anyhow::Result<Exit> {
    let file = super::named_by("PROCESSION_RESULT")?;
    match args.result.strip_prefix('@') {
        Some(path) => {
            let source = File::open(path).with_context(|| format!("cannot read {path}"))?;
            replace(&file, source)?;
        }
        None if args.result == "-" => replace(&file, io::stdin().lock())?,
        None => {
            serde_json::from_str::<IgnoredAny>(&args.result)
                .context("the result is not JSON (text needs its quotes: '\"done\"'; other bytes come from @FILE or -)")?;
            replace(&file, args.result.as_bytes())?;
        }
    }
    Ok(Exit::OK)
}

/// A job that is ended meanwhile leaves the old result or the new one, never half of it.
fn replace(file: &Path, mut source: impl Read) -> anyhow::Result<()> {
    let new = beside(file);
    let written = File::create(&new)
        .and_then(|mut out| io::copy(&mut source, &mut out))
        .and_then(|_| fs::rename(&new, file));
    if written.is_err() {
        // It may not even exist; what matters is said below.
        let _ = fs::remove_file(&new);
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("result");
        replace(&file, &b"[1]"[..]).expect("written");
        replace(&file, &b"{}"[..]).expect("written again");
        assert_eq!(fs::read(&file).expect("read"), b"{}");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_source_that_fails_leaves_the_old_result() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::Other.into())
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("result");
        replace(&file, &b"[1]"[..]).expect("written");
        assert!(replace(&file, Broken).is_err());
        assert_eq!(fs::read(&file).expect("read"), b"[1]");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}

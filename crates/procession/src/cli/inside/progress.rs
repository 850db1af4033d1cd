//! `self progress`: appends a line to the job's progress file. The server reads the last
//! whole one.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Args;

use crate::cli::exit::Exit;

/// `procession self progress`.
#[derive(Debug, Args)]
pub struct ProgressArgs {
    /// How much is done: 0 to 1.
    #[arg(value_parser = fraction, allow_hyphen_values = true)]
    fraction: f64,
    /// What is being done.
    message: Vec<String>,
}

fn fraction(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|fraction| (0.0..=1.0).contains(fraction))
        .ok_or("write a number from 0 to 1, as 0.4")
}

/// Appends it.
pub(super) fn run(args: &ProgressArgs) -> anyhow::Result<Exit> {
    append(&super::named_by("PROCESSION_PROGRESS")?, args.fraction, &args.message.join(" "))?;
    Ok(Exit::OK)
}

/// One write: lines of several processes of the job do not mix.
fn append(file: &Path, fraction: f64, message: &str) -> anyhow::Result<()> {
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = format!("{fraction} {}", words.join(" "));
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut out| out.write_all(format!("{}\n", line.trim_end()).as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_one_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("progress");
        append(&file, 0.4, "roof\nleft").expect("written");
        append(&file, 1.0, "").expect("written");
        assert_eq!(std::fs::read_to_string(file).expect("read"), "0.4 roof left\n1\n");
    }

    #[test]
    fn fractions() {
        assert_eq!((fraction("0.4"), fraction("1")), (Ok(0.4), Ok(1.0)));
        for bad in ["", "-0.1", "1.1", "40%", "NaN"] {
            assert!(fraction(bad).is_err(), "{bad}");
        }
    }
}

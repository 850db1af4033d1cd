//! `self`: what a program says about the job it is, from any language by one command.
//!
//! Needs no server: the job's environment names the files through which it speaks.

mod progress;
mod result;

use std::env;
use std::path::PathBuf;

use clap::Subcommand;

use super::exit::Exit;

/// `procession self`.
#[derive(Debug, Subcommand)]
pub enum InsideVerb {
    /// Say how far the job is.
    Progress(progress::ProgressArgs),
    /// Hand back the job's result.
    Result(result::ResultArgs),
}

/// Says it.
pub(super) fn run(verb: &InsideVerb) -> anyhow::Result<Exit> {
    match verb {
        InsideVerb::Progress(args) => progress::run(args),
        InsideVerb::Result(args) => result::run(args),
    }
}

/// The file that `variable` names in the environment of every job.
fn named_by(variable: &str) -> anyhow::Result<PathBuf> {
    match env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => anyhow::bail!(
            "this is no job of Procession: {variable} is not set; `procession self` works inside jobs"
        ),
    }
}

//! Small C programs and libraries of tests: what a shell cannot do.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::command;

/// Compiles `source` to `folder/name`; `None`, said on stderr, where there is no compiler.
pub fn compile(folder: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    let (from, to) = (folder.join(name).with_extension("c"), folder.join(name));
    fs::write(&from, source).expect("written");
    match command("cc").args(flags).arg("-O1").arg("-o").arg(&to).arg(&from).output() {
        Ok(output) if output.status.success() => Some(to),
        Ok(output) => panic!("{name} does not compile: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            eprintln!("skipped: no C compiler: {error}");
            None
        }
    }
}

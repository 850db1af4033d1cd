//! What this binary does as a child of its own or as a job: bare loops in small processes,
//! and programs that write.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crate::bare;

/// The first argument of a child.
pub(crate) const MARK: &str = "as";

/// `spawner PROGRAM MILLISECONDS` or `writer BYTES`.
pub(crate) fn play(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let played = match words.as_slice() {
        ["spawner", program, time] => time
            .parse()
            .ok()
            .and_then(|time| bare::spawn_and_wait(program, Duration::from_millis(time)).ok())
            .map(|spawned| println!("{spawned}")),
        ["writer", bytes] => bytes.parse().ok().and_then(write),
        _ => None,
    };
    if played.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes so many bytes to standard output, 64 KiB at a time.
fn write(bytes: u64) -> Option<()> {
    let chunk = [b'x'; 64 * 1024];
    // SAFETY: nothing else in this process writes to or closes descriptor 1.
    let mut out: std::fs::File = unsafe { std::os::fd::FromRawFd::from_raw_fd(1) };
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk.len() as u64);
        out.write_all(&chunk[..now as usize]).ok()?;
        left -= now;
    }
    Some(())
}

//! What everybody has: `xargs -P2` starting the same program, without HTTP, without a
//! record of anything.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bare;
use crate::bench::Bench;
use crate::figure::Figure;

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let (bare, rate) = bare::around(bench, &bench.tiny, || rate(bench))?;
    Ok(vec![Figure::new("xargs -P2", "jobs/s", rate).beside("posix_spawn, 2 processes", bare.rate())])
}

fn rate(bench: &Bench) -> io::Result<f64> {
    let count = bench.size.pick(10_000, 100);
    let lines = "x\n".repeat(count);
    let begin = Instant::now();
    let mut xargs =
        Command::new("xargs").args(["-P2", "-n1"]).arg(&bench.tiny).stdin(Stdio::piped()).spawn()?;
    xargs.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?.write_all(lines.as_bytes())?;
    if !xargs.wait()?.success() {
        return Err(io::Error::other("xargs failed"));
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

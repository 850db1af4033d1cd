//! T9: a job that writes a GiB, through pipes and straight to its file, beside the same
//! program `| cat > file` and `> file`; and how far the memory of server and keeper grew.

use std::io;
use std::process::Command;
use std::time::Instant;

use crate::bare::redirected;
use crate::bench::{Bench, quoted};
use crate::figure::{Figure, Target};
use crate::process::{forget_peak, peak, resident};
use crate::role::MARK;
use crate::server::Server;

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let bytes = bench.size.pick(1 << 30, 4 << 20);
    let folder = bench.folder()?;
    let bare = |through_cat| {
        let mut command = Command::new(&bench.myself);
        command.args([MARK, "writer", &bytes.to_string()]);
        redirected(&mut command, &folder.path().join("output"), through_cat)
    };
    let to_file = bare(false)?;
    let (file, grown_by_file) = written(bench, bytes, "file")?;
    let through_cat = bare(true)?;
    let (pipes, grown_by_pipes) = written(bench, bytes, "separate")?;
    Ok(vec![
        Figure::new("1 GiB, output = \"file\"", "s", file)
            .beside("> file", to_file)
            .wanted(Target::RatioAtMost(1.1)),
        Figure::new("1 GiB, pipes", "s", pipes)
            .beside("cat > file", through_cat)
            .wanted(Target::RatioAtMost(1.5)),
        Figure::new("memory grown, file", "MiB", grown_by_file).wanted(Target::AtMost(16.0)),
        Figure::new("memory grown, pipes", "MiB", grown_by_pipes).wanted(Target::AtMost(16.0)),
    ])
}

/// Seconds from request to result, and MiB that server and keeper grew meanwhile.
fn written(bench: &Bench, bytes: u64, output: &str) -> io::Result<(f64, f64)> {
    let command =
        |bytes: u64| format!("command = [{}, \"{MARK}\", \"writer\", \"{bytes}\"]", quoted(&bench.myself));
    let rest = format!("output = \"{output}\"\noutput_limit = \"2GiB\"\n");
    let tasks = format!("[task.small]\n{}\n{rest}[task.large]\n{}\n{rest}", command(1), command(bytes));
    let server = Server::start(bench, 2, &tasks)?;
    server.run("small")?;
    let pids = [server.server, server.keeper()];
    let mut before = 0;
    for pid in pids {
        forget_peak(pid)?;
        before += resident(pid)?;
    }
    let begin = Instant::now();
    let job = server.run("large")?;
    let time = begin.elapsed().as_secs_f64();
    if job["output"]["stdout_bytes"].as_u64() != Some(bytes) {
        return Err(io::Error::other(format!("not all was kept: {job}")));
    }
    let mut after = 0;
    for pid in pids {
        after += peak(pid)?;
    }
    Ok((time, after.saturating_sub(before) as f64 / (1024.0 * 1024.0)))
}

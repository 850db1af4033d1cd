//! T1: from the request until the end is recorded on disk, for jobs that do nothing.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::task;
use crate::bare;
use crate::bench::Bench;
use crate::figure::{Figure, Target};
use crate::load::{Load, closed_loop};
use crate::server::Server;

/// Connections that send, each waiting for its answer.
pub(super) const CONNECTIONS: usize = 64;

/// Slots, as the peers were measured.
pub(super) const SLOTS: usize = 64;

/// Slots enough that the wait for the disk between two jobs of a slot does not show.
const MANY_SLOTS: usize = 256;

/// All jobs of a run have ended by then.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let ordinary = Path::new("/bin/true");
    let one = bare::spawners(bench, &bench.tiny, 1)?.rate();
    let count = bench.size.pick(10_000, 100);
    let (two, tiny) = bare::around(bench, &bench.tiny, || rate(bench, SLOTS, &bench.tiny, count))?;
    let (again, many) = bare::around(bench, &bench.tiny, || rate(bench, MANY_SLOTS, &bench.tiny, count))?;
    let count = bench.size.pick(3_000, 50);
    let (dynamic, ordinary) = bare::around(bench, ordinary, || rate(bench, SLOTS, ordinary, count))?;
    Ok(vec![
        Figure::new("tiny, 64 slots", "jobs/s", tiny)
            .beside("posix_spawn, 2 processes", two.rate())
            .wanted(Target::RatioAtLeast(0.33)),
        Figure::new("tiny, 256 slots", "jobs/s", many).beside("posix_spawn, 2 processes", again.rate()),
        Figure::new("tiny, the other limit", "jobs/s", tiny).beside("posix_spawn, 1 process", one),
        Figure::new("/bin/true, 64 slots", "jobs/s", ordinary)
            .beside("posix_spawn, 2 processes", dynamic.rate()),
    ])
}

fn rate(bench: &Bench, slots: usize, program: &Path, count: u64) -> io::Result<f64> {
    let server = Server::start(bench, slots, &task("tiny", program))?;
    Ok(count as f64 / run_jobs(&server, count)?.as_secs_f64())
}

/// Sends `count` jobs of the task `tiny` and waits until all have ended well.
pub(super) fn run_jobs(server: &Server, count: u64) -> io::Result<Duration> {
    // The first job finds everything cold.
    server.run("tiny")?;
    let request = server.submit("tiny");
    let begin = Instant::now();
    closed_loop(&Load {
        address: server.address,
        request: &request,
        connections: CONNECTIONS,
        count,
        expected: 202,
    })?;
    let counts = server.wait_for("tiny", PATIENCE, |counts| counts.finished > count)?;
    let time = begin.elapsed();
    if counts.failed > 0 {
        return Err(io::Error::other(format!("{} jobs failed", counts.failed)));
    }
    Ok(time)
}

//! T2: how many jobs a second are accepted, which means on disk, while none runs.

use std::io;

use super::jobs::CONNECTIONS;
use super::task;
use crate::bare;
use crate::bench::Bench;
use crate::figure::{Figure, Target};
use crate::load::{Load, closed_loop};
use crate::server::Server;

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let (bare, rate) = bare::around(bench, &bench.tiny, || accepted(bench))?;
    Ok(vec![
        Figure::new("accepted", "jobs/s", rate)
            .beside("posix_spawn, 2 processes", bare.rate())
            .wanted(Target::RatioAtLeast(0.7)),
    ])
}

fn accepted(bench: &Bench) -> io::Result<f64> {
    let server = Server::start(bench, 2, &task("tiny", &bench.tiny))?;
    server.call("POST", "/v1/tasks/tiny/pause", 200)?;
    let request = server.submit("tiny");
    let count = bench.size.pick(20_000, 200);
    let load = |count| Load {
        address: server.address,
        request: &request,
        connections: CONNECTIONS,
        count,
        expected: 202,
    };
    closed_loop(&load(count / 10))?;
    Ok(count as f64 / closed_loop(&load(count))?.as_secs_f64())
}

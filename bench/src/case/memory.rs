//! T5: proportional set size of server and keeper together: idle, with sleeping jobs, with
//! idle connections that have each been answered once.

use std::io;
use std::time::Duration;

use super::task;
use crate::bench::{Bench, descriptors};
use crate::figure::{Figure, Target};
use crate::http::Connection;
use crate::load::{Load, closed_loop};
use crate::server::Server;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// For what ends soon after the work: threads, buffers.
const SETTLE: Duration = Duration::from_millis(300);

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let jobs = bench.size.pick(1_000, 30);
    let tasks = task("tiny", &bench.tiny) + &task("sleeper", &bench.sleeper) + "grace = \"100ms\"\n";
    let server = Server::start(bench, jobs as usize, &tasks)?;
    let idle = settled(&server)?;
    let with_jobs = sleeping(&server, jobs)?;
    drop(server);

    let server = Server::start(bench, 2, &tasks)?;
    let before = settled(&server)?;
    let (connections, with_connections) = connected(bench, &server)?;
    let for_all = bench.size.pick(10_000.0, connections as f64) / connections as f64;
    Ok(vec![
        Figure::new("idle", "MiB", idle / MEBIBYTE).wanted(Target::AtMost(16.0)),
        Figure::new("more with 1,000 sleeping jobs", "MiB", (with_jobs - idle) / MEBIBYTE)
            .wanted(Target::AtMost(10.0)),
        Figure::new("more with 10,000 connections", "MiB", (with_connections - before) * for_all / MEBIBYTE)
            .wanted(Target::AtMost(100.0)),
    ])
}

/// After one job, so that what is made once has been made.
fn settled(server: &Server) -> io::Result<f64> {
    server.run("tiny")?;
    std::thread::sleep(SETTLE);
    Ok(server.memory()? as f64)
}

fn sleeping(server: &Server, jobs: u64) -> io::Result<f64> {
    let request = server.submit("sleeper");
    closed_loop(&Load {
        address: server.address,
        request: &request,
        connections: 8,
        count: jobs,
        expected: 202,
    })?;
    server.wait_for("sleeper", Duration::from_secs(30), |counts| counts.running == jobs)?;
    std::thread::sleep(SETTLE);
    Ok(server.memory()? as f64)
}

/// Fewer where there are not enough descriptors; the server halves what it has.
fn connected(bench: &Bench, server: &Server) -> io::Result<(usize, f64)> {
    let most = usize::try_from(descriptors() / 2).unwrap_or(usize::MAX).saturating_sub(400);
    let count = bench.size.pick(10_000, 200).min(most);
    let request = server.request("GET", "/healthz", &[], "");
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(server.address)?;
        connection.call(&request)?.json(200)?;
        connections.push(connection);
    }
    let memory = server.memory()? as f64;
    Ok((connections.len(), memory))
}

//! T3: how long a client waits for its 202 at a steady 100 requests a second, while the
//! jobs run. Beside it: 4 KiB appended and synced on the same disk at the same pace.

use std::io;
use std::time::Duration;

use super::jobs::SLOTS;
use super::task;
use crate::bare;
use crate::bench::Bench;
use crate::figure::{Figure, Target};
use crate::load::open_loop;
use crate::server::Server;

/// 100 a second.
const EVERY: Duration = Duration::from_millis(10);

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let count = bench.size.pick(800, 50);
    let folder = bench.folder()?;
    let disk = bare::fsync(folder.path(), count / 2, EVERY)?;
    let server = Server::start(bench, SLOTS, &task("tiny", &bench.tiny))?;
    server.run("tiny")?;
    let answers = open_loop(server.address, &server.submit("tiny"), count, EVERY)?;
    Ok(vec![
        Figure::new("p50", "us", answers.quantile(0.5))
            .beside("fsync p50", disk.quantile(0.5))
            .wanted(Target::AtMost(800.0)),
        Figure::new("p99", "us", answers.quantile(0.99))
            .beside("fsync p99", disk.quantile(0.99))
            .wanted(Target::AtMost(1600.0)),
    ])
}

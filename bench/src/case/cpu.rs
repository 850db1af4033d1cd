//! T4: processor time of server and keeper for each tiny job; that of the jobs themselves is
//! their own. Beside it: what the bare loop needs for itself.

use std::io;

use super::jobs::{SLOTS, run_jobs};
use super::task;
use crate::bare;
use crate::bench::Bench;
use crate::figure::{Figure, Target};
use crate::server::Server;

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let bare = bare::spawners(bench, &bench.tiny, 1)?.cpu_us();
    let server = Server::start(bench, SLOTS, &task("tiny", &bench.tiny))?;
    let count = bench.size.pick(10_000, 100);
    let before = server.cpu()?;
    run_jobs(&server, count)?;
    let after = server.cpu()?;
    let each = |after: std::time::Duration, before| (after - before).as_secs_f64() * 1e6 / count as f64;
    let (of_server, of_keeper) = (each(after.0, before.0), each(after.1, before.1));
    Ok(vec![
        Figure::new("server + keeper", "us/job", of_server + of_keeper)
            .beside("posix_spawn loop, itself", bare)
            .wanted(Target::AtMost(150.0)),
        Figure::new("server", "us/job", of_server),
        Figure::new("keeper", "us/job", of_keeper),
    ])
}

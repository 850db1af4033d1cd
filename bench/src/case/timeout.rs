//! T7: how long after deadline and grace jobs end that ignore TERM, many at once, by the
//! run time that the product recorded (whole milliseconds).

use std::io;
use std::time::Duration;

use super::task;
use crate::bench::Bench;
use crate::figure::{Figure, Target};
use crate::load::{Load, closed_loop};
use crate::sample::Sample;
use crate::server::Server;

/// Time-out and grace of the task.
const BOUND: Duration = Duration::from_millis(1200);
const BOUNDS: &str = "timeout = \"1s\"\ngrace = \"200ms\"\n";

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let few = lateness(bench, bench.size.pick(200, 20))?;
    let many = lateness(bench, bench.size.pick(1_000, 40))?;
    Ok(vec![
        Figure::new("late, 200 at once, p50", "ms", few.median()),
        Figure::new("late, 200 at once, p99", "ms", few.quantile(0.99)).wanted(Target::AtMost(20.0)),
        Figure::new("late, 200 at once, max", "ms", few.largest()),
        Figure::new("late, 1,000 at once, p50", "ms", many.median()),
        Figure::new("late, 1,000 at once, p99", "ms", many.quantile(0.99)).wanted(Target::AtMost(20.0)),
        Figure::new("late, 1,000 at once, max", "ms", many.largest()),
    ])
}

fn lateness(bench: &Bench, jobs: u64) -> io::Result<Sample> {
    let tasks = task("stubborn", &bench.stubborn) + BOUNDS;
    let server = Server::start(bench, jobs as usize, &tasks)?;
    let request = server.submit("stubborn");
    closed_loop(&Load {
        address: server.address,
        request: &request,
        connections: 16,
        count: jobs,
        expected: 202,
    })?;
    server.wait_for("stubborn", Duration::from_secs(30), |counts| counts.finished == jobs)?;
    let page = server.call("GET", &format!("/v1/jobs?task=stubborn&limit={jobs}"), 200)?;
    let items = page["items"].as_array().ok_or_else(|| io::Error::other("a page without items"))?;
    let late = items.iter().map(|job| {
        let ended = job["state"].as_str() == Some("timed_out");
        let run = job["run_ms"].as_f64().filter(|_| ended);
        run.map(|run| run - BOUND.as_millis() as f64)
            .ok_or_else(|| io::Error::other(format!("not ended by its time-out: {job}")))
    });
    Ok(Sample::new(late.collect::<io::Result<_>>()?))
}

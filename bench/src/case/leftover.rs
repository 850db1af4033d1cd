//! How soon a client has the result of a job whose leader exits while a grandchild still
//! holds the output; beside it the same job without a grandchild.

use std::io;
use std::time::Instant;

use crate::bench::Bench;
use crate::figure::{Figure, Target};
use crate::sample::Sample;
use crate::server::Server;

const TASKS: &str = "
[task.holding]
command = ['sh', '-c', 'sleep 30 & exit 0']
[task.plain]
command = ['sh', '-c', 'exit 0']
";

pub(super) fn run(bench: &Bench) -> io::Result<Vec<Figure>> {
    let server = Server::start(bench, 2, TASKS)?;
    let count = bench.size.pick(30, 3);
    server.run("plain")?;
    let (mut holding, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..count {
        plain.push(time(&server, "plain")?);
        holding.push(time(&server, "holding")?);
    }
    let (holding, plain) = (Sample::new(holding), Sample::new(plain));
    Ok(vec![
        Figure::new("result, p50", "ms", holding.median())
            .beside("without grandchild", plain.median())
            .wanted(Target::AtMost(200.0)),
        Figure::new("result, max", "ms", holding.largest())
            .beside("without grandchild", plain.largest())
            .wanted(Target::AtMost(200.0)),
    ])
}

/// Milliseconds from request to result.
fn time(server: &Server, task: &str) -> io::Result<f64> {
    let begin = Instant::now();
    let job = server.run(task)?;
    let time = begin.elapsed().as_secs_f64() * 1000.0;
    match job["exit_code"].as_i64() {
        Some(0) => Ok(time),
        _ => Err(io::Error::other(format!("the job did not succeed: {job}"))),
    }
}

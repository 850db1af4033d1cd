//! Measures the product beside the bare limit of the same machine, in the same run.
//!
//! `bench/run` builds and starts this. It starts every server it measures, on scratch
//! folders and on loopback, and ends them by their own process ids. It decides nothing about
//! the product: figures and their targets only. The same binary is also the job that writes
//! and the bare loop that spawns (see [`role`]).

mod arguments;
mod bare;
mod bench;
mod case;
mod figure;
mod http;
mod load;
mod machine;
mod pace;
mod process;
mod program;
mod report;
mod role;
mod sample;
mod server;

use std::io;
use std::process::ExitCode;

use arguments::Wish;
use bench::Bench;
use report::Report;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == role::MARK) {
        return role::play(&words[1..]);
    }
    match arguments::read(&words) {
        Ok(wish) => match measure(&wish) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        },
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::from(2)
        }
    }
}

/// Every case once, then every case again: what the machine does besides hits them alike.
fn measure(wish: &Wish) -> io::Result<()> {
    let bench = Bench::prepare(wish.size)?;
    let mut report = Report::new(wish);
    for repetition in 1..=wish.repetitions {
        for case in &wish.cases {
            let busy = if wish.wait_for_quiet { machine::wait_for_quiet() } else { machine::busy_share() };
            eprintln!(
                "{repetition}/{} {} (machine {:.0} % busy before)",
                wish.repetitions,
                case.name,
                busy * 100.0
            );
            let figures = (case.run)(&bench)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", case.name)))?;
            report.add(case, busy, figures);
        }
    }
    print!("{}", report.table());
    match &wish.json {
        Some(path) => std::fs::write(path, report.json()),
        None => Ok(()),
    }
}

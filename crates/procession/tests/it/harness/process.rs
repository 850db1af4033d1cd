//! Processes: starting those that tests need, and what `/proc` says of others.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;

/// A program to run.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests start the program and its helpers, which are no jobs"
    )]
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROCESSION_"))
    {
        command.env_remove(name);
    }
    command
}

/// A helper that ends with its test.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // One that has ended and is not reaped takes it as well.
        let _ = kill_process(pid(self.0.id()), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends a process by SIGKILL, as a crash would.
pub fn kill(process: u32) {
    kill_process(pid(process), Signal::KILL).expect("it runs");
}

/// Sends a signal to a process that runs.
pub fn signal(process: u32, signal: Signal) {
    kill_process(pid(process), signal).expect("it runs");
}

/// A process id as rustix has it.
pub fn pid(id: u32) -> Pid {
    Pid::from_raw(id as i32).expect("a process id is not 0")
}

/// A field of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM`.
#[track_caller]
pub fn memory_kib(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{field} in {status}"))
}

/// Living processes in whose environment `text` stands.
pub fn processes_with(text: &str) -> Vec<u32> {
    let ids = fs::read_dir("/proc").expect("/proc").flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|&id| is_alive(id) && environment_holds(id, text)).collect()
}

/// Whether it runs: a zombie does not.
pub fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn environment_holds(process: u32, text: &str) -> bool {
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    environment.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Asks a child of ours to end, twice, as a person would; then ends it, and reaps it.
pub fn end(child: &mut Child, patience: Duration) {
    let began = std::time::Instant::now();
    let mut asked = 0;
    wait_for("a child ends", patience * 4, || {
        let due = patience / 4 * asked;
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        if asked < 2 && began.elapsed() >= due {
            let _ = kill_process(pid(child.id()), Signal::TERM);
            asked += 1;
        } else if began.elapsed() > patience {
            let _ = child.kill();
        }
        false
    });
}

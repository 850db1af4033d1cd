//! The bare limits: what the same machine does in the same run with nothing of the product
//! around it.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::pace::Pace;
use crate::process::own_cpu;
use crate::role;
use crate::sample::Sample;

/// What a loop of `posix_spawn` and `waitpid` did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spawned {
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
    /// Of the loop itself, without its children.
    pub(crate) cpu: Duration,
}

impl Spawned {
    /// A second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// Of the loop itself, for each child.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count as f64
    }

    fn read(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        Some(Self {
            count: numbers.next()??,
            elapsed: Duration::from_micros(numbers.next()??),
            cpu: Duration::from_micros(numbers.next()??),
        })
    }
}

impl fmt::Display for Spawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.count, self.elapsed.as_micros(), self.cpu.as_micros())
    }
}

/// Starts and reaps `program` over and over for `time`, one at a time.
pub(crate) fn spawn_and_wait(program: &str, time: Duration) -> io::Result<Spawned> {
    let path = CString::new(program)?;
    let argv = [path.as_ptr().cast_mut(), ptr::null_mut()];
    let envp = [ptr::null_mut()];
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let (mut pid, mut status) = (0, 0);
        // SAFETY: path, argv and envp are null-terminated and outlive the call; no actions
        // and attributes are given; the pid is that of our own child.
        unsafe {
            let failed = libc::posix_spawn(
                &mut pid,
                path.as_ptr(),
                ptr::null(),
                ptr::null(),
                argv.as_ptr(),
                envp.as_ptr(),
            );
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
            if libc::waitpid(pid, &mut status, 0) != pid {
                return Err(io::Error::last_os_error());
            }
        }
        if status != 0 {
            return Err(io::Error::other(format!("{program} ended with {status:#x}")));
        }
        count += 1;
    }
    Ok(Spawned { count, elapsed: begin.elapsed(), cpu: own_cpu() })
}

/// The loop in two processes, half of it before `work` and half after: what others do to the
/// machine meanwhile is more likely to hit both. Returns what the loop and the work did.
pub(crate) fn around<T>(
    bench: &Bench,
    program: &Path,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<(Spawned, T)> {
    let before = spawners(bench, program, 2)?;
    let done = work()?;
    let after = spawners(bench, program, 2)?;
    let sum = Spawned {
        count: before.count + after.count,
        elapsed: before.elapsed + after.elapsed,
        cpu: before.cpu + after.cpu,
    };
    Ok((sum, done))
}

/// The same loop in so many processes at once; the sum of what they did.
pub(crate) fn spawners(bench: &Bench, program: &Path, processes: usize) -> io::Result<Spawned> {
    let time = bench.size.pick(700, 100).to_string();
    let start = |_| {
        Command::new(&bench.myself)
            .args([role::MARK, "spawner"])
            .arg(program)
            .arg(&time)
            .stdout(Stdio::piped())
            .spawn()
    };
    let children = (0..processes).map(start).collect::<io::Result<Vec<_>>>()?;
    let mut sum = Spawned::default();
    for child in children {
        let said = String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned();
        let one = Spawned::read(&said).ok_or_else(|| io::Error::other("the bare spawn loop failed"))?;
        sum.count += one.count;
        sum.cpu += one.cpu;
        sum.elapsed = sum.elapsed.max(one.elapsed);
    }
    Ok(sum)
}

/// Times of appending 4 KiB and waiting for the disk, in microseconds, at a steady pace.
pub(crate) fn fsync(folder: &Path, count: u32, every: Duration) -> io::Result<Sample> {
    let file = File::create(folder.join("fsync"))?;
    let mut times = Vec::new();
    let pace = Pace::start(every);
    for index in 0..count {
        pace.wait(index);
        let begin = Instant::now();
        file.write_all_at(&[index as u8; 4096], u64::from(index) * 4096)?;
        // SAFETY: the descriptor is open.
        if unsafe { libc::fdatasync(file.as_raw_fd()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Sample::new(times))
}

/// Seconds that `program ARGS > file` takes, or `program ARGS | cat > file`.
pub(crate) fn redirected(command: &mut Command, file: &Path, through_cat: bool) -> io::Result<f64> {
    let begin = Instant::now();
    let target = Stdio::from(File::create(file)?);
    if through_cat {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let pipe = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Command::new("cat").stdin(Stdio::from(pipe)).stdout(target).status()?;
        child.wait()?;
    } else {
        command.stdout(target).status()?;
    }
    let time = begin.elapsed().as_secs_f64();
    std::fs::remove_file(file)?;
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spawner_says_is_read_back() {
        let said = Spawned { count: 3, elapsed: Duration::from_micros(5), cpu: Duration::from_micros(7) };
        assert_eq!(Spawned::read(&said.to_string()), Some(said));
        assert_eq!(Spawned::read("3 x"), None);
    }
}

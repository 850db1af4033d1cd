//! What `/proc` says of a process: memory and processor time.

use std::fs;
use std::io;
use std::time::Duration;

/// Processor time of a process, its threads together.
pub(crate) fn cpu(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, so fields count from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(Duration::from_secs(1) * (user + system) / ticks_a_second()),
        _ => Err(io::Error::other("/proc/PID/stat cannot be read")),
    }
}

fn ticks_a_second() -> u32 {
    // SAFETY: no pointers.
    u32::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

/// Our own processor time, without children.
pub(crate) fn own_cpu() -> Duration {
    // SAFETY: all zeros is a valid `rusage`, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Proportional set size in bytes.
pub(crate) fn pss(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The most resident memory since [`forget_peak`], in bytes.
pub(crate) fn peak(pid: u32) -> io::Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The peak is what is resident now.
pub(crate) fn forget_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// A line in kB, as bytes.
fn field(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.map(|kilobytes| kilobytes * 1024).ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_figures() {
        let pid = std::process::id();
        assert!(pss(pid).expect("readable") > 0);
        assert!(peak(pid).expect("readable") >= resident(pid).expect("readable") / 2);
        assert!(cpu(pid).is_ok());
    }
}

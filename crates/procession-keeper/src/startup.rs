//! The keeper makes itself fit to be a parent: whatever it inherited, its children get what
//! was decided.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getpid, getrlimit, set_child_subreaper, setrlimit, umask};

use crate::notify::VARIABLES;
use crate::sys::signals;

/// What the keeper was given and changed for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    /// Open files: soft and hard, given back to jobs.
    pub(crate) nofile: (u64, u64),
    /// Runs at another niceness than 0.
    pub(crate) niced: bool,
    /// Processes that have nothing to do with jobs may be or become our children: as PID 1
    /// everybody's orphans do.
    pub(crate) strangers: bool,
}

/// Changes this process, once, before it has children. Must be its only thread.
pub(crate) fn settle() -> Result<Inherited, Errno> {
    signals::take_over();
    fill_standard_descriptors()?;
    close_on_exec()?;
    // Orphans of our trees come to us, not to init.
    set_child_subreaper(Some(getpid()))?;
    fresh_keyring();
    umask(Mode::from_raw_mode(0o077));
    // Children inherit it, and between clone and exec they cannot set it without setting
    // ours: it belongs to the memory, which is shared.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let niced = rustix::process::getpriority_process(None).is_ok_and(|nice| nice != 0);
    let strangers = getpid().as_raw_nonzero().get() == 1
        || crate::orphans::children().is_none_or(|children| !children.is_empty());
    Ok(Inherited { nofile: raise_open_files(), niced, strangers })
}

/// What servers get, and a keeper that is renewed, from now on; what a service manager said to
/// this process stays.
pub(crate) fn replace_environment(variables: &[bytes::Bytes]) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let ours = |name: &OsStr| VARIABLES.iter().any(|variable| name == *variable);
    // Odd names (`=C:`) cannot be set, and not be removed either.
    let plain = |name: &OsStr| !name.is_empty() && !name.as_bytes().contains(&b'=');
    let names = std::env::vars_os().map(|(name, _)| name);
    let old: Vec<_> = names.filter(|name| !ours(name) && plain(name)).collect();
    for name in old {
        // SAFETY: this process has one thread.
        unsafe { std::env::remove_var(name) };
    }
    for variable in variables {
        let Some(at) = variable.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (OsStr::from_bytes(&variable[..at]), OsStr::from_bytes(&variable[at + 1..]));
        if !ours(name) && plain(name) && !variable.contains(&0) {
            // SAFETY: this process has one thread.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// So that no descriptor of ours is ever 0, 1 or 2, which children overwrite.
fn fill_standard_descriptors() -> Result<(), Errno> {
    loop {
        let null = crate::dev_null()?;
        if std::os::fd::AsRawFd::as_raw_fd(&null) > 2 {
            return Ok(());
        }
        // Stays open for good.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(null);
    }
}

/// Everything inherited ends at exec.
fn close_on_exec() -> Result<(), Errno> {
    let call = [3, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: sets a flag on descriptors; takes no pointers.
    if unsafe { crate::sys::raw::syscall(libc::SYS_close_range, call) } == 0 {
        return Ok(());
    }
    // Before Linux 5.11.
    let names = std::fs::read_dir("/proc/self/fd").map_err(|_| Errno::NOSYS)?;
    for number in names.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if number > 2 {
            // SAFETY: sets a flag on a descriptor, open or not; takes no pointers.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Keys of whoever started us are not for jobs. A kernel without keyrings has none to hide.
fn fresh_keyring() {
    const JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    unsafe { crate::sys::raw::syscall(libc::SYS_keyctl, [JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]) };
}

/// Several descriptors an attempt: as many as we may have.
fn raise_open_files() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    (number(limit.current), number(limit.maximum))
}

/// Open for reading and writing, shared by all who want nothing.
pub(crate) fn dev_null() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

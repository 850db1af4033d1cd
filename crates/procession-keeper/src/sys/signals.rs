//! The keeper's own signals: none reaches a handler, all come through a descriptor.
//!
//! Dispositions are reset because children inherit what is ignored (a keeper started by
//! `nohup`, or under an ignored SIGCHLD, would pass that on and lose exit codes).

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Every signal to its default; all blocked, so that none ends the keeper between the two.
pub(crate) fn take_over() {
    // The kernel's own struct for x86_64 and aarch64 is at most this long; all zero is
    // SIG_DFL, no flags, empty mask.
    let default = [0u64; 4];
    for signal in 1..=64usize {
        // The raw call: libc refuses to touch 32 and 33, which a `posix_spawn` that started
        // us may have left ignored. KILL and STOP answer EINVAL.
        let call = [signal, &raw const default as usize, 0, 8, 0, 0];
        // SAFETY: rt_sigaction reads the zeroed struct, which outlives the call.
        unsafe { super::raw::syscall(libc::SYS_rt_sigaction, call) };
    }
    let all = u64::MAX;
    let call = [libc::SIG_SETMASK as usize, &raw const all as usize, 0, 8, 0, 0];
    // SAFETY: rt_sigprocmask reads the 8-byte mask, which outlives the call.
    unsafe { super::raw::syscall(libc::SYS_rt_sigprocmask, call) };
}

/// These do nothing to this process any more, nor to what it executes.
pub(crate) fn ignore(signals: &[i32]) {
    for signal in signals {
        // SAFETY: installs no code.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

/// A non-blocking descriptor on which the given signals are read.
pub(crate) fn descriptor(signals: &[i32]) -> Result<OwnedFd, Errno> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that sigaddset and signalfd then use; the new
    // descriptor is owned by nobody else.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The signals that came since the last call, each at most once.
pub(crate) fn read(descriptor: &OwnedFd) -> Vec<i32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; 16 * SIZE];
    let mut signals = vec![];
    while let Ok(length) = rustix::io::read(descriptor, &mut buffer)
        && length > 0
    {
        for info in buffer[..length].chunks_exact(SIZE) {
            signals.push(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]));
        }
    }
    signals
}

/// `errno` of the libc call just made.
pub(super) fn last_error() -> Errno {
    let errno = std::io::Error::last_os_error().raw_os_error();
    errno.map_or(Errno::INVAL, Errno::from_raw_os_error)
}

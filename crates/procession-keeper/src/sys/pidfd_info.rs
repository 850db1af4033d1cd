//! How a process ended that is not our child, asked through its handle (Linux 6.15).

use std::os::fd::{AsRawFd, BorrowedFd};

/// The kernel's struct in its first size.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(0xff, 11, 64 bytes)`.
const PIDFD_GET_INFO: u64 = 0xc040_ff0b;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

const _: () = assert!(size_of::<Info>() == 64);

/// Its raw wait status, once its parent has reaped it; `None` before that and on a kernel
/// that does not tell.
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the kernel writes at most the 64 bytes that the request names, and `info` has.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::fork::fork;
    use crate::sys::process::{has_ended, reap};

    #[test]
    fn f02_a_status_is_told_after_the_reaping_and_not_before() {
        // SAFETY: ends the copy at once.
        let child = fork(|| unsafe { libc::_exit(7) }).expect("a child");
        while !has_ended(child.pidfd.as_fd()) {}
        assert_eq!(exit_status(child.pidfd.as_fd()), None, "a zombie has a parent that may want it");
        assert_eq!(reap(child.pid).expect("ours").0, 7 << 8);
        let status = exit_status(child.pidfd.as_fd());
        // An older kernel says nothing, and so do we.
        assert!(status.is_none() || status == Some(7 << 8), "{status:?}");
    }
}

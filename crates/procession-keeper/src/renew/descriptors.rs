//! Descriptors that go from one program to the next: named by their numbers in an image,
//! open across exec, owned again behind it.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use procession_core::frame::image::{self, Fd};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::Pid;

use crate::spawn::Process;

/// What an image names that is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Missing {
    /// Closed, named twice, or never one of ours.
    #[error("descriptor {0} is not to be had")]
    Descriptor(i32),
    #[error("{0} is no process id")]
    Process(i32),
}

/// Descriptors that an image under way names.
#[derive(Debug, Default)]
pub(crate) struct Names<'a> {
    named: Vec<BorrowedFd<'a>>,
}

impl<'a> Names<'a> {
    pub(crate) fn of(&mut self, fd: BorrowedFd<'a>) -> Fd {
        self.named.push(fd);
        Fd(fd.as_raw_fd())
    }

    pub(crate) fn process(&mut self, process: &'a Process) -> image::Process {
        use std::os::fd::AsFd;
        image::Process { pid: process.pid.as_raw_nonzero().get(), pidfd: self.of(process.pidfd.as_fd()) }
    }

    /// All of them stay open at exec, or none does.
    pub(crate) fn keep(&self) -> Result<(), Errno> {
        let kept = self.named.iter().try_for_each(|fd| fcntl_setfd(fd, FdFlags::empty()));
        kept.inspect_err(|_| self.let_go())
    }

    /// All of them are closed at exec, as ever.
    pub(crate) fn let_go(&self) {
        for fd in &self.named {
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
    }
}

/// Descriptors that the program before left open for us; each is taken once.
#[derive(Debug, Default)]
pub(crate) struct Given {
    taken: HashSet<i32>,
}

impl Given {
    pub(crate) fn take(&mut self, Fd(number): Fd) -> Result<OwnedFd, Missing> {
        // The standard ones are nobody's; -1 is none.
        if number < 3 || !self.taken.insert(number) {
            return Err(Missing::Descriptor(number));
        }
        // SAFETY: not -1, and only asked whether it is open.
        let asked = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_getfd(asked).map_err(|_| Missing::Descriptor(number))?;
        // SAFETY: open, left to this process by the program before for whoever reads its image,
        // and taken once.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    pub(crate) fn process(&mut self, process: image::Process) -> Result<Process, Missing> {
        Ok(Process { pid: pid(process.pid)?, pidfd: self.take(process.pidfd)? })
    }
}

pub(crate) fn pid(number: i32) -> Result<Pid, Missing> {
    // Numbers below are groups, or everybody.
    (number > 0).then(|| Pid::from_raw(number)).flatten().ok_or(Missing::Process(number))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn each_descriptor_is_taken_once_and_only_if_it_is_open() {
        let null = crate::dev_null().expect("there");
        let mut names = Names::default();
        let name = names.of(null.as_fd());
        names.keep().expect("open");
        assert_eq!(fcntl_getfd(&null), Ok(FdFlags::empty()));
        names.let_go();
        assert_eq!(fcntl_getfd(&null), Ok(FdFlags::CLOEXEC));
        std::mem::forget(null);
        let mut given = Given::default();
        drop(given.take(name).expect("open"));
        assert!(given.take(name).is_err(), "twice");
        assert!(Given::default().take(name).is_err(), "closed");
        for nobodys in [-1, 0, 2] {
            assert!(given.take(Fd(nobodys)).is_err());
        }
        assert!(pid(0).is_err() && pid(-7).is_err() && pid(7).is_ok());
    }
}

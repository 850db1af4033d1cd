//! A stream whose pipe others hold too: little stays in the pipe until it is old or the
//! attempt is over, so that nothing is in the keeper's memory alone and a keeper that is
//! killed loses none of it.

use procession_core::limits::INLINE_OUTPUT;
use rustix::io::{Errno, ioctl_fionread};

use super::{Sink, Stream};

impl Stream {
    /// From now on, unless it has a file already. Whoever waits for the pipe must then wait
    /// for news, not for bytes: these stay where they are.
    pub(crate) fn be_patient(&mut self) {
        self.write_out();
        self.patient = matches!(&self.sink, Sink::Memory { bytes, tried: false } if bytes.is_empty());
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }

    /// What stands in the pipe is taken from now on. Recorded is not yet written down: a keeper
    /// that is killed in between must not have had it in memory alone.
    pub(crate) fn stop_waiting(&mut self) {
        if self.patient {
            self.write_out();
        }
        self.patient = false;
    }

    /// Whether anything stands in the pipe.
    pub(super) fn is_pending(&self) -> bool {
        ioctl_fionread(&self.pipe).is_ok_and(|bytes| bytes > 0)
    }

    /// Leaves little; makes a file for more.
    pub(super) fn by_waiting(&mut self) -> Result<usize, Errno> {
        match ioctl_fionread(&self.pipe) {
            // Empty, or at its end: reading tells which.
            Ok(0) => self.by_memory(),
            Ok(bytes) if bytes <= self.limit.min(INLINE_OUTPUT as u64) => Err(Errno::AGAIN),
            _ => {
                self.begin_file();
                Err(Errno::INTR)
            }
        }
    }
}

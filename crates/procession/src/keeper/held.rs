//! Duplicates of what the keeper owns of each attempt, held for its death: see
//! `scheduler/bereaved.rs`. Of no use while it lives.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_core::frame::{Held, ToServer};
use procession_core::id::AttemptKey;

/// Descriptors by attempt.
#[derive(Debug, Default)]
pub struct HeldTable {
    attempts: Mutex<HashMap<AttemptKey, (Held, Vec<OwnedFd>)>>,
}

impl HeldTable {
    /// All that is held, and no longer here.
    pub fn take(&self) -> Vec<(Held, Vec<OwnedFd>)> {
        self.lock().drain().map(|(_, held)| held).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptKey, (Held, Vec<OwnedFd>)>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Descriptors that have come and whose frames have not, in their order.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub(super) fds: Vec<OwnedFd>,
    /// Some are missing, so it is not known whose the others are: none is believed.
    broken: bool,
    waiting: VecDeque<OwnedFd>,
}

impl Arrivals {
    /// What `fds` got in one message; `truncated`: not all of it.
    pub(super) fn arrived(&mut self, truncated: bool) {
        self.broken |= truncated;
        self.waiting.extend(self.fds.drain(..));
        if self.broken {
            self.waiting.clear();
        }
    }

    /// Whether no more have come than frames have taken.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The descriptors of the frame that is next; `None`: not all of them are there.
    pub(super) fn take(&mut self, wanted: usize) -> Option<Vec<OwnedFd>> {
        (!self.broken && self.waiting.len() >= wanted).then(|| self.waiting.drain(..wanted).collect())
    }

    /// Gives each HELD its descriptors, and forgets those of attempts that are over; other
    /// frames pass.
    pub(super) fn sort(&mut self, frame: ToServer, table: &HeldTable) -> Option<ToServer> {
        match frame {
            ToServer::Held(held) => {
                if let Some(fds) = self.take(held.descriptors()) {
                    table.lock().insert(held.key, (held, fds));
                }
                None
            }
            ToServer::Exited(record) => {
                table.lock().remove(&record.key);
                Some(ToServer::Exited(record))
            }
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use procession_core::record::ExitRecord;

    use super::*;

    fn held(stdout: bool) -> Held {
        let key = ExitRecord::for_testing().key;
        Held { key, stdout, stderr: false, cgroup: Bytes::new(), started_us: 0, cookie: Bytes::new() }
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("there").into()
    }

    #[test]
    fn f02_each_attempt_has_its_own_descriptors_until_it_is_over() {
        let (mut arrivals, table) = (Arrivals::default(), HeldTable::default());
        arrivals.fds = vec![null(), null()];
        arrivals.arrived(false);
        assert_eq!(arrivals.sort(ToServer::Held(held(true)), &table), None);
        assert_eq!(table.lock().values().map(|(_, fds)| fds.len()).collect::<Vec<_>>(), [2]);
        let over = ToServer::Exited(ExitRecord::for_testing());
        assert_eq!(arrivals.sort(over.clone(), &table), Some(over));
        assert!(table.take().is_empty());
    }

    #[test]
    fn f02_where_descriptors_are_missing_none_is_taken_for_anothers() {
        let (mut arrivals, table) = (Arrivals::default(), HeldTable::default());
        arrivals.fds = vec![null()];
        arrivals.arrived(true);
        assert_eq!(arrivals.sort(ToServer::Held(held(true)), &table), None);
        arrivals.fds = vec![null(), null()];
        arrivals.arrived(false);
        assert_eq!(arrivals.sort(ToServer::Held(held(true)), &table), None);
        assert!(table.take().is_empty());
    }
}

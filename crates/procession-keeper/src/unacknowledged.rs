//! Records the server has not yet committed, in the order the attempts ended.

use std::collections::{BTreeMap, HashMap};

use procession_core::id::AttemptKey;
use procession_core::record::ExitRecord;

/// At most one record an attempt.
#[derive(Debug, Default)]
pub(crate) struct Unacknowledged {
    records: BTreeMap<u64, ExitRecord>,
    order: HashMap<AttemptKey, u64>,
    next: u64,
}

impl Unacknowledged {
    pub(crate) fn insert(&mut self, record: ExitRecord) {
        if !self.contains(record.key) {
            self.order.insert(record.key, self.next);
            self.records.insert(self.next, record);
            self.next += 1;
        }
    }

    pub(crate) fn acknowledge(&mut self, key: AttemptKey) -> Option<ExitRecord> {
        self.records.remove(&self.order.remove(&key)?)
    }

    pub(crate) fn contains(&self, key: AttemptKey) -> bool {
        self.order.contains_key(&key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ExitRecord> {
        self.records.values()
    }
}

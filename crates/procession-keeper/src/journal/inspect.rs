//! A look at a journal from outside, without touching it: for `procession doctor`. What the
//! keeper makes of it at its next start is `journal`'s business.

use std::io::Read;
use std::path::Path;

use procession_core::frame::journal::{Entry, read};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{HEADER, MAGIC};
use crate::file::open_regular;
use crate::unacknowledged::Unacknowledged;

/// What a journal looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalState {
    /// Whether it begins as a journal does.
    pub is_journal: bool,
    /// Whether it was begun since the machine was started: another one is not read.
    pub this_boot: bool,
    /// Records of ends that no server has committed.
    pub unacknowledged: usize,
    /// Bytes at its end that are no whole entry: the next start cuts them off.
    pub torn: u64,
}

/// Looks at the journal in `folder`; `None`: there is none yet.
///
/// # Errors
/// It is there and cannot be read.
pub fn inspect_journal(folder: &Path) -> std::io::Result<Option<JournalState>> {
    let file = match open_regular(&folder.join("journal"), OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![];
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    let header = HEADER as usize;
    let is_journal = bytes.len() >= header && bytes[..8] == *MAGIC;
    let this_boot = is_journal && bytes[8..header] == crate::boot_id()?;
    let mut state = JournalState { is_journal, this_boot, unacknowledged: 0, torn: 0 };
    if is_journal {
        let entries = bytes.split_off(header);
        let length = entries.len();
        let (entries, whole) = read(entries.into());
        let mut left = Unacknowledged::default();
        for entry in entries {
            match entry {
                Entry::Record(record) => left.insert(*record),
                Entry::Ack(key) => drop(left.acknowledge(key)),
            }
        }
        state.unacknowledged = left.iter().count();
        state.torn = (length - whole) as u64;
    }
    Ok(Some(state))
}

#[cfg(test)]
mod tests {
    use procession_core::record::ExitRecord;

    use super::*;

    #[test]
    fn f04_a_torn_end_is_measured_and_left_alone() {
        let folder = tempfile::TempDir::new().expect("a folder");
        assert_eq!(inspect_journal(folder.path()).expect("read"), None);
        let boot = crate::boot_id().expect("a boot id");
        let (mut journal, mut left) = super::super::Journal::open(folder.path(), boot).expect("opened");
        let record = ExitRecord::for_testing();
        journal.record(&record);
        left.insert(record);
        journal.flush(&left);
        drop(journal);
        let path = folder.path().join("journal");
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend([9; 5]);
        std::fs::write(&path, &bytes).expect("written");
        let whole = JournalState { is_journal: true, this_boot: true, unacknowledged: 1, torn: 5 };
        assert_eq!(inspect_journal(folder.path()).expect("read"), Some(whole));
        assert_eq!(std::fs::read(&path).expect("read"), bytes);
        std::fs::write(&path, "something else, and long enough").expect("written");
        let other = inspect_journal(folder.path()).expect("read").expect("there");
        assert!(!other.is_journal);
    }
}

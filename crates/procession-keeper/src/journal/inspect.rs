//! A look at a journal from outside, without touching it: for `procession doctor`, and for the
//! server of a keeper that is dead. What the next keeper makes of it is `journal`'s business.

use std::io::Read;
use std::path::Path;

use procession_core::record::ExitRecord;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{HEADER, MAGIC, unacknowledged};
use crate::file::open_regular;

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
    let Some(mut bytes) = contents(folder)? else { return Ok(None) };
    let (is_journal, this_boot) = whose(&bytes, crate::boot_id()?);
    let mut state = JournalState { is_journal, this_boot, unacknowledged: 0, torn: 0 };
    if is_journal {
        let entries = bytes.split_off(HEADER as usize);
        let length = entries.len();
        let (left, whole) = unacknowledged(entries.into());
        state.unacknowledged = left.iter().count();
        state.torn = (length - whole) as u64;
    }
    Ok(Some(state))
}

/// What the journal in `folder` has of this boot that no server has committed.
pub(crate) fn records(folder: &Path) -> std::io::Result<Vec<ExitRecord>> {
    let Some(mut bytes) = contents(folder)? else { return Ok(vec![]) };
    if whose(&bytes, crate::boot_id()?) != (true, true) {
        return Ok(vec![]);
    }
    let (left, _) = unacknowledged(bytes.split_off(HEADER as usize).into());
    Ok(left.iter().cloned().collect())
}

fn contents(folder: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match open_regular(&folder.join("journal"), OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![];
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Whether it is a journal, and one of this boot.
fn whose(bytes: &[u8], boot_id: [u8; 16]) -> (bool, bool) {
    let header = HEADER as usize;
    let is_journal = bytes.len() >= header && bytes[..8] == *MAGIC;
    (is_journal, is_journal && bytes[8..header] == boot_id)
}

#[cfg(test)]
mod tests {

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

//! Whether a store may lie where it is asked to lie: on a file system of this machine, one
//! that can be written. Asked by `open` before anything is made or opened, and by the program
//! before it starts at all. That only one program opens a store is not checked here.
//!
//! SQLite's log is shared through memory that is mapped from a file, and its locks are the
//! kernel's: over a network neither reaches the other machine, and the first that does not
//! know of the other destroys the database.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use super::open::folder_of;
use crate::error::StoreError;

/// What a file system is to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// On this machine, or unknown and therefore taken for one.
    Local,
    /// Other machines see the same files.
    Network(&'static str),
    /// A program serves it, and what it keeps, where, and for whom cannot be told.
    Program(&'static str),
}

/// The file systems that are refused, by the number `statfs` gives (Linux's `magic.h`).
const REFUSED: [(u32, Kind); 22] = [
    (0x0000_6969, Kind::Network("NFS")),
    (0x0000_517b, Kind::Network("SMB")),
    (0xff53_4d42, Kind::Network("CIFS")),
    (0xfe53_4d42, Kind::Network("SMB2")),
    (0x0000_564c, Kind::Network("NCP")),
    // Also a folder of the host in a virtual machine, or of Windows in WSL.
    (0x0102_1997, Kind::Network("9p")),
    (0x5346_414f, Kind::Network("AFS")),
    (0x6b41_4653, Kind::Network("AFS")),
    (0x7375_7245, Kind::Network("Coda")),
    (0x00c3_6400, Kind::Network("Ceph")),
    (0x0bd0_0bd0, Kind::Network("Lustre")),
    (0x4750_4653, Kind::Network("GPFS")),
    (0x1983_0326, Kind::Network("BeeGFS")),
    (0x2003_0528, Kind::Network("OrangeFS")),
    (0xaad7_aaea, Kind::Network("PanFS")),
    // Their locks reach all machines, their mapped memory does not.
    (0x0116_1970, Kind::Network("GFS2")),
    (0x7461_636f, Kind::Network("OCFS2")),
    (0x786f_4256, Kind::Network("vboxsf")),
    (0xbacb_acbc, Kind::Network("vmhgfs")),
    (0x7c7c_6673, Kind::Network("prlfs")),
    // sshfs and S3 mounts look the same as a local encrypted folder, and so does a folder of
    // the host in a virtual machine (virtiofs). A store that is wrongly refused is moved in a
    // minute; one that was wrongly taken is lost.
    (0x6573_5546, Kind::Program("FUSE")),
    (0x6573_5543, Kind::Program("FUSE control")),
];

/// By the file system's number alone.
fn kind(magic: u32) -> Kind {
    REFUSED.iter().find(|(number, _)| *number == magic).map_or(Kind::Local, |(_, kind)| *kind)
}

/// What is wrong with a place of this kind, and what to do.
fn complaint(kind: Kind) -> Option<(String, &'static str)> {
    const HINT: &str = "put data_dir on a disk of this machine";
    match kind {
        Kind::Local => None,
        Kind::Network(name) => {
            Some((format!("it is on a network file system ({name}), where SQLite loses data"), HINT))
        }
        Kind::Program(name) => Some((
            format!(
                "it is on a file system of another program ({name}), of which nobody knows what it keeps"
            ),
            HINT,
        )),
    }
}

/// Refuses a folder, or a file in one, that no store may lie in. What is not there yet is
/// judged by its folder.
///
/// # Errors
/// [`StoreError::Refused`], with the path and what to do.
pub fn check_place(path: &Path) -> Result<(), StoreError> {
    let there = if path.exists() { path } else { folder_of(path) };
    let refused = |what: &dyn std::fmt::Display, hint: &str| {
        Err(StoreError::Refused(format!("{} cannot be used: {what}; {hint}", path.display())))
    };
    let found = match statfs(there) {
        Ok(found) => found,
        Err(error) => return refused(&error, "check that its folder is there and can be read"),
    };
    // The number is 32 bits, whatever the width and sign of the field.
    if let Some((what, hint)) = complaint(kind(found.f_type as u32)) {
        return refused(&what, hint);
    }
    if is_read_only(there) {
        return refused(
            &"its file system is mounted read-only",
            "mount it for writing (the kernel does so by itself when a disk fails: see `dmesg`), \
             or set another data_dir",
        );
    }
    Ok(())
}

/// Whether nobody can write where this is.
pub(super) fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Refuses a database file that cannot be written, though its file system can: SQLite
/// would open it all the same, and fail at the first job.
pub(super) fn check_writable(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => {
                    "make it writable for the user the server runs as (see `ls -l` and `lsattr`)"
                }
                ErrorKind::ReadOnlyFilesystem => "mount its file system for writing, or set another data_dir",
                _ => "check that it is a file, and whose",
            };
            let path = path.display();
            Err(StoreError::Refused(format!("the store {path} cannot be written: {error}; {hint}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f13_which_file_systems_are_refused() {
        let table = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x0102_1997, "9p"),
            (0x5346_414f, "AFS"),
            (0x00c3_6400, "Ceph"),
            (0x6573_5546, "FUSE"),
            (0x0bd0_0bd0, "Lustre"),
            (0x786f_4256, "vboxsf"),
        ];
        for (magic, name) in table {
            let (what, hint) = complaint(kind(magic)).unwrap_or_else(|| panic!("{name} is taken"));
            assert!(what.contains(name), "{what}");
            assert!(hint.contains("data_dir"));
        }
        // ext4, XFS, btrfs, tmpfs, overlayfs, ZFS, F2FS, ramfs, exFAT, bcachefs.
        for local in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2fc1_2fc1,
            0xf2f5_2010,
            0x8584_58f6,
            0x2011_bab0,
            0xca45_1a4e,
        ] {
            assert_eq!(kind(local), Kind::Local, "{local:x}");
        }
    }

    #[test]
    fn f13_no_number_stands_twice() {
        let mut numbers: Vec<u32> = REFUSED.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), REFUSED.len());
    }

    #[test]
    fn f13_a_folder_that_is_missing_is_judged_by_the_one_it_would_be_in() {
        let folder = tempfile::TempDir::new().expect("a folder");
        assert_eq!(check_place(&folder.path().join("store.db")), Ok(()));
        let missing = check_place(&folder.path().join("no/store.db"));
        assert!(
            matches!(&missing, Err(StoreError::Refused(text)) if text.contains("no/store.db")),
            "{missing:?}"
        );
    }
}

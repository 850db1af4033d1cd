//! F13: places that cannot be written, for real: a tmpfs that is mounted read-only, a file
//! that nobody may write. Network file systems are a table in `sqlite/place.rs`.

use std::fs;
use std::path::Path;

use procession_store::sqlite::check_place;
use procession_store::{SqliteStore, StoreError};
use tempfile::TempDir;

use crate::fixture::*;

/// A file system of its own, unmounted in the end.
struct Mounted(TempDir);

impl Mounted {
    /// `None`: this machine lets nobody mount.
    fn new() -> Option<Self> {
        let folder = TempDir::new().expect("a scratch folder");
        let mounted =
            program("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("not tested here: mounting a tmpfs takes root");
        None
    }

    fn read_only(&self) {
        let done =
            program("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status().expect("mount runs");
        assert!(done.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        program("umount").arg("-l").arg(self.0.path()).status().expect("umount runs");
    }
}

fn refusal(path: &Path) -> String {
    match SqliteStore::open(path) {
        Err(StoreError::Refused(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

#[tokio::test]
async fn f13_a_file_system_that_is_read_only_is_refused_with_path_and_remedy() {
    let Some(disk) = Mounted::new() else { return };
    let path = disk.0.path().join("store.db");
    let store = SqliteStore::open(&path).expect("a new store");
    let id = put(&store, job("a", 0)).await;
    drop(store);
    disk.read_only();
    let before = fs::read(&path).expect("read");
    for place in [path.clone(), disk.0.path().join("other.db")] {
        let said = refusal(&place);
        assert!(said.contains(&*place.to_string_lossy()) && said.contains("read-only"), "{said}");
        assert!(said.contains("data_dir"), "no remedy: {said}");
    }
    assert!(check_place(disk.0.path()).is_err());
    assert_eq!(fs::read(&path).expect("read"), before);
    let done = program("mount").args(["-o", "remount,rw"]).arg(disk.0.path()).status().expect("mount runs");
    assert!(done.success());
    let store = SqliteStore::open(&path).expect("writable again");
    assert_eq!(state(&store, id).await, procession_core::state::JobState::Queued);
}

#[tokio::test]
async fn f13_a_file_that_cannot_be_written_is_refused_with_path_and_remedy() {
    let (_folder, path) = place();
    drop(SqliteStore::open(&path).expect("a new store"));
    // Its mode would not hold root back.
    let immutable = |flag: &str| program("chattr").arg(flag).arg(&path).status().is_ok_and(|s| s.success());
    if !immutable("+i") {
        eprintln!("not tested here: making a file immutable takes root and a file system that can");
        return;
    }
    let said = refusal(&path);
    assert!(immutable("-i"));
    assert!(said.contains(&*path.to_string_lossy()) && said.contains("make it writable"), "{said}");
    SqliteStore::open(&path).expect("writable again");
}

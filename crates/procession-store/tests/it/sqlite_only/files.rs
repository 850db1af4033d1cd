//! F10 and F11: files that are not the store they should be.

use std::fs;
use std::path::Path;

use procession_store::{SqliteStore, Store, StoreError};

use crate::fixture::*;

/// The refusal to open the file at `path`, which it must not have changed.
fn refusal(path: &Path) -> String {
    let before = fs::read(path).ok();
    let refused = match SqliteStore::open(path) {
        Err(StoreError::Refused(text)) => text,
        Err(other) => panic!("{}: {other:?}", path.display()),
        Ok(_) => panic!("{} was opened", path.display()),
    };
    assert_eq!(fs::read(path).ok(), before, "{}: {refused}", path.display());
    assert!(refused.contains(';'), "no hint: {refused}");
    refused
}

/// A store with some jobs, closed.
async fn closed() -> (tempfile::TempDir, std::path::PathBuf) {
    let (folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    for n in 0..300 {
        store.submit(job("a", n)).await.expect("taken");
    }
    drop(store);
    (folder, path)
}

#[tokio::test]
async fn f10_truncated() {
    let (_folder, path) = closed().await;
    let whole = fs::read(&path).expect("read");
    for len in [1, 50, 100, 4_096, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).expect("written");
        refusal(&path);
    }
}

#[tokio::test]
async fn f10_damaged_anywhere() {
    let (_folder, path) = closed().await;
    let whole = fs::read(&path).expect("read");
    let page = 4_096;
    for at in [0, 16, page, 3 * page, whole.len() / 2 / page * page, whole.len() - page] {
        let mut damaged = whole.clone();
        damaged[at..(at + 64).min(whole.len())].fill(0x5a);
        fs::write(&path, &damaged).expect("written");
        refusal(&path);
    }
    fs::write(&path, &whole).expect("written");
    SqliteStore::open(&path).expect("whole again");
}

#[test]
fn f10_zero_length() {
    let (_folder, path) = place();
    fs::write(&path, b"").expect("written");
    assert!(refusal(&path).contains("empty"));
}

#[test]
fn f10_foreign() {
    let (folder, path) = place();
    fs::write(&path, "dear diary, ".repeat(100)).expect("written");
    assert!(refusal(&path).contains("not a SQLite database"));
    let other = folder.path().join("other.db");
    let conn = rusqlite::Connection::open(&other).expect("opens");
    conn.execute_batch("CREATE TABLE diary (day TEXT); PRAGMA user_version = 1").expect("made");
    drop(conn);
    assert!(refusal(&other).contains("another program"));
    assert!(refusal(folder.path()).contains("not a file"));
    let names: Vec<_> = fs::read_dir(folder.path()).expect("listed").collect();
    assert_eq!(names.len(), 2, "nothing was made beside them");
}

#[tokio::test]
async fn f10_newer() {
    let (_folder, path) = closed().await;
    let conn = rusqlite::Connection::open(&path).expect("opens");
    conn.execute_batch("PRAGMA user_version = 7").expect("set");
    // Only the log says so while another connection is open.
    let copy = path.with_file_name("copy.db");
    for (from, to) in [("store.db", "copy.db"), ("store.db-wal", "copy.db-wal")] {
        fs::copy(path.with_file_name(from), path.with_file_name(to)).expect("copied");
    }
    assert!(refusal(&copy).contains("newer version (schema 7, this one knows 4)"));
    drop(conn);
    assert!(refusal(&path).contains("newer version (schema 7, this one knows 4)"));
}

#[tokio::test]
async fn f10_a_log_without_its_database() {
    let (_folder, path) = place();
    fs::write(path.with_file_name("store.db-wal"), [1; 100]).expect("written");
    assert!(refusal(&path).contains("restore the two together"));
    assert!(!path.exists());
}

#[test]
fn a_half_made_store_is_made_anew() {
    let (_folder, path) = place();
    fs::write(path.with_file_name("store.db.new"), "half of a database").expect("written");
    SqliteStore::open(&path).expect("a new store");
    assert!(!path.with_file_name("store.db.new").exists());
}

#[test]
fn a_folder_that_is_not_there_is_said() {
    let (folder, _) = place();
    assert!(refusal(&folder.path().join("missing/store.db")).contains("folder"));
}

#[tokio::test]
async fn f11_a_log_that_was_deleted_stops_the_store() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    put(&store, job("a", 0)).await;
    fs::remove_file(path.with_file_name("store.db-wal")).expect("removed");
    for n in 1..3 {
        let answer = store.submit(job("a", n)).await;
        assert!(matches!(answer, Err(StoreError::Disk(_))), "{answer:?}");
    }
    assert!(matches!(store.probe().await, Err(StoreError::Disk(_))));
}

#[tokio::test]
async fn f11_a_database_that_was_replaced_stops_the_store() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    put(&store, job("a", 0)).await;
    let copy = path.with_file_name("copy.db");
    fs::copy(&path, &copy).expect("copied");
    fs::rename(&copy, &path).expect("replaced");
    assert!(matches!(store.probe().await, Err(StoreError::Disk(_))));
    assert!(matches!(store.submit(job("a", 1)).await, Err(StoreError::Disk(_))));
}

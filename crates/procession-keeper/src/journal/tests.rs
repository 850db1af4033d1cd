//! What is written is there for the next keeper, and no more of it than counts.

use std::fs;

use procession_core::id::{Fence, JobId};
use procession_core::record::{Containment, Ending, StreamRecord, Usage};

use super::*;

const BOOT: [u8; 16] = [1; 16];

fn record(fence: u64) -> ExitRecord {
    ExitRecord {
        key: AttemptKey { job: JobId::from_bytes([2; 16]), fence: Fence(fence) },
        ending: Ending::Ended { wait_status: 0, stopped: None },
        started_us: 1,
        finished_us: 2,
        run_us: 1,
        usage: Usage::default(),
        leaked: 0,
        stdout: StreamRecord { tail: vec![b'x'; 8000].into(), ..StreamRecord::default() },
        stderr: StreamRecord::default(),
        containment: Containment::Cgroup,
        cookie: "cookie".into(),
    }
}

fn fences(left: &Unacknowledged) -> Vec<u64> {
    left.iter().map(|record| record.key.fence.0).collect()
}

fn add(journal: &mut Journal, left: &mut Unacknowledged, fence: u64) {
    journal.record(&record(fence));
    left.insert(record(fence));
    journal.flush(left);
}

fn acknowledge(journal: &mut Journal, left: &mut Unacknowledged, fence: u64) {
    let key = record(fence).key;
    journal.acknowledge(key);
    assert!(left.acknowledge(key).is_some());
    journal.flush(left);
}

#[test]
fn the_next_keeper_finds_what_was_not_acknowledged() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    for fence in 0..5 {
        add(&mut journal, &mut left, fence);
    }
    acknowledge(&mut journal, &mut left, 2);
    drop(journal);
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    assert_eq!(fences(&left), [0, 1, 3, 4]);
    assert_eq!(left.iter().next(), Some(&record(0)));
    add(&mut journal, &mut left, 9);
    let (_, left) = Journal::open(folder.path(), BOOT).expect("opens");
    assert_eq!(fences(&left), [0, 1, 3, 4, 9]);
}

#[test]
fn a_torn_end_is_cut_off_and_written_over() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    add(&mut journal, &mut left, 0);
    add(&mut journal, &mut left, 1);
    let path = folder.path().join("journal");
    let length = fs::metadata(&path).expect("there").len();
    File::options().write(true).open(&path).and_then(|file| file.set_len(length - 3)).expect("cut");
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    assert_eq!(fences(&left), [0]);
    add(&mut journal, &mut left, 2);
    let (_, left) = Journal::open(folder.path(), BOOT).expect("opens");
    assert_eq!(fences(&left), [0, 2]);
}

#[test]
fn another_boot_or_another_file_is_begun_anew() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    add(&mut journal, &mut left, 0);
    let (_, left) = Journal::open(folder.path(), [9; 16]).expect("opens");
    assert!(left.is_empty());
    fs::write(folder.path().join("journal"), "something else entirely, of some length").expect("written");
    let (_, left) = Journal::open(folder.path(), BOOT).expect("opens");
    assert!(left.is_empty());
    assert_eq!(fs::metadata(folder.path().join("journal")).expect("there").len(), HEADER);
}

#[test]
fn it_stays_small() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("journal");
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    for fence in 0..100 {
        add(&mut journal, &mut left, fence);
        acknowledge(&mut journal, &mut left, fence);
        let length = fs::metadata(&path).expect("there").len();
        assert!(length < WORTH_CUTTING + 10_000, "{length}");
    }
    // One that is never acknowledged does not keep all that came after it.
    add(&mut journal, &mut left, 1000);
    for fence in 1001..3000 {
        add(&mut journal, &mut left, fence);
        acknowledge(&mut journal, &mut left, fence);
        let length = fs::metadata(&path).expect("there").len();
        assert!(length < WORTH_REWRITING + 10_000, "{length}");
    }
    let (_, left) = Journal::open(folder.path(), BOOT).expect("opens");
    assert_eq!(fences(&left), [1000]);
}

#[test]
fn a_fifo_in_its_place_is_told_and_one_beside_it_goes() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let folder = tempfile::TempDir::new().expect("a folder");
    let fifo = |name: &str| mkfifoat(CWD, folder.path().join(name), Mode::from_raw_mode(0o600)).expect("new");
    fifo("journal");
    assert!(Journal::open(folder.path(), BOOT).is_err());
    fs::remove_file(folder.path().join("journal")).expect("there");
    let (mut journal, mut left) = Journal::open(folder.path(), BOOT).expect("opens");
    fifo("journal.new");
    // One that counts, and enough that does not to be worth it.
    add(&mut journal, &mut left, 0);
    for fence in 1..5 {
        add(&mut journal, &mut left, fence);
        acknowledge(&mut journal, &mut left, fence);
    }
    journal.rewrite(&left).expect("the fifo is gone");
    assert!(fs::symlink_metadata(folder.path().join("journal")).expect("there").is_file());
    assert!(!folder.path().join("journal.new").exists());
}

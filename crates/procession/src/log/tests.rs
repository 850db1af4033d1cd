//! The writer and the archive on a real folder, with a disk that fails at every operation in
//! turn: no line twice, none torn, and those that are missing are counted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::read::GzDecoder;
use jiff::Timestamp;

use super::archive::{Tidied, put_stderr_aside, tidy};
use super::disk::{Disk, Local, Standing};
use super::rotation::{Archived, Form};
use super::writer::Writer;
use crate::config::Logging;

/// Fails the operations of a range, counted from 0. The write before the first of them is cut
/// short, as on a disk that runs full.
#[derive(Clone, Debug)]
struct Faulty {
    done: Arc<AtomicUsize>,
    failing: Range<usize>,
}

impl Faulty {
    fn at(failing: Range<usize>) -> Self {
        Self { done: Arc::default(), failing }
    }

    fn pass(&self) -> io::Result<()> {
        let number = self.done.fetch_add(1, Ordering::Relaxed);
        if self.failing.contains(&number) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for Faulty {
    fn open(&self, path: &Path) -> io::Result<File> {
        self.pass()?;
        Local.open(path)
    }

    fn read(&self, path: &Path) -> io::Result<File> {
        self.pass()?;
        Local.read(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.pass()?;
        Local.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        self.pass()?;
        let short = self.failing.start == self.done.load(Ordering::Relaxed);
        Local.write(file, if short { &bytes[..bytes.len().div_ceil(2)] } else { bytes })
    }

    fn standing(&self, path: &Path) -> io::Result<Standing> {
        self.pass()?;
        Local.standing(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass()?;
        Local.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass()?;
        Local.remove(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.pass()?;
        Local.names(folder)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.pass()?;
        Local.sync(file)
    }

    fn clear(&self, file: &File) -> io::Result<()> {
        self.pass()?;
        Local.clear(file)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000_000 + second).expect("a time")
}

fn rules() -> Logging {
    Logging { max_size: Some(200), max_age: None, keep: None, expire: None, ..Logging::default() }
}

fn line(number: usize) -> String {
    format!("{{\"time\":\"{:.6}\",\"number\":{number}}}\n", at(0))
}

/// All that a reader of the folder finds, oldest first.
fn text_of(folder: &Path) -> String {
    let names = Local.names(folder).expect("a folder");
    let mut over: Vec<(Archived, Form)> = names.iter().filter_map(|name| Archived::parse(name)).collect();
    over.retain(|(archived, form)| match form {
        Form::Plain => !names.contains(&archived.name(Form::Packed)),
        Form::Packed => true,
        Form::Half => false,
    });
    over.sort();
    let mut text = String::new();
    for (archived, form) in over {
        let file = File::open(folder.join(archived.name(form))).expect("readable");
        let read = match form {
            Form::Packed => GzDecoder::new(file).read_to_string(&mut text),
            _ => { &file }.read_to_string(&mut text),
        };
        read.expect("whole");
    }
    text + &fs::read_to_string(folder.join("procession.log")).unwrap_or_default()
}

/// The numbers of the lines, and how many the log says it lost.
fn numbers(text: &str) -> (Vec<u64>, u64) {
    let values = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let (mut numbers, mut lost) = (Vec::new(), 0);
    for value in values {
        numbers.extend(value["number"].as_u64());
        lost += value["lines"].as_u64().unwrap_or_default();
    }
    (numbers, lost)
}

const BATCHES: usize = 8;
const LINES: usize = 5;

/// Writes, rotates and compresses; how many lines were there before anything failed.
fn scenario(disk: &Faulty, folder: &Path) -> usize {
    let mut writer = Writer::new(disk.clone(), folder);
    let mut written = 0;
    for batch in 0..BATCHES {
        let lines: String = (batch * LINES..(batch + 1) * LINES).map(line).collect();
        // Later each time than what failed is put off for.
        let now = at(batch as i64 * 100);
        let done = writer.write(lines.as_bytes(), 0, Some(&rules()), now);
        if done.failed.is_none() && !writer.owes() && written == batch * LINES {
            written += LINES;
        }
        let _ = tidy(disk, folder, &rules(), now);
    }
    // What is owed is told as soon as it can be, also when nothing else is said.
    for second in 0..2 {
        writer.write(b"", 0, Some(&rules()), at(BATCHES as i64 * 100 + second));
    }
    written
}

fn tidied(folder: &Path) -> Tidied {
    tidy(&Local, folder, &rules(), at(10_000)).expect("a folder")
}

#[test]
fn f08_whatever_fails_once_lines_are_whole_in_order_and_the_missing_are_counted() {
    for n in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Faulty::at(n..n + 1);
        scenario(&disk, folder.path());
        let reached = disk.done.load(Ordering::Relaxed) > n;
        Writer::new(Local, folder.path()).write(line(1000).as_bytes(), 0, None, at(9000));
        assert!(tidied(folder.path()).failed.is_empty());
        let text = text_of(folder.path());
        let (numbers, lost) = numbers(&text);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{n}: {numbers:?}");
        assert_eq!(numbers.len() as u64 + lost, (BATCHES * LINES + 1) as u64, "{n}: {text}");
        assert!(lost <= (2 * LINES) as u64, "{n}: one failure costs a batch, or its report another");
        let names = Local.names(folder.path()).expect("a folder");
        assert!(
            names.iter().all(|name| name == "procession.log" || name.ends_with(".log.gz")),
            "{n}: {names:?}"
        );
        if !reached {
            assert!(n > 100, "only {n} operations: nothing was rotated or compressed");
            assert_eq!(lost, 0);
            return;
        }
    }
}

#[test]
fn a_crash_at_any_operation_leaves_every_line_written_before_it_once() {
    for n in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Faulty::at(n..usize::MAX);
        let written = scenario(&disk, folder.path());
        // The next server: half files count for nothing, and what is left is finished.
        let (before, _) = numbers(&text_of(folder.path()));
        Writer::new(Local, folder.path()).write(line(1000).as_bytes(), 0, None, at(9000));
        assert!(tidied(folder.path()).failed.is_empty());
        let (numbers, _) = numbers(&text_of(folder.path()));
        assert_eq!(numbers, [before.as_slice(), &[1000]].concat(), "{n}");
        assert!(numbers.iter().take(written).copied().eq(0..written as u64), "{n}: {written} {numbers:?}");
        if disk.done.load(Ordering::Relaxed) <= n {
            assert_eq!(written, BATCHES * LINES);
            return;
        }
    }
}

#[test]
fn the_file_is_private_and_made_anew_where_it_or_its_folder_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut writer = Writer::new(Local, &log);
    for n in 0..3 {
        let done = writer.write(line(n).as_bytes(), 0, None, at(0));
        assert!(done.failed.is_none(), "{done:?}");
        assert_eq!(fs::read_to_string(log.join("procession.log")).expect("there"), line(n));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&log), mode(&log.join("procession.log"))), (0o700, 0o600));
        fs::remove_dir_all(&log).expect("removed");
    }
}

#[test]
fn after_a_move_and_a_reopen_lines_go_to_the_new_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, moved) = (folder.path().join("procession.log"), folder.path().join("procession.log.1"));
    let mut writer = Writer::new(Local, folder.path());
    writer.write(line(1).as_bytes(), 0, None, at(0));
    fs::rename(&log, &moved).expect("moved");
    writer.reopen(at(1));
    assert_eq!(fs::read_to_string(&log).expect("there at once"), "");
    writer.write(line(2).as_bytes(), 0, None, at(2));
    assert_eq!(fs::read_to_string(&moved).expect("there"), line(1));
    assert_eq!(fs::read_to_string(&log).expect("there"), line(2));
}

#[test]
fn two_write_one_file_and_only_the_one_in_charge_rotates() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut old, mut new) = (Writer::new(Local, folder.path()), Writer::new(Local, folder.path()));
    for n in 0..200 {
        let (writer, rules) = if n % 2 == 0 { (&mut old, None) } else { (&mut new, Some(rules())) };
        let done = writer.write(line(n).as_bytes(), 0, rules.as_ref(), at(n as i64));
        assert!(done.rotated.is_empty() || n % 2 == 1, "{done:?}");
        tidied(folder.path());
    }
    assert_eq!(numbers(&text_of(folder.path())), ((0..200).collect(), 0));
}

#[test]
fn a_file_that_somebody_still_writes_to_is_not_compressed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut old, mut new) = (Writer::new(Local, folder.path()), Writer::new(Local, folder.path()));
    old.write(line(0).as_bytes(), 0, None, at(0));
    let filler: String = (1..20).map(line).collect();
    assert!(!new.write(filler.as_bytes(), 0, Some(&rules()), at(1)).rotated.is_empty());
    assert_eq!(tidied(folder.path()).busy, 1);
    drop(old);
    assert_eq!(tidied(folder.path()).busy, 0);
    assert_eq!(numbers(&text_of(folder.path())), ((0..20).collect(), 0));
}

#[test]
fn a_files_age_is_that_of_its_first_line_whoever_wrote_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = Logging { max_size: None, max_age: Some(Duration::from_secs(50)), ..rules() };
    Writer::new(Local, folder.path()).write(line(0).as_bytes(), 0, Some(&rules), at(0));
    let mut next = Writer::new(Local, folder.path());
    assert_eq!(next.write(line(1).as_bytes(), 0, Some(&rules), at(49)).rotated, [""; 0]);
    let rotated = next.write(line(2).as_bytes(), 0, Some(&rules), at(50)).rotated;
    assert_eq!(rotated, ["procession-20010909T014730Z.log"]);
    assert_eq!(fs::read_to_string(folder.path().join("procession.log")).expect("there"), line(2));
}

#[test]
fn a_line_torn_by_a_kill_is_closed_before_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("procession.log"), "{\"torn").expect("written");
    Writer::new(Local, folder.path()).write(line(1).as_bytes(), 0, None, at(0));
    let text = fs::read_to_string(folder.path().join("procession.log")).expect("there");
    assert_eq!(text, format!("{{\"torn\n{}", line(1)));
}

#[test]
fn a_large_stderr_log_is_put_aside_whole_and_whoever_holds_it_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("stderr.log");
    let keeper = Local.open(&path).expect("opened");
    let said = "said\n".repeat(300_000);
    Local.write(&keeper, &said.as_bytes()[..1 << 20]).expect("written");
    put_stderr_aside(&Local, folder.path(), at(0)).expect("nothing to do");
    assert_eq!(Local.names(folder.path()).expect("a folder"), ["stderr.log"]);
    Local.write(&keeper, &said.as_bytes()[1 << 20..]).expect("written");
    put_stderr_aside(&Local, folder.path(), at(0)).expect("done");
    Local.write(&keeper, b"more\n").expect("written");
    assert_eq!(fs::read_to_string(&path).expect("there"), "more\n");
    assert_eq!(tidied(folder.path()).busy, 0);
    let mut text = String::new();
    let packed = File::open(folder.path().join("stderr-20010909T014640Z.log.gz")).expect("compressed");
    GzDecoder::new(packed).read_to_string(&mut text).expect("whole");
    assert!(text == said, "{} bytes of {}", text.len(), said.len());
}

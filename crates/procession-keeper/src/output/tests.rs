//! What the integration tests cannot bring about from outside.

use std::io::Read;
use std::os::fd::OwnedFd;

use super::*;

#[test]
fn a_pipe_too_small_is_replaced_by_a_sealed_file() {
    // More than any pipe holds by default.
    let body: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let stdin = stdin_of(&body).expect("made");
    let mut read = vec![];
    std::fs::File::from(stdin.try_clone().expect("a copy")).read_to_end(&mut read).expect("readable");
    assert_eq!(read, body);
    assert!(rustix::io::write(&stdin, b"x").is_err(), "read-only");
    assert!(
        rustix::fs::fcntl_get_seals(&stdin).expect("a sealed file").contains(rustix::fs::SealFlags::WRITE)
    );
}

#[test]
fn a_small_body_is_a_pipe_that_ends() {
    let mut read = vec![];
    let stdin = stdin_of(b"hello").expect("made");
    std::fs::File::from(stdin).read_to_end(&mut read).expect("readable");
    assert_eq!(read, b"hello");
}

#[test]
fn what_cannot_be_written_early_stays_in_memory() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::io::ioctl_fionbio(&read, true).expect("ours");
    let mut stream = Stream::new(read, std::path::PathBuf::from("/proc/nowhere/stdout"), 1000);
    rustix::io::write(&write, b"hello").expect("room");
    assert_eq!(stream.take(), Progress::Empty);
    assert!(stream.is_waiting());
    stream.write_out();
    assert!(!stream.is_waiting(), "it is not tried again and again");
    drop(write);
    assert_eq!(stream.take(), Progress::Ended);
    let record = stream.close();
    assert_eq!((record.total, record.place, &record.tail[..]), (5, OutputPlace::Inline, &b"hello"[..]));
}

/// A stream into a file in `folder`, and the end to write to; it waits, as one that a server holds.
fn held(folder: &std::path::Path) -> (Stream, OwnedFd) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::io::ioctl_fionbio(&read, true).expect("ours");
    let mut stream = Stream::new(read, folder.join("stdout"), 1 << 20);
    stream.be_patient();
    assert!(stream.is_patient());
    (stream, write)
}

#[test]
fn p10_f02_what_is_in_the_file_of_a_held_stream_stays_there_when_it_ends_with_more_in_the_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stream, write) = held(folder.path());
    rustix::io::write(&write, &[b'a'; 20_000]).expect("room");
    assert_eq!(stream.take(), Progress::Empty);
    assert!(!stream.is_patient(), "more than stays in a pipe");
    rustix::io::write(&write, &[b'b'; 20_000]).expect("room");
    for _ in 0..2 {
        stream.stop_waiting();
    }
    drop(write);
    assert_eq!(stream.take(), Progress::Ended);
    let record = stream.close();
    assert_eq!((record.total, record.written), (40_000, 40_000));
    let all = std::fs::read(folder.path().join("stdout")).expect("there");
    assert_eq!(all, [[b'a'; 20_000], [b'b'; 20_000]].concat());
}

#[test]
fn f02_what_a_held_stream_has_in_memory_goes_to_its_file_before_what_stands_in_the_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stream, write) = held(folder.path());
    rustix::io::write(&write, b"first, ").expect("room");
    // As where it comes between the look whether there is anything and the read.
    stream.by_memory().expect("there is");
    rustix::io::write(&write, b"then").expect("room");
    stream.write_out();
    assert!(!stream.is_patient());
    drop(write);
    assert_eq!(stream.take(), Progress::Ended);
    assert_eq!(stream.close().total, 11);
    assert_eq!(std::fs::read(folder.path().join("stdout")).expect("there"), b"first, then");
}

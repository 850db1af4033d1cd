//! What the integration tests cannot bring about from outside.

use std::io::Read;

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

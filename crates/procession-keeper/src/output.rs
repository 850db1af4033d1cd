//! What an attempt writes: caught from its pipes, kept within its limit, told of.
//!
//! Little of it stays in memory and travels in the exit record; what is larger or older
//! goes to the attempt's files. The pipes are always emptied, whatever becomes of the bytes:
//! a full disk does not stop a program. `supervise` calls; `stream` holds one stream.

mod stream;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use bytes::Bytes;
use procession_core::launch::{OutputMode, OutputPlan};
use procession_core::limits::INLINE_OUTPUT;
use procession_core::record::{OutputPlace, StreamRecord};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::file::{create_anew, open_again};

pub(crate) use stream::{Progress, Stream};

/// The outputs of one attempt.
#[derive(Debug)]
pub(crate) enum Output {
    /// Through pipes; merged, both are the first.
    Pipes { stdout: Stream, stderr: Option<Stream> },
    /// Straight into files, held since they were made: by its end a program may have put
    /// anything at their paths.
    Files { stdout: File, stderr: File },
}

/// The ends that the program gets.
pub(crate) struct ChildEnds {
    pub(crate) stdout: OwnedFd,
    /// `None`: the same as stdout.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Makes pipes, or files, as the plan says. `owner` may open them again by their names in
/// `/proc/self/fd` (`> /dev/stderr`).
pub(crate) fn open(plan: &OutputPlan, owner: Option<(u32, u32)>) -> Result<(Output, ChildEnds), Errno> {
    let pipe = |path: &Bytes| -> Result<(Stream, OwnedFd), Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only our end: the program's is another open file, and has to block.
        rustix::io::ioctl_fionbio(&read, true)?;
        if let Some((uid, gid)) = owner {
            // All ones is no user; to become it fails later, with a name. Nor does it matter
            // here if we may not give the pipe away.
            let uid = (uid != u32::MAX).then(|| rustix::fs::Uid::from_raw(uid));
            let gid = (gid != u32::MAX).then(|| rustix::fs::Gid::from_raw(gid));
            let _ = rustix::fs::fchown(&write, uid, gid);
        }
        Ok((Stream::new(read, crate::path_of(path), plan.limit), write))
    };
    match plan.mode {
        OutputMode::Separate => {
            let (stdout, stdout_end) = pipe(&plan.stdout)?;
            let (stderr, stderr_end) = pipe(&plan.stderr)?;
            let ends = ChildEnds { stdout: stdout_end, stderr: Some(stderr_end) };
            Ok((Output::Pipes { stdout, stderr: Some(stderr) }, ends))
        }
        OutputMode::Merged => {
            let (stdout, end) = pipe(&plan.stdout)?;
            Ok((Output::Pipes { stdout, stderr: None }, ChildEnds { stdout: end, stderr: None }))
        }
        OutputMode::File => {
            let file = |path: &Bytes| -> Result<(File, OwnedFd), Errno> {
                let file = create(&crate::path_of(path), OFlags::RDWR)?;
                let end = open_again(&file, OFlags::WRONLY | OFlags::APPEND)?;
                Ok((file.into(), end))
            };
            let (stdout, stdout_end) = file(&plan.stdout)?;
            let (stderr, stderr_end) = file(&plan.stderr)?;
            let ends = ChildEnds { stdout: stdout_end, stderr: Some(stderr_end) };
            Ok((Output::Files { stdout, stderr }, ends))
        }
    }
}

/// A new file that only its owner reads, in a folder made with it.
fn create(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    match (create_anew(path, flags), path.parent()) {
        (Err(Errno::NOENT), Some(folder)) => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            create_anew(path, flags)
        }
        (result, _) => result,
    }
}

impl Output {
    /// The streams with their numbers, 0 for stdout.
    pub(crate) fn streams(&mut self) -> impl Iterator<Item = (usize, &mut Stream)> {
        let (first, second) = match self {
            Output::Pipes { stdout, stderr } => (Some(stdout), stderr.as_mut()),
            Output::Files { .. } => (None, None),
        };
        first.into_iter().chain(second).enumerate()
    }

    /// Bytes of each stream that readers of its file find.
    pub(crate) fn in_files(&mut self) -> [u64; 2] {
        let mut counts = [0; 2];
        self.streams().for_each(|(number, stream)| counts[number] = stream.in_file());
        counts
    }

    /// What is known at the end. The pipes are closed.
    pub(crate) fn close(self) -> (StreamRecord, StreamRecord) {
        match self {
            Output::Pipes { stdout, stderr } => {
                (stdout.close(), stderr.map(Stream::close).unwrap_or_default())
            }
            Output::Files { stdout, stderr } => (file_record(&stdout), file_record(&stderr)),
        }
    }
}

/// The record of a file that the program wrote itself.
fn file_record(file: &File) -> StreamRecord {
    let total = file.metadata().map(|meta| meta.len()).unwrap_or_default();
    let mut tail = vec![0; INLINE_OUTPUT.min(usize::try_from(total).unwrap_or(INLINE_OUTPUT))];
    let start = total - tail.len() as u64;
    let whole = file.read_exact_at(&mut tail, start).is_ok();
    let tail = if whole { tail.into() } else { Bytes::new() };
    StreamRecord { total, written: total, place: OutputPlace::File, tail }
}

/// A pipe that holds `bytes` and ends, or a sealed file in memory where the pipe is too
/// small (the kernel gives little ones to users with many).
pub(crate) fn stdin_of(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&write, true)?;
    match rustix::io::write(&write, bytes) {
        Ok(length) if length == bytes.len() => Ok(read),
        Ok(_) | Err(Errno::AGAIN) => sealed_file(bytes),
        Err(errno) => Err(errno),
    }
}

fn sealed_file(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all_at(bytes, 0).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // So that the program cannot write to it by its mode.
    open_again(&file, OFlags::RDONLY)
}

#[cfg(test)]
mod tests;

//! One stream: from its pipe to memory, then to its file, within its limit.
//!
//! A file is written by splice, so the bytes do not pass through the keeper; where that
//! does not work they are read and written. Once a file takes no more, bytes are read,
//! counted and dropped.

mod image;
mod inherit;
mod patience;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;
use procession_core::limits::INLINE_OUTPUT;
use procession_core::output::Layout;
use procession_core::record::{OutputPlace, StreamRecord};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

/// The most that is taken from one pipe before others have their turn.
const TURN: u64 = 1024 * 1024;

/// The pipe of a stream that has outgrown memory is made this large, for fewer turns.
const PIPE: usize = 256 * 1024;

const READ: usize = 64 * 1024;

/// After a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The pipe is empty.
    Empty,
    /// There is more.
    More,
    /// Nobody can write to it any more: it will never be readable again.
    Ended,
}

/// One stream of one attempt.
#[derive(Debug)]
pub(crate) struct Stream {
    pipe: OwnedFd,
    path: PathBuf,
    limit: u64,
    layout: Layout,
    total: u64,
    sink: Sink,
    /// See `patience`.
    patient: bool,
}

#[derive(Debug)]
enum Sink {
    /// All of it, at most INLINE_OUTPUT bytes; `tried`: its file could not be made early.
    Memory { bytes: Vec<u8>, tried: bool },
    /// Everything so far is in the file, by the layout.
    File { file: File, splices: bool },
    /// The first `written` bytes were taken; of the rest the last are in `tail`.
    Full { file: Option<File>, written: u64, tail: Vec<u8> },
}

impl Stream {
    pub(crate) fn new(pipe: OwnedFd, path: PathBuf, limit: u64) -> Self {
        let sink = Sink::Memory { bytes: vec![], tried: false };
        Self { pipe, path, limit, layout: Layout::new(limit), total: 0, sink, patient: false }
    }

    pub(crate) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Takes what stands in the pipe, at most a turn's worth.
    pub(crate) fn take(&mut self) -> Progress {
        let start = self.total;
        while self.total - start < TURN {
            let taken = match &mut self.sink {
                Sink::Memory { .. } if self.patient => self.by_waiting(),
                Sink::Memory { .. } => self.by_memory(),
                Sink::File { splices: true, .. } => self.by_splice(),
                Sink::File { splices: false, .. } | Sink::Full { .. } => self.by_reading(),
            };
            match taken {
                Ok(0) => return Progress::Ended,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Empty,
                Err(_) => return Progress::Ended,
            }
        }
        Progress::More
    }

    /// Whether bytes wait for a file, in memory or in the pipe.
    pub(crate) fn is_waiting(&self) -> bool {
        let Sink::Memory { bytes, tried: false } = &self.sink else { return false };
        !bytes.is_empty() || (self.patient && self.is_pending())
    }

    /// Bytes that readers of the file find.
    pub(crate) fn in_file(&self) -> u64 {
        match &self.sink {
            Sink::Memory { .. } => 0,
            Sink::File { .. } => self.total,
            Sink::Full { written, .. } => *written,
        }
    }

    /// From memory to the file before memory is full. If there is no making one, memory
    /// still holds everything.
    pub(crate) fn write_out(&mut self) {
        if self.is_waiting() {
            self.begin_file();
        }
    }

    /// What is in memory goes to a file, and what stands in the pipe will. If there is no making
    /// one, memory has to do.
    fn begin_file(&mut self) {
        self.patient = false;
        let Sink::Memory { bytes, .. } = &mut self.sink else { return };
        let bytes = std::mem::take(bytes);
        if let Err(bytes) = self.make_file(bytes) {
            self.sink = Sink::Memory { bytes, tried: true };
        }
    }

    pub(super) fn by_memory(&mut self) -> Result<usize, Errno> {
        let Sink::Memory { bytes, .. } = &mut self.sink else { return Ok(0) };
        // One byte more than fits tells a stream that is just full from one that overflows.
        let fits = self.limit.min(INLINE_OUTPUT as u64) as usize;
        let mut room = [0u8; INLINE_OUTPUT + 1];
        let length = rustix::io::read(&self.pipe, &mut room[..fits + 1 - bytes.len()])?;
        bytes.extend_from_slice(&room[..length]);
        self.total += length as u64;
        if bytes.len() > fits {
            let bytes = std::mem::take(bytes);
            if let Err(mut tail) = self.make_file(bytes) {
                tail.drain(..tail.len().saturating_sub(INLINE_OUTPUT));
                self.sink = Sink::Full { file: None, written: 0, tail };
            }
        }
        Ok(length)
    }

    /// Gives the bytes back if the file does not take them all.
    fn make_file(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Ok(file) = super::create(&self.path, OFlags::RDWR) else { return Err(bytes) };
        let file = File::from(file);
        if write(self.layout, &file, 0, &bytes).is_err() {
            return Err(bytes);
        }
        let _ = fcntl_setpipe_size(&self.pipe, PIPE);
        self.sink = Sink::File { file, splices: true };
        Ok(())
    }

    fn by_splice(&mut self) -> Result<usize, Errno> {
        let Sink::File { file, splices } = &mut self.sink else { return Ok(0) };
        let Some(place) = self.layout.place(self.total) else {
            *splices = false;
            return Err(Errno::INTR);
        };
        let mut at = place.at;
        let length = usize::try_from(place.len.min(TURN)).unwrap_or(READ);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        match splice(&self.pipe, None, &*file, Some(&mut at), length, flags) {
            Ok(length) => {
                self.total += length as u64;
                Ok(length)
            }
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => Err(errno),
            // Some filesystem cannot, or its disk is full: reading will tell which.
            Err(_) => {
                *splices = false;
                Err(Errno::INTR)
            }
        }
    }

    fn by_reading(&mut self) -> Result<usize, Errno> {
        let mut buffer = [0u8; READ];
        let length = rustix::io::read(&self.pipe, &mut buffer)?;
        let bytes = &buffer[..length];
        let failed = match &self.sink {
            Sink::File { file, .. } => write(self.layout, file, self.total, bytes).is_err(),
            _ => false,
        };
        if failed {
            self.stop_writing();
        }
        if let Sink::Full { tail, .. } = &mut self.sink {
            tail.extend_from_slice(bytes);
            let excess = tail.len().saturating_sub(INLINE_OUTPUT);
            tail.drain(..excess);
        }
        self.total += length as u64;
        Ok(length)
    }

    fn stop_writing(&mut self) {
        let full = Sink::Full { file: None, written: self.total, tail: vec![] };
        if let (Sink::File { file, .. }, Sink::Full { file: kept, .. }) =
            (std::mem::replace(&mut self.sink, full), &mut self.sink)
        {
            *kept = Some(file);
        }
    }

    /// What is known of it at its end.
    pub(crate) fn close(self) -> StreamRecord {
        let total = self.total;
        let (written, place, tail) = match self.sink {
            Sink::Memory { bytes, .. } => (total, OutputPlace::Inline, Bytes::from(bytes)),
            Sink::File { file, .. } => (total, OutputPlace::File, file_tail(self.layout, &file, total)),
            Sink::Full { file, written, tail } => {
                // What was dropped last is the stream's end; only where nothing followed
                // is it in the file.
                let tail = match file {
                    Some(file) if tail.is_empty() => file_tail(self.layout, &file, written),
                    _ => Bytes::from(tail),
                };
                (written, OutputPlace::File, tail)
            }
        };
        StreamRecord { total, written, place, tail }
    }
}

/// Writes `bytes`, which come after `written` others, where the layout puts them.
fn write(layout: Layout, file: &File, mut written: u64, mut bytes: &[u8]) -> std::io::Result<()> {
    while let Some(place) = layout.place(written)
        && !bytes.is_empty()
    {
        let fits = bytes.len().min(usize::try_from(place.len).unwrap_or(usize::MAX));
        file.write_all_at(&bytes[..fits], place.at)?;
        bytes = &bytes[fits..];
        written += fits as u64;
    }
    Ok(())
}

/// The last bytes of a stream, as far as they lie together.
fn file_tail(layout: Layout, file: &File, total: u64) -> Bytes {
    let mut tail = vec![];
    for segment in layout.segments(total).into_iter().rev() {
        let offset = segment.offset + segment.len;
        if offset != total - tail.len() as u64 || tail.len() == INLINE_OUTPUT {
            break;
        }
        let wanted = (INLINE_OUTPUT - tail.len()).min(usize::try_from(segment.len).unwrap_or(INLINE_OUTPUT));
        let mut bytes = vec![0; wanted];
        if file.read_exact_at(&mut bytes, segment.at + segment.len - wanted as u64).is_err() {
            break;
        }
        bytes.extend_from_slice(&tail);
        tail = bytes;
    }
    Bytes::from(tail)
}

//! Reads an attempt's output: what is kept of it, in the stream's order, whether it lies in
//! the store, in a file, or is still being written.
//!
//! Of a running attempt only what no later write can move is read: everything up to half
//! the limit. What comes after is read once the attempt is over.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use procession_core::job::StreamSummary;
use procession_core::output::{Layout, Segment};
use procession_core::record::OutputPlace;
use rustix::fs::{Mode, OFlags};

/// How much is read at once.
const CHUNK: u64 = 128 * 1024;

/// One output stream of one attempt, as far as it is known.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Bytes the program wrote, of which we know.
    pub total: u64,
    /// Bytes taken before writing the file failed.
    written: u64,
    /// Nothing more will come.
    pub over: bool,
    limit: u64,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    File(PathBuf),
    Open(Arc<File>),
}

/// What stands at a place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These bytes.
    Bytes(Bytes),
    /// A gap: so many bytes were dropped.
    Dropped(u64),
    /// Nothing yet, or nothing more.
    End,
}

/// A stretch of what a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the stream, by their place in the file.
    Kept(Segment),
    /// A line that stands for dropped bytes.
    Marker(Bytes),
}

impl Tail {
    /// A stream that has ended.
    pub fn ended(summary: &StreamSummary, limit: u64, file: PathBuf) -> Self {
        let source = match summary.place {
            OutputPlace::Inline => Source::Memory(summary.tail.clone()),
            OutputPlace::File => Source::File(file),
        };
        Self { total: summary.total, written: summary.written, over: true, limit, source }
    }

    /// A stream that is being written: `total` bytes have reached the file.
    pub fn running(total: u64, limit: u64, file: PathBuf) -> Self {
        Self { total, written: total, over: false, limit, source: Source::File(file) }
    }

    /// A stream that is being written and of which only the file tells how far: as much of it
    /// as is there by now.
    pub fn growing(limit: u64, file: PathBuf) -> Self {
        let total = open_regular(&file).and_then(|file| file.metadata()).map_or(0, |meta| meta.len());
        Self::running(total, limit, file)
    }

    /// Nothing, and nothing will come: the attempt never ran.
    pub fn empty() -> Self {
        Self { total: 0, written: 0, over: true, limit: 0, source: Source::Memory(Bytes::new()) }
    }

    /// Holds on to the file, so that what is read later is still there when the job has been
    /// removed meanwhile.
    pub fn open(mut self) -> io::Result<Self> {
        // Where nothing was written yet there is no file yet.
        if let (Source::File(path), false) = (&self.source, self.segments().is_empty()) {
            self.source = Source::Open(Arc::new(open_regular(path)?));
        }
        Ok(self)
    }

    /// What was dropped: first byte and length of each gap.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let lost = self.total - self.written;
        let middle = Layout::new(self.limit).dropped(self.written);
        middle.into_iter().chain((lost > 0).then_some((self.written, lost))).collect()
    }

    /// All a client gets, in order, with a marker line for each gap.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for segment in self.segments() {
            if segment.offset > at {
                pieces.push(Piece::Marker(marker(segment.offset - at)));
            }
            at = segment.offset + segment.len;
            pieces.push(Piece::Kept(segment));
        }
        if self.over && self.total > at {
            pieces.push(Piece::Marker(marker(self.total - at)));
        }
        pieces
    }

    fn segments(&self) -> Vec<Segment> {
        match &self.source {
            Source::Memory(bytes) if bytes.is_empty() => vec![],
            Source::Memory(bytes) => vec![Segment { offset: 0, at: 0, len: bytes.len() as u64 }],
            Source::File(_) | Source::Open(_) if self.over => Layout::new(self.limit).segments(self.written),
            Source::File(_) | Source::Open(_) => {
                let settled = self.total.min(self.limit / 2);
                Layout::new(self.limit).segments(settled)
            }
        }
    }

    /// What stands at byte `offset` of the stream; reads at most 128 KiB.
    pub fn read(&self, offset: u64) -> io::Result<Found> {
        for segment in self.segments() {
            if offset < segment.offset {
                return Ok(Found::Dropped(segment.offset - offset));
            }
            if offset < segment.offset + segment.len {
                let skip = offset - segment.offset;
                return self.read_at(segment.at + skip, segment.len - skip).map(Found::Bytes);
            }
        }
        let lost = if self.over { self.total.saturating_sub(offset) } else { 0 };
        Ok(if lost > 0 { Found::Dropped(lost) } else { Found::End })
    }

    /// At most 128 KiB of the kept bytes from place `at` of the file.
    pub fn read_at(&self, at: u64, len: u64) -> io::Result<Bytes> {
        let len = len.min(CHUNK) as usize;
        match &self.source {
            Source::Memory(bytes) => Ok(bytes.slice(at as usize..at as usize + len)),
            Source::File(path) => read_exactly(&open_regular(path)?, at, len),
            Source::Open(file) => read_exactly(file, at, len),
        }
    }
}

fn read_exactly(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// A job can put anything in its output's place: no link is followed, no pipe waited for.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("something else stands in the place of the output"));
    }
    Ok(file)
}

/// The line that stands for dropped bytes.
pub fn marker(dropped: u64) -> Bytes {
    format!("\n[procession: {dropped} bytes dropped]\n").into()
}

impl Piece {
    /// How many bytes of the answer it is.
    pub fn len(&self) -> u64 {
        match self {
            Piece::Kept(segment) => segment.len,
            Piece::Marker(line) => line.len() as u64,
        }
    }

    /// The part of it from `skip`, at most `most` bytes.
    fn part(&self, skip: u64, most: u64) -> Piece {
        let len = most.min(self.len() - skip);
        match self {
            Piece::Kept(s) => Piece::Kept(Segment { offset: s.offset + skip, at: s.at + skip, len }),
            Piece::Marker(line) => Piece::Marker(line.slice(skip as usize..(skip + len) as usize)),
        }
    }
}

/// Bytes `first..first + len` of the pieces laid end to end.
pub fn cut(pieces: &[Piece], first: u64, len: u64) -> Vec<Piece> {
    let (mut skip, mut left) = (first, len);
    let mut cut = Vec::new();
    for piece in pieces {
        if skip >= piece.len() {
            skip -= piece.len();
        } else if left > 0 {
            let part = piece.part(skip, left);
            (skip, left) = (0, left - part.len());
            cut.push(part);
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(kept: &[u8], total: u64, limit: u64) -> (tempfile::TempDir, Tail) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("stdout");
        std::fs::write(&path, kept).expect("written");
        let summary = StreamSummary { total, written: total, place: OutputPlace::File, tail: Bytes::new() };
        (folder, Tail::ended(&summary, limit, path))
    }

    fn all(tail: &Tail, pieces: &[Piece]) -> String {
        let bytes = pieces.iter().flat_map(|piece| match piece {
            Piece::Kept(segment) => tail.read_at(segment.at, segment.len).expect("readable"),
            Piece::Marker(line) => line.clone(),
        });
        String::from_utf8(bytes.collect()).expect("text")
    }

    #[test]
    fn a_gap_is_marked_and_ranges_cut_through_it() {
        // "0123456789abcdef" under a limit of 8: head 0123, ring c d e f.
        let (_folder, tail) = ended(b"0123cdef", 16, 8);
        let whole = "0123\n[procession: 8 bytes dropped]\ncdef";
        assert_eq!(all(&tail, &tail.pieces()), whole);
        assert_eq!(tail.gaps(), [(4, 8)]);
        for first in 0..whole.len() {
            for len in 0..whole.len() - first {
                let cut = cut(&tail.pieces(), first as u64, len as u64);
                assert_eq!(all(&tail, &cut), whole[first..first + len]);
            }
        }
    }

    #[test]
    fn reading_on_passes_the_gap() {
        let (_folder, tail) = ended(b"0123cdef", 16, 8);
        assert_eq!(tail.read(2).expect("read"), Found::Bytes(Bytes::from_static(b"23")));
        assert_eq!(tail.read(4).expect("read"), Found::Dropped(8));
        assert_eq!(tail.read(12).expect("read"), Found::Bytes(Bytes::from_static(b"cdef")));
        assert_eq!(tail.read(16).expect("read"), Found::End);
    }

    #[test]
    fn of_a_running_stream_only_what_stays_is_read() {
        let (folder, _) = ended(b"0123cdef", 16, 8);
        let tail = Tail::running(16, 8, folder.path().join("stdout"));
        assert_eq!(tail.read(0).expect("read"), Found::Bytes(Bytes::from_static(b"0123")));
        assert_eq!(tail.read(4).expect("read"), Found::End);
    }

    #[test]
    fn p36_what_a_full_disk_lost_is_marked_at_the_end() {
        let (folder, _) = ended(b"0123", 4, 100);
        let summary = StreamSummary { total: 10, written: 4, place: OutputPlace::File, tail: Bytes::new() };
        let tail = Tail::ended(&summary, 100, folder.path().join("stdout"));
        assert_eq!(all(&tail, &tail.pieces()), "0123\n[procession: 6 bytes dropped]\n");
        assert_eq!(tail.gaps(), [(4, 6)]);
    }
}

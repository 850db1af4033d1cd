//! A stream whose keeper is dead: its pipe is held here, its file tells how far it came.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use procession_core::output::Layout;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Sink, Stream};
use crate::file::open_regular;

impl Stream {
    /// Goes on where the file at `path` ends. Of a stream that has filled its limit only the
    /// head is known to be in order: where its ring stood was the keeper's knowledge. So the
    /// head is kept, and the rest, as far as it is seen, is counted as dropped.
    pub(crate) fn inherit(pipe: Option<OwnedFd>, path: PathBuf, limit: u64) -> Result<Self, Errno> {
        let pipe = match pipe {
            Some(pipe) => pipe,
            // One without writers has ended.
            None => pipe_with(PipeFlags::CLOEXEC)?.0,
        };
        let file = open_regular(&path, OFlags::RDWR).ok().map(File::from);
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        let sink = match file {
            None => Sink::Memory { bytes: vec![], tried: false },
            Some(file) if length < limit => Sink::File { file, splices: true },
            Some(file) => Sink::Full { file: Some(file), written: limit / 2, tail: vec![] },
        };
        Ok(Self { pipe, path, limit, layout: Layout::new(limit), total: length, sink, patient: false })
    }
}

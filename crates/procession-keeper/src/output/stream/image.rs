//! A stream, and the outputs of an attempt, as the next program of the keeper gets them.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use procession_core::frame::image;
use procession_core::output::Layout;

use super::{Sink, Stream};
use crate::output::Output;
use crate::renew::{Given, Missing, Names};

impl Stream {
    fn to_image<'a>(&'a self, names: &mut Names<'a>) -> image::Stream {
        let sink = match &self.sink {
            Sink::Memory { bytes, tried } => image::Sink::Memory(Bytes::copy_from_slice(bytes), *tried),
            Sink::File { file, splices } => image::Sink::File(names.of(file.as_fd()), *splices),
            Sink::Full { file, written, tail } => image::Sink::Full {
                file: file.as_ref().map(|file| names.of(file.as_fd())),
                written: *written,
                tail: Bytes::copy_from_slice(tail),
            },
        };
        image::Stream {
            pipe: names.of(self.pipe.as_fd()),
            path: Bytes::copy_from_slice(self.path.as_os_str().as_bytes()),
            limit: self.limit,
            total: self.total,
            sink,
            patient: self.patient,
        }
    }

    fn from_image(image: image::Stream, given: &mut Given) -> Result<Self, Missing> {
        let sink = match image.sink {
            image::Sink::Memory(bytes, tried) => Sink::Memory { bytes: bytes.into(), tried },
            image::Sink::File(file, splices) => Sink::File { file: given.take(file)?.into(), splices },
            image::Sink::Full { file, written, tail } => {
                let file = file.map(|file| given.take(file).map(File::from)).transpose()?;
                Sink::Full { file, written, tail: tail.into() }
            }
        };
        Ok(Self {
            pipe: given.take(image.pipe)?,
            path: crate::path_of(&image.path),
            limit: image.limit,
            layout: Layout::new(image.limit),
            total: image.total,
            sink,
            patient: image.patient,
        })
    }
}

impl Output {
    pub(crate) fn to_image<'a>(&'a self, names: &mut Names<'a>) -> image::Output {
        match self {
            Output::Pipes { stdout, stderr } => {
                let stdout = stdout.to_image(names);
                image::Output::Pipes(stdout, stderr.as_ref().map(|stderr| stderr.to_image(names)))
            }
            Output::Files { stdout, stderr } => {
                image::Output::Files(names.of(stdout.as_fd()), names.of(stderr.as_fd()))
            }
        }
    }

    pub(crate) fn from_image(image: image::Output, given: &mut Given) -> Result<Self, Missing> {
        Ok(match image {
            image::Output::Pipes(stdout, stderr) => Output::Pipes {
                stdout: Stream::from_image(stdout, given)?,
                stderr: stderr.map(|stderr| Stream::from_image(stderr, given)).transpose()?,
            },
            image::Output::Files(stdout, stderr) => {
                Output::Files { stdout: given.take(stdout)?.into(), stderr: given.take(stderr)?.into() }
            }
        })
    }
}

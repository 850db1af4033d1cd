//! Frames as bytes, both ways.
//!
//! Does no I/O: [`Message::encode`] appends to a buffer, [`Decoder`] is fed what a socket
//! gave. No input makes it panic or keep more than one frame of [`MAX_FRAME`] bytes beside
//! what it was fed. Both ends of the socket, and the keeper's monitors, use it.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};

use super::fields::{Reader, Writer};
use super::values::Value;
use super::{Held, Hello, MAX_FRAME, OutputNotice, Shutdown, Started, ToKeeper, ToServer};
use crate::id::AttemptKey;
use crate::launch::Launch;
use crate::outcome::CancelledBy;
use crate::record::ExitRecord;

/// The bytes are not what this side understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A length beyond [`MAX_FRAME`]: where the next frame begins is unknown, the
    /// connection is of no more use.
    #[error("frame longer than {MAX_FRAME} bytes")]
    TooLong,
    /// A body that ends inside a field or names a variant that does not exist. The frame is
    /// skipped; the next call reads on behind it.
    #[error("malformed frame")]
    Body,
}

/// What travels in one direction.
pub trait Message: Sized {
    /// Appends the frame.
    fn encode(&self, out: &mut Vec<u8>);

    /// The message of this type and body; `None` for a type of a newer version.
    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, BadFrame>;
}

/// Takes bytes as they come and gives whole messages.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: BytesMut,
    message: PhantomData<M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), message: PhantomData }
    }
}

impl<M: Message> Decoder<M> {
    /// Adds what the socket gave. Read messages out between calls: the decoder keeps all
    /// that was fed and not yet read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What was fed and is part of no message yet.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// The next whole message; `None` until more is fed.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at the first None")]
    pub fn next(&mut self) -> Result<Option<M>, BadFrame> {
        loop {
            let Some(header) = self.buffer.first_chunk::<4>() else { return Ok(None) };
            let length = u32::from_le_bytes(*header) as usize;
            if length > MAX_FRAME {
                return Err(BadFrame::TooLong);
            }
            if self.buffer.len() < 4 + length {
                self.buffer.reserve(4 + length - self.buffer.len());
                return Ok(None);
            }
            let mut frame = self.buffer.split_to(4 + length).freeze().slice(4..);
            if frame.is_empty() {
                return Err(BadFrame::Body);
            }
            let kind = frame.split_to(1)[0];
            if let Some(message) = M::decode(kind, frame)? {
                return Ok(Some(message));
            }
        }
    }
}

/// A frame of type `kind` with the body that `fill` writes.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Writer<'_>)) {
    Writer::new(out).block(|w| {
        w.u8(kind);
        fill(w);
    });
}

impl Message for ToServer {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToServer::Hello(hello) => frame(out, 1, |w| hello.write(w)),
            ToServer::Started(started) => frame(out, 2, |w| started.write(w)),
            ToServer::Output(notice) => frame(out, 3, |w| notice.write(w)),
            ToServer::Exited(record) => frame(out, 4, |w| record.write(w)),
            ToServer::Attempts { running, over, more } => frame(out, 5, |w| {
                w.list(running, |w, started| w.block(|w| started.write(w)));
                w.list(over, |w, record| w.block(|w| record.write(w)));
                w.flag(*more);
            }),
            ToServer::Shutdown(shutdown) => frame(out, 6, |w| shutdown.write(w)),
            ToServer::Proceed => frame(out, 7, |_| {}),
            ToServer::Retire => frame(out, 8, |_| {}),
            ToServer::Held(held) => frame(out, 9, |w| held.write(w)),
            ToServer::Ping => frame(out, 10, |_| {}),
            ToServer::ReopenLog => frame(out, 11, |_| {}),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, BadFrame> {
        let r = &mut Reader::new(body);
        Ok(Some(match kind {
            1 => ToServer::Hello(Hello::read(r)?),
            2 => ToServer::Started(Started::read(r)?),
            3 => ToServer::Output(OutputNotice::read(r)?),
            4 => ToServer::Exited(ExitRecord::read(r)?),
            5 => ToServer::Attempts {
                running: r.list(|r| Started::read(&mut r.block()?))?,
                over: r.list(|r| ExitRecord::read(&mut r.block()?))?,
                more: r.flag()?,
            },
            6 => ToServer::Shutdown(Shutdown::read(r)?),
            7 => ToServer::Proceed,
            8 => ToServer::Retire,
            9 => ToServer::Held(Held::read(r)?),
            10 => ToServer::Ping,
            11 => ToServer::ReopenLog,
            _ => return Ok(None),
        }))
    }
}

impl Message for ToKeeper {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ToKeeper::Ready { version } => frame(out, 1, |w| w.u32(*version)),
            ToKeeper::Spawn(launch) => frame(out, 2, |w| launch.write(w)),
            ToKeeper::Stop { key, by, now } => frame(out, 3, |w| {
                key.write(w);
                by.write(w);
                w.flag(*now);
            }),
            ToKeeper::Ack { key } => frame(out, 4, |w| key.write(w)),
            ToKeeper::List => frame(out, 5, |_| {}),
            ToKeeper::Goodbye { status } => frame(out, 6, |w| w.u8(*status)),
            ToKeeper::Prepared => frame(out, 7, |_| {}),
            ToKeeper::Refused { message } => frame(out, 8, |w| w.bytes(message.as_bytes())),
            ToKeeper::Retired => frame(out, 9, |_| {}),
            ToKeeper::Pong => frame(out, 10, |_| {}),
            ToKeeper::Renew => frame(out, 11, |_| {}),
            ToKeeper::Settled => frame(out, 12, |_| {}),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, BadFrame> {
        let r = &mut Reader::new(body);
        Ok(Some(match kind {
            1 => ToKeeper::Ready { version: r.u32()? },
            2 => ToKeeper::Spawn(Box::new(Launch::read(r)?)),
            3 => {
                let key = AttemptKey::read(r)?;
                ToKeeper::Stop { key, by: CancelledBy::read(r)?, now: r.flag()? }
            }
            4 => ToKeeper::Ack { key: AttemptKey::read(r)? },
            5 => ToKeeper::List,
            6 => ToKeeper::Goodbye { status: r.u8()? },
            7 => ToKeeper::Prepared,
            8 => ToKeeper::Refused { message: String::from_utf8_lossy(&r.bytes()?).into_owned() },
            9 => ToKeeper::Retired,
            10 => ToKeeper::Pong,
            11 => ToKeeper::Renew,
            12 => ToKeeper::Settled,
            _ => return Ok(None),
        }))
    }
}

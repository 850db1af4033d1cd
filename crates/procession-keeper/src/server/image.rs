//! The server as the next program of the keeper gets it: it must notice nothing.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytes::Bytes;
use procession_core::frame::{Decoder, Message, ToKeeper, image};
use rustix::io::Errno;

use super::{Server, ServerCommand, Up};
use crate::outbox;
use crate::renew::{Given, Missing, Names};
use crate::world::{Outbox, World};

impl Server {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// None is between clone and exec.
    pub(crate) fn is_settled(&self) -> bool {
        self.up.as_ref().is_none_or(|up| up.newborn.is_none())
    }

    pub(crate) fn command(&self) -> &ServerCommand {
        &self.command
    }

    /// The parts of a setup that are ours.
    pub(crate) fn setup_image<'a>(&'a self, names: &mut Names<'a>) -> image::Setup {
        let bytes = |text: &std::ffi::OsString| Bytes::copy_from_slice(text.as_bytes());
        let listener = |(fd, name): &'a (std::os::fd::OwnedFd, String)| image::Listener {
            fd: names.of(fd.as_fd()),
            name: name.clone().into(),
        };
        let listeners = self.listeners.iter().map(listener).collect();
        image::Setup {
            listeners,
            held: self.held.iter().map(|fd| names.of(fd.as_fd())).collect(),
            program: Bytes::copy_from_slice(self.command.program.as_os_str().as_bytes()),
            args: self.command.args.iter().map(bytes).collect(),
            env: self
                .command
                .env
                .iter()
                .map(|(name, value)| image::Variable { name: bytes(name), value: bytes(value) })
                .collect(),
            ..image::Setup::default()
        }
    }

    /// `held_back`: messages that were read and not acted on.
    pub(crate) fn to_image<'a>(
        &'a self,
        held_back: &[ToKeeper],
        outbox: &'a Outbox,
        names: &mut Names<'a>,
    ) -> image::Server {
        let up = self.up.as_ref().map(|up| {
            let mut unread = vec![];
            held_back.iter().for_each(|message| message.encode(&mut unread));
            unread.extend_from_slice(up.decoder.unread());
            image::Up {
                process: names.process(&up.process),
                socket: up.socket.as_ref().map(|socket| names.of(socket.as_fd())),
                unread: unread.into(),
                unsent: Bytes::copy_from_slice(&outbox.bytes),
                attached: outbox::to_image(&outbox.attached, names),
                greeted: up.greeted,
                ready: up.ready,
                since: up.since,
            }
        });
        image::Server {
            generation: self.generation,
            pause_us: u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX),
            ever_ready: self.ever_ready,
            up,
        }
    }

    /// Takes up what `self`, made of a setup, was before.
    pub(crate) fn resume(
        &mut self,
        image: image::Server,
        outbox: &mut Outbox,
        given: &mut Given,
    ) -> Result<(), Missing> {
        self.generation = image.generation;
        self.pause = Duration::from_micros(image.pause_us);
        self.ever_ready = image.ever_ready;
        let Some(up) = image.up else { return Ok(()) };
        let mut decoder = Decoder::default();
        decoder.feed(&up.unread);
        outbox.reset(up.socket.is_some());
        outbox.bytes.extend_from_slice(&up.unsent);
        outbox.attached = outbox::from_image(up.attached, given)?;
        self.up = Some(Up {
            process: given.process(up.process)?,
            newborn: None,
            socket: up.socket.map(|socket| given.take(socket)).transpose()?.map(Into::into),
            decoder,
            greeted: up.greeted,
            ready: up.ready,
            // The next flush finds out.
            blocked: false,
            since: up.since,
        });
        Ok(())
    }

    /// After [`Server::resume`].
    pub(crate) fn watch(&self, world: &World) -> Result<(), Errno> {
        self.up.as_ref().map_or(Ok(()), |up| up.watch(world))
    }
}

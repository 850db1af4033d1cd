//! A server process as the next program of the keeper gets it: it must notice nothing.

use std::os::fd::AsFd;

use procession_core::frame::{Decoder, Message, ToKeeper, image};

use super::{LINGER, Server};
use crate::events::ServerId;
use crate::outbox::Words;
use crate::renew::{Given, Missing, Names};
use crate::world::{Alarm, World};

impl Server {
    /// Whether it is not between clone and exec.
    pub(crate) fn is_settled(&self) -> bool {
        self.newborn.is_none()
    }

    /// `held_back`: messages that were read and not acted on; `news`: what comes behind what
    /// is on its way.
    pub(crate) fn to_image<'a>(
        &'a self,
        held_back: &[ToKeeper],
        news: Option<&'a Words>,
        names: &mut Names<'a>,
    ) -> image::Up {
        let mut unread = vec![];
        held_back.iter().for_each(|message| message.encode(&mut unread));
        unread.extend_from_slice(self.decoder.unread());
        let (unsent, attached) = Words::to_image([Some(&self.unsent), news], names);
        image::Up {
            id: self.id.0,
            process: names.process(&self.process),
            socket: self.socket.as_ref().map(|socket| names.of(socket.as_fd())),
            unread: unread.into(),
            unsent: unsent.into(),
            attached,
            greeted: self.greeted,
            ready: self.ready,
            since: self.since,
        }
    }

    /// Takes it up, and watches it.
    pub(crate) fn from_image(
        image: image::Up,
        given: &mut Given,
        world: &mut World,
    ) -> Result<Self, Missing> {
        let mut decoder = Decoder::default();
        decoder.feed(&image.unread);
        let server = Self {
            id: ServerId(image.id),
            process: given.process(image.process)?,
            newborn: None,
            socket: image.socket.map(|socket| given.take(socket)).transpose()?.map(Into::into),
            decoder,
            unsent: Words::from_image(&image.unsent, image.attached, given)?,
            greeted: image.greeted,
            ready: image.ready,
            // The next flush finds out.
            blocked: false,
            since: image.since,
        };
        if server.socket.is_none() {
            // It had hung up, and has its time anew.
            world.timers.arm(Alarm::KillServer(server.id), world.now.after(LINGER));
        }
        Ok(server)
    }
}

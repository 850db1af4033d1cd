//! The servers as the next program of the keeper gets them.
//!
//! Not while one is taking over from another: a renewal waits until that is over, so there is
//! no standby, and no handover to go on with.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use procession_core::frame::image;
use rustix::io::Errno;

use super::{OWN_PROGRAM, Servers};
use crate::events::ServerId;
use crate::renew::{Given, HeldBack, Missing, Names};
use crate::server::Server;
use crate::world::{Outbox, World};

impl Servers {
    /// None is between clone and exec, and none takes over.
    pub(crate) fn are_settled(&self) -> bool {
        !self.is_handing_over() && self.current.iter().chain(&self.retired).all(Server::is_settled)
    }

    /// The program that the server runs: it serves, so it works, whatever stands at its path by
    /// now.
    pub(crate) fn proven_program(&self) -> PathBuf {
        let running = |server: &Server| PathBuf::from(format!("/proc/{}/exe", server.pid()));
        self.current.as_ref().map_or_else(|| OWN_PROGRAM.into(), running)
    }

    /// The parts of a setup that are ours.
    pub(crate) fn setup_image<'a>(&'a self, names: &mut Names<'a>) -> image::Setup {
        let bytes = |text: &OsString| Bytes::copy_from_slice(text.as_bytes());
        let listener = |(fd, name): &'a (OwnedFd, String)| image::Listener {
            fd: names.of(fd.as_fd()),
            name: name.clone().into(),
        };
        let listeners = self.listeners.iter().map(listener).collect();
        let variable =
            |(name, value): &(OsString, OsString)| image::Variable { name: bytes(name), value: bytes(value) };
        image::Setup {
            listeners,
            held: self.held.iter().map(|fd| names.of(fd.as_fd())).collect(),
            program: Bytes::copy_from_slice(self.command.program.as_os_str().as_bytes()),
            args: self.command.args.iter().map(bytes).collect(),
            env: self.command.env.iter().map(variable).collect(),
            ..image::Setup::default()
        }
    }

    /// `held_back`: what was read and not acted on.
    pub(crate) fn to_image<'a>(
        &'a self,
        held_back: &HeldBack,
        outbox: &'a Outbox,
        names: &mut Names<'a>,
    ) -> image::Servers {
        let current = self.current.as_ref();
        image::Servers {
            generation: self.generation,
            pause_us: u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX),
            ever_ready: self.ever_ready,
            settled: self.settled,
            current: current.map(|server| server.to_image(held_back, Some(&outbox.news), names)),
            retired: self.retired.iter().map(|server| server.to_image(held_back, None, names)).collect(),
        }
    }

    /// Takes up what `self`, made of a setup, was before.
    pub(crate) fn resume(
        &mut self,
        image: image::Servers,
        given: &mut Given,
        world: &mut World,
    ) -> Result<(), Missing> {
        self.generation = image.generation;
        self.pause = Duration::from_micros(image.pause_us);
        self.ever_ready = image.ever_ready;
        self.settled = image.settled;
        let listens = image.current.as_ref().is_some_and(|current| current.socket.is_some());
        world.outbox.reset(listens);
        self.current = image.current.map(|image| Server::from_image(image, given, world)).transpose()?;
        for retired in image.retired {
            self.retired.push(Server::from_image(retired, given, world)?);
        }
        Ok(())
    }

    /// After [`Servers::resume`].
    pub(crate) fn watch(&self, world: &World) -> Result<(), Errno> {
        self.current.iter().chain(&self.retired).try_for_each(|server| server.watch(world))
    }

    /// All of them.
    pub(crate) fn ids(&self) -> Vec<ServerId> {
        let all = self.current.iter().chain(&self.standby).chain(&self.retired);
        all.map(|server| server.id).collect()
    }
}

//! The keeper executes its program anew: same pid, so its children stay its children, and
//! all it owns is handed on in an image. Jobs, clients and the server notice nothing.
//!
//! It waits until no server takes over from another, none that was brought is still to become
//! ready, and no child is between clone and exec:
//! such a child runs on our memory, and what it has to tell would be told to nobody. Meanwhile
//! nothing new is started: what the server asks for is held back, in its order. If exec fails
//! everything goes on as it was. What the new program does with the image is `resume`'s
//! business.

mod descriptors;

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use procession_core::attempt::{EXEC_TIMEOUT, Instant};
use procession_core::frame::ToKeeper;
use procession_core::frame::image::{self, Image};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::events::ServerId;
use crate::fault;
use crate::keeper::{Keeper, TEND_EVERY};
use crate::servers::OWN_PROGRAM;
use crate::supervise::Attempt;
use crate::sys::clone::Method;
use crate::sys::exec::exec;
use crate::world::{Alarm, Trees};
use crate::{ContainmentChoice, Setup};

pub(crate) use descriptors::{Given, Missing, Names, pid};

/// The program is asked to go on from an image by these words and the number of a descriptor.
pub(crate) const RESUME: [&str; 2] = ["keeper", "--image"];

/// The server wants the program executed anew.
pub(crate) struct Renewal {
    /// Not later than this.
    until: Instant,
    held_back: HeldBack,
}

/// What servers said and is not acted on yet, in its order.
pub(crate) type HeldBack = Vec<(ServerId, ToKeeper)>;

/// Alarms that are no attempt's, by their numbers in an image.
const ALARMS: [(u8, Alarm); 8] = [
    (1, Alarm::EndOverdue),
    (2, Alarm::StartServer),
    (3, Alarm::ReadyLate),
    (4, Alarm::TendCgroups),
    (5, Alarm::ReapOrphans),
    (6, Alarm::EndStrays),
    (7, Alarm::LookForTheEnd),
    (8, Alarm::GiveUp),
];

/// The alarm with this number.
pub(crate) fn alarm(kind: u8) -> Option<Alarm> {
    ALARMS.iter().find(|(number, _)| *number == kind).map(|(_, alarm)| *alarm)
}

impl Keeper {
    /// RENEW was said.
    pub(crate) fn wish_renewal(&mut self) {
        if self.renewal.is_none() {
            let until = self.world.now.after(EXEC_TIMEOUT);
            self.renewal = Some(Renewal { until, held_back: vec![] });
            self.world.timers.arm(Alarm::Renew, until);
        }
    }

    /// Keeps a message of the server that serves for later if nothing new is to begin now; gives
    /// it back otherwise. What ends something is never held back. Nor is anything while a server
    /// takes over from another: the renewal waits for that, so that must not wait for it.
    pub(crate) fn hold_back(&mut self, id: ServerId, message: ToKeeper) -> Option<ToKeeper> {
        if matches!(message, ToKeeper::Goodbye { .. }) {
            self.give_up_renewal();
        }
        let waits = match &message {
            ToKeeper::Spawn(_) | ToKeeper::List => true,
            ToKeeper::Stop { key, .. } => !self.attempts.contains(*key),
            _ => false,
        };
        match &mut self.renewal {
            Some(renewal) if waits && !self.servers.is_handing_over() => {
                renewal.held_back.push((id, message));
                None
            }
            _ => Some(message),
        }
    }

    /// Words of a server that is dead are never acted on.
    pub(crate) fn forget_words_of(&mut self, id: ServerId) {
        if let Some(renewal) = &mut self.renewal {
            renewal.held_back.retain(|(from, _)| *from != id);
        }
    }

    /// Whoever says goodbye ends the keeper: a program that is about to end needs no other.
    pub(crate) fn give_up_renewal(&mut self) {
        if let Some(Renewal { held_back, .. }) = self.renewal.take() {
            self.world.timers.disarm(Alarm::Renew);
            self.release(held_back);
        }
    }

    fn release(&mut self, held_back: HeldBack) {
        held_back.into_iter().for_each(|(id, message)| self.on_word(id, message));
    }

    /// Called before each wait: executes the program anew if that is wanted and can be.
    pub(crate) fn renew_if_due(&mut self) {
        let Some(renewal) = &self.renewal else { return };
        let settled = self.servers.are_settled()
            && !self.is_attaching()
            && !self.attempts.iter().any(Attempt::is_newborn);
        if !settled && self.world.now < renewal.until {
            return;
        }
        let Some(Renewal { held_back, .. }) = self.renewal.take() else { return };
        self.world.timers.disarm(Alarm::Renew);
        let why = match settled {
            true => self.renew(&held_back),
            false => std::io::Error::other("a program does not start"),
        };
        crate::complain(format_args!("not executed anew, goes on as it is: {why}"));
        self.release(held_back);
    }

    /// Returns only where it failed.
    fn renew(&mut self, held_back: &HeldBack) -> std::io::Error {
        if let Trees::Cgroups(cgroups) = &mut self.world.trees {
            cgroups.drop_spares();
            // A spare may still be busy with its last attempt's end.
            if cgroups.needs_tending() {
                self.world.timers.arm(Alarm::TendCgroups, self.world.now.after(TEND_EVERY));
            }
        }
        self.world.journal.flush(&self.world.left);
        let mut names = Names::default();
        let image = self.image(held_back, &mut names);
        fault::point("renew.before_exec");
        match execute(&self.servers.proven_program(), &image, &mut names) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn image<'a>(&'a self, held_back: &HeldBack, names: &mut Names<'a>) -> Image {
        let world = &self.world;
        let origin = &world.origin;
        let setup = image::Setup {
            state_dir: Bytes::copy_from_slice(origin.state_dir.as_os_str().as_bytes()),
            monitor_only: origin.containment == ContainmentChoice::MonitorOnly,
            label: origin.label.clone().into(),
            ..self.servers.setup_image(names)
        };
        let pids = |pids: &std::collections::HashSet<rustix::process::Pid>| {
            pids.iter().map(|pid| pid.as_raw_nonzero().get()).collect()
        };
        let overdue = |(until, process): &'a (Instant, crate::spawn::Process)| image::Overdue {
            until: *until,
            process: names.process(process),
        };
        let overdue = world.overdue.iter().map(overdue).collect();
        let armed =
            |(kind, alarm): &(u8, Alarm)| world.timers.at(*alarm).map(|at| image::Alarm { kind: *kind, at });
        let state = image::State {
            boot_id: world.boot_id,
            clone3: world.method == Method::Clone3,
            nofile: world.inherited.nofile,
            niced: world.inherited.niced,
            strangers: world.inherited.strangers,
            journal: names.of(world.journal.file()),
            journal_length: world.journal.length(),
            left: world.left.iter().cloned().collect(),
            own: pids(&world.own),
            spared: pids(&world.spared),
            overdue,
            cgroups: match &world.trees {
                Trees::Cgroups(cgroups) => Some(cgroups.to_image(names)),
                Trees::Monitors => None,
            },
            servers: self.servers.to_image(held_back, &world.outbox, names),
            attempts: self.attempts.iter().map(|attempt| attempt.to_image(names, &world.timers)).collect(),
            alarms: ALARMS.iter().filter_map(armed).collect(),
            ending: self.ending.to_image(),
            reloaded: self.requests.reloaded_image(),
            follower: self.follower().map(|follower| names.of(follower)),
            reload: self.reload_image(names),
            askers: self.admin.listener().map(|listener| names.of(listener)),
            log: self
                .daemon
                .as_ref()
                .map(|daemon| Bytes::copy_from_slice(daemon.log().as_os_str().as_bytes())),
        };
        Image { folder: world.cgroups_folder(), setup, state: Some(state) }
    }
}

/// Makes a new keeper of this process, which is none: a server whose keeper is dead. Returns only
/// where that failed, and then nothing has changed. It has no children; its threads end here.
pub fn begin_anew(setup: &Setup) -> std::io::Error {
    let mut names = Names::default();
    let os = |text: &std::ffi::OsString| Bytes::copy_from_slice(text.as_bytes());
    let mut listeners = vec![];
    for (fd, name) in &setup.listeners {
        listeners.push(image::Listener { fd: names.of(fd.as_fd()), name: name.clone().into() });
    }
    let image = image::Setup {
        listeners,
        held: setup.held.iter().map(|fd| names.of(fd.as_fd())).collect(),
        state_dir: Bytes::copy_from_slice(setup.state_dir.as_os_str().as_bytes()),
        program: Bytes::copy_from_slice(setup.server.program.as_os_str().as_bytes()),
        args: setup.server.args.iter().map(os).collect(),
        env: vec![],
        monitor_only: setup.containment == ContainmentChoice::MonitorOnly,
        label: setup.label.clone().into(),
    };
    let image = Image { folder: Bytes::new(), setup: image, state: None };
    // What stands at the program's path by now nobody has asked for.
    match execute(Path::new(OWN_PROGRAM), &image, &mut names) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Becomes `program`, which goes on from the image. What the image names stays open if that
/// succeeds; if it fails nothing has changed.
pub(crate) fn execute(
    program: &Path,
    image: &Image,
    names: &mut Names<'_>,
) -> std::io::Result<std::convert::Infallible> {
    let mut file = File::from(memfd_create("keeper", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&image.to_bytes())?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    let text = |text: &[u8]| CString::new(text).map_err(|_| std::io::Error::from(rustix::io::Errno::INVAL));
    let program = text(program.as_os_str().as_bytes())?;
    let number = file.as_fd().as_raw_fd().to_string();
    let args = [text(RESUME[0].as_bytes())?, text(RESUME[1].as_bytes())?, text(number.as_bytes())?];
    let args: Vec<CString> = std::iter::once(program.clone()).chain(args).collect();
    names.keep()?;
    let kept = rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty());
    let errno = kept.err().unwrap_or_else(|| exec(&program, &args));
    // The file itself is closed here.
    names.let_go();
    Err(errno.into())
}

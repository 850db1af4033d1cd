//! What the operator wants of the keeper, by signal or on the control socket: its state, an
//! end, another server, a server again. Decides nothing about attempts; `ending` decides when
//! the keeper ends.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use procession_core::frame::admin::{Answer, Ask, Attach, Status};
use procession_core::frame::{Shutdown, ToServer, VERSION, image};

use crate::admin::Question;
use crate::ending::{Asked, Ending, Presence};
use crate::events::ConnectionId;
use crate::handover::{Input, Wish};
use crate::keeper::Keeper;
use crate::renew::{Given, Missing, Names};
use crate::server::ServerCommand;
use crate::sys::clock;
use crate::world::Alarm;

/// A complaint longer than this is nobody's help, and might not fit an answer.
const LONGEST_COMPLAINT: usize = 16 * 1024;

/// What was asked and is not over.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Who waits for the reload that is under way.
    reload: Vec<ConnectionId>,
    /// Who waits for the one after that.
    next: Vec<ConnectionId>,
    /// Wall clock of the last one's end, Unix microseconds, and why it was refused.
    reloaded: Option<(i64, Option<String>)>,
    /// Who attached; told how the keeper ends.
    follower: Option<ConnectionId>,
    /// The server they brought has not become ready yet.
    attaching: bool,
}

impl Requests {
    /// How the last reload went, for the next program of the keeper.
    pub(crate) fn reloaded_image(&self) -> Option<image::Reloaded> {
        let (at_us, error) = self.reloaded.clone()?;
        Some(image::Reloaded { at_us, error: error.unwrap_or_default().into() })
    }

    pub(crate) fn from_image(reloaded: Option<image::Reloaded>, follower: Option<ConnectionId>) -> Self {
        let error =
            |text: &[u8]| Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty());
        let reloaded = reloaded.map(|image| (image.at_us, error(&image.error)));
        Self { reloaded, follower, ..Self::default() }
    }
}

impl Keeper {
    /// A reload that has not begun, for the next program of the keeper.
    pub(crate) fn reload_image<'a>(&'a self, names: &mut Names<'a>) -> Option<image::Reload> {
        let Wish { binary, force } = self.reload_again?;
        let waiting = self.requests.next.iter().filter_map(|id| self.admin.connection(*id));
        Some(image::Reload { binary, force, askers: waiting.map(|asker| names.of(asker)).collect() })
    }

    pub(crate) fn resume_reload(&mut self, image: image::Reload, given: &mut Given) -> Result<(), Missing> {
        self.reload_again = Some(Wish { binary: image.binary, force: image.force });
        for asker in image.askers {
            self.requests.next.extend(self.admin.take_up(given.take(asker)?, &mut self.world));
        }
        Ok(())
    }

    /// The connection of whoever attached.
    pub(crate) fn follower(&self) -> Option<BorrowedFd<'_>> {
        self.admin.connection(self.requests.follower?)
    }

    pub(crate) fn on_question(&mut self, id: ConnectionId) {
        let Some(Question { ask, fds }) = self.admin.hear(id, &mut self.world) else { return };
        match ask {
            Ask::Status => self.admin.answer(id, &Answer::Status(self.status()), &mut self.world),
            Ask::Stop(shutdown) => {
                self.stop(shutdown);
                self.admin.answer(id, &Answer::Done, &mut self.world);
            }
            Ask::Reload { binary, force } => self.reload_for(id, Wish { binary, force }),
            Ask::Attach(attach) => {
                if let Err(message) = self.attach(id, attach, fds) {
                    self.admin.answer(id, &Answer::Failed { message }, &mut self.world);
                }
            }
        }
    }

    fn status(&self) -> Status {
        let (reloaded_us, error) = self.requests.reloaded.clone().unwrap_or_default();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Status {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").into(),
            keeper_pid: rustix::process::getpid().as_raw_nonzero().get().cast_unsigned(),
            server_pid: self.servers.pid().unwrap_or_default(),
            ready: self.servers.is_ready(),
            generation: self.servers.current_generation(),
            running: count(self.attempts.iter().count()),
            unrecorded: count(self.world.left.iter().count()),
            stopping: self.ending.asked() != Asked::No,
            alone: self.is_alone(),
            reloaded_us,
            reload_error: error.unwrap_or_default(),
        }
    }

    // The end.

    /// As a signal would ask.
    fn stop(&mut self, wish: Shutdown) {
        if self.ending.ask_for(wish).is_none() {
            return;
        }
        self.reload_never();
        self.hand_over(Input::Ending);
        self.notify.stopping();
        if wish.keep_jobs && !wish.now && self.servers.presence() != Presence::Ready {
            // Nobody is there to say goodbye, and nothing is to be ended.
            self.ending.goodbye(0);
            self.servers.kill_all();
            self.world.timers.disarm(Alarm::StartServer);
            self.world.timers.arm(Alarm::LookForTheEnd, self.world.now);
        }
        self.say_shutdown();
    }

    pub(crate) fn say_shutdown(&mut self) {
        if let Some(shutdown) = self.ending.shutdown() {
            self.servers.say_to_all(&ToServer::Shutdown(shutdown), &mut self.world);
        }
    }

    /// Whether jobs were left to us, and nobody else.
    pub(crate) fn is_alone(&self) -> bool {
        self.ending.left_jobs() && self.servers.presence() == Presence::Gone && !self.attempts.is_empty()
    }

    /// The last server is gone and none will follow: nobody is to wait at our doors.
    pub(crate) fn no_server_follows(&mut self) {
        self.servers.close_listeners();
        if self.is_alone() {
            let count = self.attempts.iter().count();
            crate::complain(format_args!(
                "no server; {count} jobs run on, `procession serve` takes them over"
            ));
            self.notify.status("no server; waiting for the jobs it left");
        }
    }

    /// Before the keeper ends.
    pub(crate) fn say_farewell(&mut self, status: u8) {
        self.notify.stopping();
        if let Some(id) = self.requests.follower.take() {
            self.admin.answer(id, &Answer::Ended { status }, &mut self.world);
        }
        self.admin.close();
    }

    // Another server.

    /// For an asker, who is answered by [`Keeper::tell_of_reload`].
    fn reload_for(&mut self, id: ConnectionId, wish: Wish) {
        if self.ending.asked() == Asked::No && self.is_changing() {
            self.reload_later(wish);
            return self.requests.next.push(id);
        }
        match self.reload(wish) {
            Ok(()) => self.requests.reload.push(id),
            Err(message) => self.admin.answer(id, &Answer::Failed { message }, &mut self.world),
        }
    }

    /// What they wait for begins.
    pub(crate) fn their_turn(&mut self) {
        self.requests.reload.append(&mut self.requests.next);
    }

    /// What they wait for will not be.
    pub(crate) fn refuse_those_who_wait(&mut self, why: &str) {
        for id in std::mem::take(&mut self.requests.next) {
            self.admin.answer(id, &Answer::Failed { message: why.into() }, &mut self.world);
        }
    }

    /// A reload is over: whoever waits for it is told, and whoever asks later.
    pub(crate) fn tell_of_reload(&mut self, result: Result<(), String>) {
        let mut error = result.err();
        if let Some(message) = &mut error {
            message.truncate(message.floor_char_boundary(LONGEST_COMPLAINT));
        }
        self.notify.reloaded(error.as_deref());
        let answer = match error.clone() {
            None => Answer::Done,
            Some(message) => Answer::Failed { message },
        };
        for id in std::mem::take(&mut self.requests.reload) {
            self.admin.answer(id, &answer, &mut self.world);
        }
        self.requests.reloaded = Some((clock::wall_us(), error));
    }

    // A server again.

    fn attach(&mut self, id: ConnectionId, attach: Attach, mut fds: Vec<OwnedFd>) -> Result<(), String> {
        if !self.is_alone() {
            return Err("this keeper has a server, or is ending what runs".into());
        }
        let count = attach.listeners.len();
        if count == 0 || fds.len() != count + 2 || attach.program.first() != Some(&b'/') {
            return Err("no program, no listeners, or not as many as are named".into());
        }
        let output = fds.split_off(count);
        crate::daemon::replace_output(&output[0], &output[1]).map_err(|error| error.to_string())?;
        let names = attach.listeners.iter().map(|name| String::from_utf8_lossy(name).into_owned());
        let text = |bytes: &bytes::Bytes| OsString::from_vec(bytes.to_vec());
        let args = attach.args.iter().map(text).collect();
        let command = ServerCommand { program: text(&attach.program).into(), args, env: vec![] };
        crate::startup::replace_environment(&attach.env);
        self.servers.equip(command, fds.into_iter().zip(names).collect());
        self.requests.attaching = true;
        self.requests.follower = Some(id);
        self.ending = Ending::new();
        let started = self.servers.start_brought(&mut self.world);
        self.note_start(started);
        Ok(())
    }

    /// Whether somebody waits for the server they brought: the next program would not tell them.
    pub(crate) fn is_attaching(&self) -> bool {
        self.requests.attaching
    }

    /// Whether that was the end of a server that should have taken over what runs here: then
    /// we are alone again, and no worse off.
    pub(crate) fn attach_failed(&mut self, why: &str) -> bool {
        if !std::mem::take(&mut self.requests.attaching) {
            return false;
        }
        self.ending = Ending::alone();
        // It was the reason, and proves nothing.
        self.give_up_renewal();
        self.world.timers.disarm(Alarm::StartServer);
        if let Some(id) = self.requests.follower.take() {
            let message = format!("the server did not become ready: it {why}");
            self.admin.answer(id, &Answer::Failed { message }, &mut self.world);
        }
        self.no_server_follows();
        true
    }

    /// A server has become ready.
    pub(crate) fn serves(&mut self) {
        if std::mem::take(&mut self.requests.attaching)
            && let Some(id) = self.requests.follower
        {
            self.admin.tell(id, &Answer::Done);
        }
        self.notify.ready();
        // Whatever the server before was still to answer.
        self.notify.pong();
        if let Some(daemon) = &mut self.daemon {
            daemon.ready();
        }
    }

    // Signals that ask for no end.

    pub(crate) fn reopen_logs(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.reopen_log();
        }
        self.servers.say(&ToServer::ReopenLog);
    }
}

//! The keeper's loop: waits, hands each event to whom it concerns, says what is to be said.
//!
//! One thread, no locks. Decides only what belongs to no attempt: when the server is
//! started, what a request to end means, when all is done.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use procession_core::frame::{Started, ToKeeper, ToServer};
use procession_core::launch::Launch;
use procession_core::outcome::CancelledBy;
use procession_core::record::ExitRecord;
use rustix::event::epoll::EventFlags;
use rustix::process::Signal;

use crate::admin::Admin;
use crate::attempts::Attempts;
use crate::daemon::Daemon;
use crate::ending::{Asked, Ending, Presence, Step};
use crate::events::{AttemptId, ServerId, ServerPart, Source};
use crate::handover::{Input, Wish};
use crate::notify::Notify;
use crate::operator::Requests;
use crate::renew::Renewal;
use crate::server::Life;
use crate::servers::{Role, Servers};
use crate::spawn::Failure;
use crate::supervise::{Attempt, not_started, start};
use crate::sys::process::next_stopped_child;
use crate::sys::{clock, signals};
use crate::world::{Alarm, Outbox, STRAYS_EVERY, Trees, World};
use crate::{KeeperError, fault, orphans};

/// One frame of an answer to LIST holds at most this much.
const LIST_FRAME: usize = 1024 * 1024;

/// Zombies of others are collected at most this often.
const ORPHANS_EVERY: Duration = Duration::from_millis(100);

/// After the third request to end: for trees to die.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// A server that has not become ready by then is ended, and another started. It may have much
/// to recover.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How often removing cgroups that are not empty is tried again.
pub(crate) const TEND_EVERY: Duration = Duration::from_millis(200);

/// The keeper's state.
pub(crate) struct Keeper {
    pub(crate) world: World,
    pub(crate) servers: Servers,
    pub(crate) attempts: Attempts,
    pub(crate) signals: OwnedFd,
    pub(crate) children: OwnedFd,
    pub(crate) ending: Ending,
    pub(crate) admin: Admin,
    pub(crate) requests: Requests,
    pub(crate) notify: Notify,
    pub(crate) daemon: Option<Daemon>,
    /// Asked for while another was under way.
    pub(crate) reload_again: Option<Wish>,
    pub(crate) renewal: Option<Renewal>,
    /// Set where there is nothing more to do.
    done: Option<Result<u8, KeeperError>>,
}

impl Keeper {
    pub(crate) fn new(
        world: World,
        servers: Servers,
        admin: Admin,
        daemon: Option<Daemon>,
    ) -> Result<Self, KeeperError> {
        let asked = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
        let signals = signals::descriptor(&asked).map_err(KeeperError::start("signals"))?;
        let children = signals::descriptor(&[libc::SIGCHLD]).map_err(KeeperError::start("signals"))?;
        let events = &world.events;
        events.add(signals.as_fd(), Source::Signals).map_err(KeeperError::start("events"))?;
        events.add(world.timers.descriptor(), Source::Timers).map_err(KeeperError::start("events"))?;
        let once = EventFlags::IN | EventFlags::ONESHOT;
        events.add_for(children.as_fd(), Source::Children, once).map_err(KeeperError::start("events"))?;
        Ok(Self {
            world,
            servers,
            attempts: Attempts::default(),
            signals,
            children,
            ending: Ending::new(),
            admin,
            requests: Requests::default(),
            notify: Notify::from_environment(),
            daemon,
            reload_again: None,
            renewal: None,
            done: None,
        })
    }

    /// Starts a server and keeps.
    pub(crate) fn run(mut self) -> Result<u8, KeeperError> {
        self.start_server();
        self.keep()
    }

    /// Runs until there is nothing more to keep.
    pub(crate) fn keep(mut self) -> Result<u8, KeeperError> {
        self.tend_watchdog();
        loop {
            self.speak();
            self.look_for_the_end();
            if let Some(done) = self.done.take() {
                self.close(&done);
                return done;
            }
            self.renew_if_due();
            self.reload_if_due();
            self.world.timers.set().map_err(KeeperError::start("timers"))?;
            let events = self.world.events.wait().map_err(KeeperError::start("events"))?;
            self.world.now = clock::now();
            for (source, _) in events {
                self.on_event(source);
            }
            while let Some(alarm) = self.world.timers.due(self.world.now) {
                self.on_alarm(alarm);
            }
        }
    }

    /// The journal first: what the server was told must not be forgotten.
    fn speak(&mut self) {
        self.world.journal.flush(&self.world.left);
        self.servers.flush(&mut self.world);
    }

    fn on_event(&mut self, source: Source) {
        // What is armed counts from here: between two events this process may have been stopped.
        self.world.now = clock::now();
        match source {
            Source::Signals => {
                signals::read(&self.signals).into_iter().for_each(|signal| self.on_signal(signal))
            }
            Source::Children => {
                let pause = self.world.now.after(ORPHANS_EVERY);
                self.world.timers.arm(Alarm::ReapOrphans, pause);
            }
            Source::Timers => self.world.timers.woke(),
            Source::Askers => self.admin.let_in(&mut self.world),
            Source::Asker(id) => self.on_question(id),
            Source::Server(id, ServerPart::Status) => self.on_server_status(id),
            Source::Server(id, ServerPart::Process) => self.on_server_death(id),
            Source::Server(id, ServerPart::Socket) => self.on_server_words(id),
            Source::Attempt(id, part) => self.with(id, |attempt, world| attempt.on_event(part, world)),
        }
    }

    fn on_alarm(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Attempt(id, timer) => self.with(id, |attempt, world| attempt.on_timer(timer, world)),
            Alarm::WriteOut(id) => self.with(id, |attempt, world| attempt.write_out(world)),
            Alarm::Notice(id) => self.with(id, |attempt, world| attempt.notice(world)),
            Alarm::Hold(id) => self.with(id, |attempt, world| attempt.hold(world)),
            Alarm::Answer(id) => self.with(id, |attempt, world| attempt.on_silence(world)),
            Alarm::EndOverdue => self.world.end_overdue(),
            Alarm::StartServer => self.start_server(),
            Alarm::ReadyLate => self.ready_is_late(),
            Alarm::KillServer(id) => self.servers.signal(id, Signal::KILL),
            Alarm::Handover => self.hand_over(Input::TookTooLong),
            Alarm::TendCgroups => self.tend_cgroups(),
            Alarm::ReapOrphans => self.reap_orphans(),
            Alarm::EndStrays => self.end_strays(),
            Alarm::TendAskers => self.admin.tend(&mut self.world),
            Alarm::Watchdog => self.tend_watchdog(),
            // To be looked at before the next wait.
            Alarm::LookForTheEnd | Alarm::Renew => {}
            Alarm::GiveUp => self.done = Some(Ok(self.ending.status())),
        }
    }

    /// Gives an attempt its event, and takes leave of it if that was its last.
    pub(crate) fn with(&mut self, id: AttemptId, event: impl FnOnce(&mut Attempt, &mut World)) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        event(attempt, &mut self.world);
        if attempt.is_over()
            && let Some(attempt) = self.attempts.remove(id)
        {
            attempt.finish(&mut self.world);
        }
    }

    fn tend_cgroups(&mut self) {
        if let Trees::Cgroups(cgroups) = &mut self.world.trees
            && cgroups.tend()
        {
            self.world.timers.arm(Alarm::TendCgroups, self.world.now.after(TEND_EVERY));
        }
    }

    fn reap_orphans(&mut self) {
        signals::read(&self.children);
        orphans::reap(&self.world.own);
        if matches!(self.world.trees, Trees::Monitors) {
            self.resume_monitors();
        }
        let once = EventFlags::IN | EventFlags::ONESHOT;
        let _ = self.world.events.modify(self.children.as_fd(), Source::Children, once);
    }

    /// A job may stop its monitor, which would then see nothing end. Who stops the server has
    /// a reason.
    fn resume_monitors(&mut self) {
        while let Some(stopped) = next_stopped_child() {
            if let Some(attempt) = self.attempts.iter().find(|attempt| attempt.is_child(stopped)) {
                attempt.resume();
            }
        }
    }

    /// Until there are none: each pass makes orphans of more.
    fn end_strays(&mut self) {
        let World { own, spared, trees, .. } = &mut self.world;
        match trees {
            Trees::Cgroups(_) => _ = self.world.end_escaped(None, false),
            Trees::Monitors if orphans::end_strays(&*own, spared) => {
                self.world.timers.arm(Alarm::EndStrays, self.world.now.after(STRAYS_EVERY));
            }
            Trees::Monitors => {}
        }
    }

    // The server.

    pub(crate) fn start_server(&mut self) {
        fault::point("keeper.at_server_start");
        let started = self.servers.start(&mut self.world);
        self.note_start(started);
    }

    /// A start that failed is tried again.
    pub(crate) fn note_start(&mut self, started: Result<(), Failure>) {
        let Err(failure) = started else {
            return self.world.timers.arm(Alarm::ReadyLate, self.world.now.after(READY_WITHIN));
        };
        self.server_never_ran(failure.phase.name(), failure.errno);
        if !self.attach_failed("could not be started") {
            let pause = self.servers.next_pause(Life::NeverReady);
            self.world.timers.arm(Alarm::StartServer, self.world.now.after(pause));
        }
    }

    /// One that hangs on its way to READY is given up.
    fn ready_is_late(&mut self) {
        if self.servers.presence() == Presence::Starting && !self.servers.is_handing_over() {
            crate::complain(format_args!("the server was not ready within {} s", READY_WITHIN.as_secs()));
            self.servers.signal_current(Signal::KILL);
        }
    }

    pub(crate) fn server_never_ran(&mut self, phase: &'static str, errno: rustix::io::Errno) {
        crate::complain(format_args!("the server could not be started: {phase}: {errno}"));
        if !self.servers.ever_ready {
            self.done = Some(Err(KeeperError::Server { phase, source: errno.into() }));
        }
    }

    pub(crate) fn on_server_words(&mut self, id: ServerId) {
        for message in self.servers.read(id, &mut self.world) {
            self.on_word(id, message);
        }
    }

    /// It may be another's turn since the word before.
    pub(crate) fn on_word(&mut self, id: ServerId, message: ToKeeper) {
        match self.servers.role(id) {
            Some(Role::Current) => self.on_message(id, message),
            Some(Role::Standby) => self.on_standby_message(message),
            Some(Role::Retired) => self.on_retired_message(message),
            None => {}
        }
    }

    fn on_server_death(&mut self, id: ServerId) {
        let Some((role, death)) = self.servers.bury(id, &mut self.world) else { return };
        self.forget_words_of(id);
        let how = death.describe();
        if self.died_in_handover(role, how.clone()) || self.done.is_some() {
            return;
        }
        if let Some(failure) = death.failure {
            self.server_never_ran(failure.phase.name(), failure.errno);
        }
        if self.done.is_some() {
            return;
        }
        if !self.ending.wants_a_server() {
            return self.no_server_follows();
        }
        if self.attach_failed(&how) {
            return;
        }
        if !self.servers.ever_ready {
            // It has said why on stderr.
            self.done = Some(Ok(death.exit_status()));
            return;
        }
        let pause = self.servers.next_pause(death.life);
        crate::complain(format_args!("the server {how}; started again in {} ms", pause.as_millis()));
        self.world.timers.arm(Alarm::StartServer, self.world.now.after(pause));
    }

    fn on_message(&mut self, id: ServerId, message: ToKeeper) {
        let Some(message) = self.hold_back(id, message) else { return };
        match message {
            ToKeeper::Ready { .. } => {
                self.servers.became_ready();
                self.world.timers.disarm(Alarm::ReadyLate);
                self.hand_over(Input::Ready);
                // A server that was started while the operator waits for the end: it knows
                // how to end what runs.
                self.say_shutdown();
                self.serves();
            }
            ToKeeper::Spawn(launch) => self.spawn(&launch),
            ToKeeper::Stop { key, by, now } => {
                if let Some(id) = self.attempts.find(key) {
                    self.with(id, |attempt, world| attempt.stop(by, now, world));
                }
            }
            ToKeeper::Ack { key } => {
                fault::point("keeper.at_ack");
                self.world.acknowledge(key);
            }
            ToKeeper::List => self.list(),
            ToKeeper::Goodbye { status } => self.ending.goodbye(status),
            ToKeeper::Retired => self.hand_over(Input::Released),
            ToKeeper::Renew => self.wish_renewal(),
            ToKeeper::Pong => self.notify.pong(),
            ToKeeper::Settled => self.servers.settled = true,
            ToKeeper::Prepared | ToKeeper::Refused { .. } => {}
        }
    }

    fn spawn(&mut self, launch: &Launch) {
        // Never twice: the server may ask again after it was started anew. And nothing that nobody
        // would end.
        let known = self.attempts.contains(launch.key) || self.world.left.contains(launch.key);
        if known || self.ending.takes_no_more() {
            return;
        }
        let id = self.attempts.reserve();
        match start(id, launch, &mut self.world) {
            Ok(attempt) => {
                self.attempts.insert(id, attempt);
                // Only where it could not be watched is it over already.
                self.with(id, |_, _| {});
            }
            Err(failure) => {
                let record = not_started(launch, failure, &self.world);
                self.world.record(record);
            }
        }
    }

    /// Every attempt there is, in as many frames as it takes.
    fn list(&mut self) {
        let mut frame = ListFrame::default();
        for record in self.world.left.iter() {
            frame.over.push(record.clone());
            let size = record.stdout.tail.len() + record.stderr.tail.len() + record.cookie.len();
            frame.grew(size, &mut self.world.outbox);
        }
        for attempt in self.attempts.iter() {
            let started = attempt.describe(&self.world);
            let size = started.cookie.len();
            frame.running.push(started);
            frame.grew(size, &mut self.world.outbox);
        }
        frame.say(false, &mut self.world.outbox);
        for id in self.attempts.ids() {
            self.with(id, |attempt, world| attempt.hold_again(world));
        }
    }

    // The end.

    fn on_signal(&mut self, signal: i32) {
        match signal {
            libc::SIGHUP => return self.reload_by_signal(false),
            libc::SIGUSR2 => return self.reload_by_signal(true),
            libc::SIGUSR1 => return self.reopen_logs(),
            _ => {}
        }
        // First of all: what comes of an end of the handover must know of it.
        let asked = self.ending.ask(signal as u8);
        self.reload_never();
        self.hand_over(Input::Ending);
        self.notify.stopping();
        match asked {
            Some(Asked::Forced) => self.force(),
            Some(_) => self.say_shutdown(),
            None => {}
        }
    }

    /// The third request: whatever runs is killed.
    fn force(&mut self) {
        self.servers.abandon_handover();
        self.world.timers.disarm(Alarm::Handover);
        self.servers.kill_all();
        self.world.timers.disarm(Alarm::StartServer);
        self.stop_all(true);
        self.world.timers.arm(Alarm::GiveUp, self.world.now.after(GIVE_UP_AFTER));
    }

    /// No server came to do it. Their records stay in the journal, for the next keeper's.
    fn end_attempts(&mut self) {
        crate::complain(format_args!("asked to end, and no server is ready: what runs is ended without one"));
        let longest = self.attempts.iter().map(Attempt::longest_end).max().unwrap_or_default();
        self.stop_all(false);
        self.world.timers.arm(Alarm::GiveUp, self.world.now.after(longest.saturating_add(GIVE_UP_AFTER)));
    }

    fn stop_all(&mut self, now: bool) {
        for id in self.attempts.ids() {
            self.with(id, |attempt, world| attempt.stop(CancelledBy::Shutdown, now, world));
        }
    }

    fn look_for_the_end(&mut self) {
        if self.done.is_some() {
            return;
        }
        match self.ending.look(self.has_work(), self.servers.presence(), self.world.now) {
            Step::Wait => {}
            Step::WaitUntil(at) => self.world.timers.arm(Alarm::LookForTheEnd, at),
            Step::EndAttempts => {
                self.end_attempts();
                // Some may have ended at once: nothing else would wake us.
                self.world.timers.arm(Alarm::LookForTheEnd, self.world.now);
            }
            Step::Done(status) => self.done = Some(Ok(status)),
        }
    }

    /// Attempts run, or servers that have handed over still answer.
    fn has_work(&self) -> bool {
        !self.attempts.is_empty() || self.servers.some_are_retired()
    }

    fn close(&mut self, done: &Result<u8, KeeperError>) {
        self.say_farewell(done.as_ref().map_or(1, |status| *status));
        self.servers.kill_all();
        self.world.journal.flush(&self.world.left);
        if let Trees::Cgroups(cgroups) = &mut self.world.trees {
            cgroups.close();
        }
    }
}

/// A part of the answer to LIST.
#[derive(Default)]
struct ListFrame {
    running: Vec<Started>,
    over: Vec<ExitRecord>,
    size: usize,
}

impl ListFrame {
    /// An element with `size` bytes of variable length was added.
    fn grew(&mut self, size: usize, outbox: &mut Outbox) {
        self.size += size + 512;
        if self.size > LIST_FRAME {
            std::mem::take(self).say(true, outbox);
        }
    }

    fn say(self, more: bool, outbox: &mut Outbox) {
        outbox.say(&ToServer::Attempts { running: self.running, over: self.over, more });
    }
}

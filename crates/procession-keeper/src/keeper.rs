//! The keeper's loop: waits, hands each event to whom it concerns, says what is to be said.
//!
//! One thread, no locks. Decides only what belongs to no attempt: when the server is
//! started, what a request to end means, when all is done.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use procession_core::frame::{Shutdown, Started, ToKeeper, ToServer};
use procession_core::launch::Launch;
use procession_core::outcome::{CancelledBy, WaitStatus};
use procession_core::record::ExitRecord;
use rustix::event::epoll::EventFlags;
use rustix::process::Signal;

use crate::attempts::Attempts;
use crate::ending::{Asked, Ending, Step};
use crate::events::{AttemptId, ServerPart, Source};
use crate::renew::Renewal;
use crate::server::{Death, Life, Server};
use crate::supervise::{Attempt, not_started, start};
use crate::sys::process::next_stopped_child;
use crate::sys::{clock, signals};
use crate::world::{Alarm, Outbox, STRAYS_EVERY, Trees, World};
use crate::{KeeperError, orphans};

/// One frame of an answer to LIST holds at most this much.
const LIST_FRAME: usize = 1024 * 1024;

/// Zombies of others are collected at most this often.
const ORPHANS_EVERY: Duration = Duration::from_millis(100);

/// After the third request to end: for trees to die.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);

/// How often removing cgroups that are not empty is tried again.
const TEND_EVERY: Duration = Duration::from_millis(200);

/// The keeper's state.
pub(crate) struct Keeper {
    pub(crate) world: World,
    pub(crate) server: Server,
    pub(crate) attempts: Attempts,
    pub(crate) signals: OwnedFd,
    pub(crate) children: OwnedFd,
    pub(crate) ending: Ending,
    pub(crate) renewal: Option<Renewal>,
    /// Set where there is nothing more to do.
    done: Option<Result<u8, KeeperError>>,
}

impl Keeper {
    pub(crate) fn new(world: World, server: Server) -> Result<Self, KeeperError> {
        let asked = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
        let signals = signals::descriptor(&asked).map_err(KeeperError::start("signals"))?;
        let children = signals::descriptor(&[libc::SIGCHLD]).map_err(KeeperError::start("signals"))?;
        let events = &world.events;
        events.add(signals.as_fd(), Source::Signals).map_err(KeeperError::start("events"))?;
        events.add(world.timers.descriptor(), Source::Timers).map_err(KeeperError::start("events"))?;
        let once = EventFlags::IN | EventFlags::ONESHOT;
        events.add_for(children.as_fd(), Source::Children, once).map_err(KeeperError::start("events"))?;
        let attempts = Attempts::default();
        let ending = Ending::new();
        Ok(Self { world, server, attempts, signals, children, ending, renewal: None, done: None })
    }

    /// Starts a server and keeps.
    pub(crate) fn run(mut self) -> Result<u8, KeeperError> {
        self.start_server();
        self.keep()
    }

    /// Runs until there is nothing more to keep.
    pub(crate) fn keep(mut self) -> Result<u8, KeeperError> {
        loop {
            self.speak();
            self.look_for_the_end();
            if let Some(done) = self.done.take() {
                self.close();
                return done;
            }
            self.renew_if_due();
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
        self.server.flush(&mut self.world);
    }

    fn on_event(&mut self, source: Source) {
        match source {
            Source::Signals => {
                signals::read(&self.signals).into_iter().for_each(|signal| self.on_signal(signal))
            }
            Source::Children => {
                let pause = self.world.now.after(ORPHANS_EVERY);
                self.world.timers.arm(Alarm::ReapOrphans, pause);
            }
            Source::Timers => self.world.timers.woke(),
            Source::Server(ServerPart::Status) => {
                if let Some(failure) = self.server.on_status(&mut self.world) {
                    self.server_never_ran(failure.phase.name(), failure.errno);
                }
            }
            Source::Server(ServerPart::Process) => self.on_server_death(),
            Source::Server(ServerPart::Socket) => self.on_server_words(),
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
            Alarm::KillServer => self.server.signal(Signal::KILL),
            Alarm::TendCgroups => self.tend_cgroups(),
            Alarm::ReapOrphans => self.reap_orphans(),
            Alarm::EndStrays => self.end_strays(),
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

    fn start_server(&mut self) {
        if let Err(failure) = self.server.start(&mut self.world) {
            self.server_never_ran(failure.phase.name(), failure.errno);
            let pause = self.server.next_pause(Life::NeverReady);
            self.world.timers.arm(Alarm::StartServer, self.world.now.after(pause));
        }
    }

    fn server_never_ran(&mut self, phase: &'static str, errno: rustix::io::Errno) {
        crate::complain(format_args!("the server could not be started: {phase}: {errno}"));
        if !self.server.ever_ready {
            self.done = Some(Err(KeeperError::Server { phase, source: errno.into() }));
        }
    }

    pub(crate) fn on_server_words(&mut self) {
        match self.server.read() {
            Ok(messages) => messages.into_iter().for_each(|message| self.on_message(message)),
            Err(()) => self.server.hang_up(&mut self.world),
        }
    }

    fn on_server_death(&mut self) {
        let Some(Death { life, wait_status, failure }) = self.server.bury(&mut self.world) else { return };
        if let Some(failure) = failure {
            self.server_never_ran(failure.phase.name(), failure.errno);
        }
        if self.done.is_some() || !self.ending.wants_a_server() {
            return;
        }
        let status = WaitStatus(wait_status);
        let described = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        if !self.server.ever_ready {
            // It has said why on stderr.
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            self.done = Some(Ok(code));
            return;
        }
        let pause = self.server.next_pause(life);
        crate::complain(format_args!("the server {described}; started again in {} ms", pause.as_millis()));
        self.world.timers.arm(Alarm::StartServer, self.world.now.after(pause));
    }

    pub(crate) fn on_message(&mut self, message: ToKeeper) {
        let Some(message) = self.hold_back(message) else { return };
        match message {
            ToKeeper::Ready { .. } => {
                self.server.became_ready();
                // A server that was started while the operator waits for the end: it knows
                // how to end what runs.
                self.say_shutdown(self.ending.asked());
            }
            ToKeeper::Spawn(launch) => self.spawn(&launch),
            ToKeeper::Stop { key, by, now } => {
                if let Some(id) = self.attempts.find(key) {
                    self.with(id, |attempt, world| attempt.stop(by, now, world));
                }
            }
            ToKeeper::Ack { key } => self.world.acknowledge(key),
            ToKeeper::List => self.list(),
            ToKeeper::Goodbye { status } => self.ending.goodbye(status),
            ToKeeper::Prepared | ToKeeper::Refused { .. } | ToKeeper::Retired | ToKeeper::Pong => {}
            ToKeeper::Renew => self.wish_renewal(),
        }
    }

    fn spawn(&mut self, launch: &Launch) {
        // Never twice: the server may ask again after it was started anew.
        if self.attempts.contains(launch.key) || self.world.left.contains(launch.key) {
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
        if signal == libc::SIGHUP {
            // Before READY it may not have learnt what HUP means.
            if self.server.is_ready() {
                self.server.signal(Signal::HUP);
            }
            return;
        }
        match self.ending.ask(signal as u8) {
            Some(Asked::Forced) => self.force(),
            Some(asked) => self.say_shutdown(asked),
            None => {}
        }
    }

    fn say_shutdown(&mut self, asked: Asked) {
        match asked {
            Asked::Drain | Asked::Now => {
                let now = asked == Asked::Now;
                self.world.outbox.say(&ToServer::Shutdown(Shutdown { now, ..Shutdown::default() }));
            }
            Asked::No | Asked::Forced => {}
        }
    }

    /// The third request: whatever runs is killed.
    fn force(&mut self) {
        self.server.signal(Signal::KILL);
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
        match self.ending.look(!self.attempts.is_empty(), self.server.presence(), self.world.now) {
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

    fn close(&mut self) {
        self.server.signal(Signal::KILL);
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

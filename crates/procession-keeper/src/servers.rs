//! The servers of a keeper: the one that serves, one that stands by to take over, those that
//! have handed over and only finish their answers.
//!
//! Starts them, ends them, carries frames; does what `handover` says. What a server's death
//! or words mean for the keeper as a whole is `keeper`'s business.

mod image;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use procession_core::frame::{Hello, ToKeeper, ToServer, VERSION};
use rustix::process::Signal;

use crate::ending::Presence;
use crate::events::ServerId;
use crate::handover::{Action, Handover, Input, Wish};
use crate::server::{Death, Life, Server, ServerCommand};
use crate::spawn::Failure;
use crate::world::World;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The keeper's own program, whatever stands at its path by now: in a child that shares our
/// memory it still leads there.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

/// Which of them a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has the store, or is about to open it.
    Current,
    /// It checks whether it could take over.
    Standby,
    /// It has released the store.
    Retired,
}

/// See the module.
pub(crate) struct Servers {
    command: ServerCommand,
    listeners: Vec<(OwnedFd, String)>,
    /// Never closed: they are to last as long as this process.
    held: Vec<&'static OwnedFd>,
    generation: u64,
    /// Before the next start, after one that never became ready.
    pause: Duration,
    pub(crate) ever_ready: bool,
    /// What a keeper before left is recorded.
    pub(crate) settled: bool,
    current: Option<Server>,
    standby: Option<Server>,
    retired: Vec<Server>,
    handover: Handover,
}

impl Servers {
    pub(crate) fn new(command: ServerCommand, listeners: Vec<(OwnedFd, String)>, held: Vec<OwnedFd>) -> Self {
        Self {
            command,
            listeners,
            held: held.into_iter().map(|fd| &*Box::leak(Box::new(fd))).collect(),
            generation: 0,
            pause: FIRST_PAUSE,
            ever_ready: false,
            settled: false,
            current: None,
            standby: None,
            retired: vec![],
            handover: Handover::default(),
        }
    }

    /// What the next server is started from and with.
    pub(crate) fn equip(&mut self, command: ServerCommand, listeners: Vec<(OwnedFd, String)>) {
        (self.command, self.listeners) = (command, listeners);
    }

    /// Whoever connects from now on is refused.
    pub(crate) fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    /// Of the server that serves; 0 without one.
    pub(crate) fn current_generation(&self) -> u64 {
        self.current.as_ref().map_or(0, |server| server.id.0.into())
    }

    /// The process of the server that serves.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.current.as_ref().map(Server::pid)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.presence() == Presence::Ready
    }

    pub(crate) fn presence(&self) -> Presence {
        match &self.current {
            None => Presence::Gone,
            Some(server) if server.is_ready() => Presence::Ready,
            Some(_) => Presence::Starting,
        }
    }

    pub(crate) fn role(&self, id: ServerId) -> Option<Role> {
        let is = |server: &Option<Server>| server.as_ref().is_some_and(|server| server.id == id);
        match () {
            () if is(&self.current) => Some(Role::Current),
            () if is(&self.standby) => Some(Role::Standby),
            () => self.retired.iter().any(|server| server.id == id).then_some(Role::Retired),
        }
    }

    fn get_mut(&mut self, id: ServerId) -> Option<&mut Server> {
        let all = self.current.iter_mut().chain(&mut self.standby).chain(&mut self.retired);
        all.into_iter().find(|server| server.id == id)
    }

    fn take(&mut self, id: ServerId) -> Option<Server> {
        let its = |server: &mut Server| server.id == id;
        let retired = self.retired.iter().position(|server| server.id == id);
        let found = self.current.take_if(its).or_else(|| self.standby.take_if(its));
        found.or_else(|| Some(self.retired.swap_remove(retired?)))
    }

    /// Starts the next server, from the program we run ourselves: what stands at its path by now
    /// nobody has asked for. It serves as soon as it is ready.
    pub(crate) fn start(&mut self, world: &mut World) -> Result<(), Failure> {
        self.start_from(Path::new(OWN_PROGRAM), None, world)
    }

    /// Starts a server from the program at the command's path: whoever brought it means that one,
    /// and the keeper is to follow.
    pub(crate) fn start_brought(&mut self, world: &mut World) -> Result<(), Failure> {
        let program = self.command.program.clone();
        self.start_from(&program, Some(Wish { binary: true, force: false }), world)
    }

    fn start_from(&mut self, program: &Path, wish: Option<Wish>, world: &mut World) -> Result<(), Failure> {
        let hello = Hello { standby: false, ..self.greeting(wish, world) };
        let server = Server::start(program, &self.command, hello, world)?;
        world.outbox.reset(true);
        // One that has released the store still answers.
        self.retired.extend(self.current.replace(server));
        Ok(())
    }

    /// What a new server, the next generation, is told first.
    fn greeting(&mut self, standby: Option<Wish>, world: &World) -> Hello {
        self.generation += 1;
        Hello {
            version: VERSION,
            generation: self.generation,
            boot_id: world.boot_id,
            keeper_pid: rustix::process::getpid().as_raw_nonzero().get().cast_unsigned(),
            containment: world.containment(),
            listeners: self.listeners.iter().map(|(_, name)| name.clone().into()).collect(),
            held: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            standby: standby.is_some(),
            renew: standby.is_some_and(|wish| wish.binary),
            force: standby.is_some_and(|wish| wish.force),
            cgroups: world.cgroups_folder(),
            settled: self.settled,
            managed: std::env::var_os("NOTIFY_SOCKET").is_some(),
        }
    }

    // Handing over.

    /// Starts a standby that is to take over.
    pub(crate) fn replace(&mut self, wish: Wish, world: &mut World) -> Result<Vec<Action>, String> {
        if self.presence() != Presence::Ready {
            return Err("no server is ready that could hand over; ask again when one is".into());
        }
        let hello = self.greeting(Some(wish), world);
        let program = if wish.binary { &self.command.program } else { Path::new(OWN_PROGRAM) };
        let server = Server::start(program, &self.command, hello, world);
        let failed = |failure: Failure| {
            let phase = failure.phase.name();
            format!("the new server could not be started: {phase}: {}; the old one goes on", failure.errno)
        };
        self.standby = Some(server.map_err(failed)?);
        Ok(self.handover.begin(wish))
    }

    /// Whether a handover is under way.
    pub(crate) fn is_handing_over(&self) -> bool {
        self.handover.wish().is_some()
    }

    /// Something happened that may concern a handover.
    pub(crate) fn on(&mut self, input: Input) -> Vec<Action> {
        self.handover.on(input)
    }

    /// Whether the end of the server that serves is part of a handover.
    pub(crate) fn is_replacing(&self) -> bool {
        self.handover.is_replacing()
    }

    /// Ends the standby; its death is waited for like that of one that has handed over.
    pub(crate) fn discard_standby(&mut self) {
        if let Some(server) = self.standby.take() {
            server.signal(Signal::KILL);
            self.retired.push(server);
        }
    }

    /// Asks the server that serves to release the store. What the attempts have said goes
    /// before that.
    pub(crate) fn retire(&mut self, world: &mut World) {
        if let Some(server) = &mut self.current {
            server.say_all(&mut world.outbox.news);
            server.say(&ToServer::Retire);
        }
    }

    /// The standby has the store from here on, and hears all that happens.
    pub(crate) fn promote(&mut self, world: &mut World) {
        self.retired.extend(self.current.take());
        self.current = self.standby.take();
        world.outbox.reset(self.current.is_some());
        if let Some(server) = &mut self.current {
            server.say(&ToServer::Proceed);
        }
    }

    /// The keeper ends by force: nothing takes over any more.
    pub(crate) fn abandon_handover(&mut self) {
        self.handover = Handover::default();
    }

    // What they say, and that they die.

    /// The server that serves has said READY.
    pub(crate) fn became_ready(&mut self) {
        self.ever_ready = true;
        if let Some(server) = &mut self.current {
            server.became_ready();
        }
    }

    /// Says something to the server that serves.
    pub(crate) fn say(&mut self, message: &ToServer) {
        if let Some(server) = &mut self.current {
            server.say(message);
        }
    }

    /// Says something to the server that serves, behind the news it is still to hear, and to
    /// those that have handed over. One that was told to hand over does only that.
    pub(crate) fn say_to_all(&mut self, message: &ToServer, world: &mut World) {
        if let Some(server) = self.current.as_mut().filter(|_| !self.handover.is_releasing()) {
            server.say_all(&mut world.outbox.news);
            server.say(message);
        }
        self.say_to_retired(message);
    }

    /// Says something to those that have handed over.
    pub(crate) fn say_to_retired(&mut self, message: &ToServer) {
        self.retired.iter_mut().for_each(|server| server.say(message));
    }

    /// Whether any server that has handed over is still there.
    pub(crate) fn some_are_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    pub(crate) fn on_status(&mut self, id: ServerId, world: &mut World) -> Option<Failure> {
        self.get_mut(id)?.on_status(world)
    }

    /// Reads some of what it says; one that hangs up has said its last.
    pub(crate) fn read(&mut self, id: ServerId, world: &mut World) -> Vec<ToKeeper> {
        let role = self.role(id);
        let Some(server) = self.get_mut(id) else { return vec![] };
        let mut words = vec![];
        if server.read(&mut words).is_err() {
            server.hang_up(world);
            if role == Some(Role::Current) {
                world.outbox.reset(false);
            }
        }
        words
    }

    /// Sends what can be sent.
    pub(crate) fn flush(&mut self, world: &mut World) {
        let listeners = self.listeners.iter().map(|(fd, _)| fd.as_fd());
        let given: Vec<BorrowedFd<'_>> = listeners.chain(self.held.iter().map(|fd| fd.as_fd())).collect();
        if let Some(server) = &mut self.current {
            server.say_all(&mut world.outbox.news);
        }
        for server in self.current.iter_mut().chain(&mut self.standby).chain(&mut self.retired) {
            server.flush(&given, world);
        }
        world.outbox.backlog = self.current.as_ref().map_or(0, Server::backlog);
    }

    /// Signals one of them.
    pub(crate) fn signal(&self, id: ServerId, which: Signal) {
        let all = self.current.iter().chain(&self.standby).chain(&self.retired);
        all.filter(|server| server.id == id).for_each(|server| server.signal(which));
    }

    /// Signals the server that serves.
    pub(crate) fn signal_current(&self, which: Signal) {
        self.current.iter().for_each(|server| server.signal(which));
    }

    pub(crate) fn kill_all(&self) {
        let all = self.current.iter().chain(&self.standby).chain(&self.retired);
        all.for_each(|server| server.signal(Signal::KILL));
    }

    /// It is dead; says which of them it was and how it ended.
    pub(crate) fn bury(&mut self, id: ServerId, world: &mut World) -> Option<(Role, Death)> {
        let role = self.role(id)?;
        let death = self.take(id)?.bury(world);
        if role == Role::Current {
            world.outbox.reset(false);
            self.settled |= death.settled;
        }
        Some((role, death))
    }

    /// When to start the next one: at once after one that served, soon after one that died as
    /// soon as it was ready, later and later after those that never were.
    pub(crate) fn next_pause(&mut self, life: Life) -> Duration {
        let pause = self.pause;
        self.pause = if life == Life::NeverReady { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
        match life {
            Life::NeverReady => pause,
            Life::Short => FIRST_PAUSE,
            Life::Long => Duration::ZERO,
        }
    }
}

//! The server, as the keeper sees it: a child with a socket, which may die at any time and
//! is then started again.
//!
//! Never waited for: what cannot be sent now is sent when the socket takes it. What its
//! messages mean is `keeper`'s business.

mod image;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use procession_core::attempt::Instant;
use procession_core::frame::{BadFrame, Decoder, Hello, ToKeeper, ToServer, VERSION};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use crate::control::{CONTROL_FD, send};
use crate::ending::Presence;
use crate::events::{ServerPart, Source};
use crate::spawn::{Command, Failure, Newborn, Outcome, Process, clone, outcome, prepare};
use crate::sys::process::{reap, signal};
use crate::world::{Alarm, World};

/// What to run as the server.
#[derive(Clone, Debug)]
pub struct ServerCommand {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// Added to the keeper's own environment.
    pub env: Vec<(OsString, OsString)>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A server that dies sooner than this after its start does not die of bad luck.
const SOON: Duration = Duration::from_secs(1);

/// A server that has closed its socket is given this long to end by itself.
const LINGER: Duration = Duration::from_secs(5);

/// Read from the server before others have their turn.
const TURN: usize = 64 * 1024;

/// What the server is started from and with, and the one that runs.
pub(crate) struct Server {
    command: ServerCommand,
    listeners: Vec<(OwnedFd, String)>,
    /// Never closed: they are to last as long as this process.
    held: Vec<&'static OwnedFd>,
    generation: u64,
    /// Before the next start, after one that never became ready.
    pause: Duration,
    pub(crate) ever_ready: bool,
    up: Option<Up>,
}

struct Up {
    process: Process,
    newborn: Option<Newborn>,
    socket: Option<UnixStream>,
    decoder: Decoder<ToKeeper>,
    greeted: bool,
    ready: bool,
    /// Waits for room in the socket.
    blocked: bool,
    since: Instant,
}

/// How far a server came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It never became ready.
    NeverReady,
    /// It became ready, and died as soon as it was.
    Short,
    /// It served.
    Long,
}

/// How a server ended.
pub(crate) struct Death {
    /// How far it had come.
    pub(crate) life: Life,
    pub(crate) wait_status: i32,
    /// Why it never reached its program.
    pub(crate) failure: Option<Failure>,
}

impl Server {
    pub(crate) fn new(command: ServerCommand, listeners: Vec<(OwnedFd, String)>, held: Vec<OwnedFd>) -> Self {
        let held = held.into_iter().map(|fd| &*Box::leak(Box::new(fd))).collect();
        Self { command, listeners, held, generation: 0, pause: FIRST_PAUSE, ever_ready: false, up: None }
    }

    pub(crate) fn presence(&self) -> Presence {
        match &self.up {
            None => Presence::Gone,
            Some(up) if up.ready => Presence::Ready,
            Some(_) => Presence::Starting,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.presence() == Presence::Ready
    }

    /// It has said READY.
    pub(crate) fn became_ready(&mut self) {
        self.ever_ready = true;
        if let Some(up) = &mut self.up {
            up.ready = true;
        }
    }

    /// Starts the next generation and greets it.
    pub(crate) fn start(&mut self, world: &mut World) -> Result<(), Failure> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(Failure::at(procession_core::record::Phase::Prepare))?;
        let failed = Failure::at(procession_core::record::Phase::Prepare);
        // Its own end blocks until it decides otherwise.
        rustix::io::ioctl_fionbio(&theirs, false).map_err(&failed)?;
        let (process, newborn) = self.spawn(theirs.as_fd(), world)?;
        drop(theirs);
        self.generation += 1;
        world.own.insert(process.pid);
        let up = Up {
            process,
            newborn: Some(newborn),
            socket: Some(UnixStream::from(ours)),
            decoder: Decoder::default(),
            greeted: false,
            ready: false,
            blocked: false,
            since: world.now,
        };
        let up = self.up.insert(up);
        up.watch(world).map_err(&failed)?;
        world.outbox.reset(true);
        world.outbox.say(&ToServer::Hello(Hello {
            version: VERSION,
            generation: self.generation,
            boot_id: world.boot_id,
            keeper_pid: rustix::process::getpid().as_raw_nonzero().get().cast_unsigned(),
            containment: world.containment(),
            listeners: self.listeners.iter().map(|(_, name)| name.clone().into()).collect(),
            held: u32::try_from(self.held.len()).unwrap_or(u32::MAX),
            standby: false,
            renew: false,
            force: false,
            cgroups: world.cgroups_folder(),
        }));
        Ok(())
    }

    fn spawn(&self, socket: BorrowedFd<'_>, world: &mut World) -> Result<(Process, Newborn), Failure> {
        let join = |name: &[u8], value: &[u8]| [name, b"=", value].concat();
        let added =
            |name: &OsString| name == CONTROL_FD || self.command.env.iter().any(|(own, _)| own == name);
        let mut env: Vec<Vec<u8>> = std::env::vars_os()
            .filter(|(name, _)| !added(name))
            .map(|(name, value)| join(name.as_bytes(), value.as_bytes()))
            .collect();
        env.extend(self.command.env.iter().map(|(name, value)| join(name.as_bytes(), value.as_bytes())));
        env.push(format!("{CONTROL_FD}=3").into_bytes());
        let env: Vec<&[u8]> = env.iter().map(Vec::as_slice).collect();
        let program = self.command.program.as_os_str().as_bytes();
        let mut argv = vec![program];
        argv.extend(self.command.args.iter().map(|arg| arg.as_bytes()));
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let command = Command {
            program,
            argv: &argv,
            env: &env,
            directory: None,
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            extra: Some(socket),
            join: None,
            umask: 0o077,
            nice: false,
            die_with_parent: false,
            rlimits: &[],
            credentials: None,
        };
        let prepared = prepare(&command, &mut world.stacks)?;
        clone(prepared, world.method, None, &mut world.stacks)
            .map_err(Failure::at(procession_core::record::Phase::Fork))
    }

    /// The status pipe has news: the failure, if it never reached its program.
    pub(crate) fn on_status(&mut self, world: &mut World) -> Option<Failure> {
        let up = self.up.as_mut()?;
        let newborn = up.newborn.take()?;
        world.events.remove(newborn.status());
        match outcome(newborn, &mut world.stacks) {
            Outcome::Pending(newborn) => {
                let _ = world.events.add(newborn.status(), Source::Server(ServerPart::Status));
                up.newborn = Some(newborn);
                None
            }
            Outcome::Closed => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }

    /// Reads some of what it says. An error: the socket is of no more use.
    pub(crate) fn read(&mut self) -> Result<Vec<ToKeeper>, ()> {
        let Some(up) = &mut self.up else { return Ok(vec![]) };
        let Some(socket) = &up.socket else { return Ok(vec![]) };
        let mut buffer = [0u8; TURN];
        match rustix::io::read(socket, &mut buffer) {
            Ok(0) => return Err(()),
            Ok(length) => up.decoder.feed(&buffer[..length]),
            // A program before this one may have read more than it acted on.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Err(()),
        }
        let mut messages = vec![];
        loop {
            match up.decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Ok(messages),
                Err(error @ BadFrame::Body) => crate::complain(format_args!("server: {error}")),
                Err(error @ BadFrame::TooLong) => {
                    crate::complain(format_args!("server: {error}"));
                    return Err(());
                }
            }
        }
    }

    /// Sends what the socket takes. The listeners, and what is held, go with the first byte.
    pub(crate) fn flush(&mut self, world: &mut World) {
        let Some(up) = &mut self.up else { return };
        let Some(socket) = &up.socket else { return };
        let listeners = self.listeners.iter().map(|(fd, _)| fd.as_fd());
        let held = self.held.iter().map(|fd| fd.as_fd());
        let mut sent = 0;
        while sent < world.outbox.bytes.len() {
            let part = world.outbox.part(sent);
            let fds: Vec<_> = match up.greeted {
                true => part.fds,
                false => listeners.clone().chain(held.clone()).collect(),
            };
            match send(socket, part.bytes, &fds) {
                Ok(length) => {
                    sent += length;
                    up.greeted = true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Full, or broken: then reading will tell.
                Err(_) => break,
            }
        }
        world.outbox.went(sent);
        let blocked = !world.outbox.bytes.is_empty();
        if blocked != up.blocked {
            let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _ = world.events.modify(socket.as_fd(), Source::Server(ServerPart::Socket), flags);
            up.blocked = blocked;
        }
    }

    /// It hung up: nothing more comes or goes, and it is to end soon.
    pub(crate) fn hang_up(&mut self, world: &mut World) {
        if let Some(up) = &mut self.up
            && let Some(socket) = up.socket.take()
        {
            world.events.remove(socket.as_fd());
            world.outbox.reset(false);
            world.timers.arm(Alarm::KillServer, world.now.after(LINGER));
        }
    }

    pub(crate) fn signal(&self, which: Signal) {
        if let Some(up) = &self.up {
            signal(up.process.pidfd.as_fd(), which);
        }
    }

    /// It is dead: what it still said is read to its end and thrown away. A spawn among it
    /// was never answered, so "not known" is true when the next server asks, and stays true.
    pub(crate) fn bury(&mut self, world: &mut World) -> Option<Death> {
        let failure = self.on_status(world);
        let up = self.up.take()?;
        world.timers.disarm(Alarm::KillServer);
        world.events.remove(up.process.pidfd.as_fd());
        world.outbox.reset(false);
        if let Some(socket) = &up.socket {
            world.events.remove(socket.as_fd());
            let mut buffer = [0u8; TURN];
            while matches!(rustix::io::read(socket, &mut buffer), Ok(1..)) {}
        }
        let wait_status = reap(up.process.pid).map_or(0, |(status, _)| status);
        world.own.remove(&up.process.pid);
        let life = match (up.ready, world.now >= up.since.after(SOON)) {
            (false, _) => Life::NeverReady,
            (true, false) => Life::Short,
            (true, true) => Life::Long,
        };
        Some(Death { life, wait_status, failure })
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

impl Up {
    fn watch(&self, world: &World) -> Result<(), Errno> {
        world.events.add(self.process.pidfd.as_fd(), Source::Server(ServerPart::Process))?;
        if let Some(newborn) = &self.newborn {
            world.events.add(newborn.status(), Source::Server(ServerPart::Status))?;
        }
        if let Some(socket) = &self.socket {
            world.events.add(socket.as_fd(), Source::Server(ServerPart::Socket))?;
        }
        Ok(())
    }
}

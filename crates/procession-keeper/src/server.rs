//! One server process, as the keeper sees it: a child with a socket, which may die at any
//! time.
//!
//! Never waited for: what cannot be sent now is sent when the socket takes it. What its
//! messages mean is `keeper`'s business, which of several servers serves that of `servers`.

mod image;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_core::attempt::Instant;
use procession_core::frame::{BadFrame, Decoder, Hello, ToKeeper, ToServer};
use procession_core::outcome::WaitStatus;
use procession_core::record::Phase;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use crate::control::{CONTROL_FD, send};
use crate::events::{ServerId, ServerPart, Source};
use crate::notify::VARIABLES;
use crate::outbox::Words;
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

/// A server that dies sooner than this after its start does not die of bad luck.
const SOON: Duration = Duration::from_secs(1);

/// A server that has closed its socket is given this long to end by itself.
const LINGER: Duration = Duration::from_secs(5);

/// Read from the server before others have their turn.
const TURN: usize = 64 * 1024;

/// A server that has a process.
pub(crate) struct Server {
    pub(crate) id: ServerId,
    process: Process,
    newborn: Option<Newborn>,
    socket: Option<UnixStream>,
    decoder: Decoder<ToKeeper>,
    /// Frames on their way to it.
    unsent: Words,
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
    /// It had said SETTLED, and nobody had heard it.
    pub(crate) settled: bool,
}

impl Death {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        let status = WaitStatus(self.wait_status);
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        }
    }

    /// As a shell would give it.
    pub(crate) fn exit_status(&self) -> u8 {
        let status = WaitStatus(self.wait_status);
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }
}

impl Server {
    /// Starts `program` with the arguments of `command` and greets it.
    pub(crate) fn start(
        program: &Path,
        command: &ServerCommand,
        hello: Hello,
        world: &mut World,
    ) -> Result<Self, Failure> {
        let failed = Failure::at(Phase::Prepare);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(&failed)?;
        // Its own end blocks until it decides otherwise.
        rustix::io::ioctl_fionbio(&theirs, false).map_err(&failed)?;
        let (process, newborn) = spawn(program, command, theirs.as_fd(), world)?;
        world.own.insert(process.pid);
        let mut server = Self {
            id: ServerId(hello.generation as u32),
            process,
            newborn: Some(newborn),
            socket: Some(UnixStream::from(ours)),
            decoder: Decoder::default(),
            unsent: Words::default(),
            greeted: false,
            ready: false,
            blocked: false,
            since: world.now,
        };
        server.say(&ToServer::Hello(hello));
        if let Err(errno) = server.watch(world) {
            server.give_up(world);
            return Err(failed(errno));
        }
        Ok(server)
    }

    pub(crate) fn watch(&self, world: &World) -> Result<(), Errno> {
        let source = |part| Source::Server(self.id, part);
        world.events.add(self.process.pidfd.as_fd(), source(ServerPart::Process))?;
        if let Some(newborn) = &self.newborn {
            world.events.add(newborn.status(), source(ServerPart::Status))?;
        }
        if let Some(socket) = &self.socket {
            world.events.add(socket.as_fd(), source(ServerPart::Socket))?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// It cannot be watched: it is ended, and reaped like any orphan.
    fn give_up(mut self, world: &mut World) {
        self.signal(Signal::KILL);
        world.events.remove(self.process.pidfd.as_fd());
        world.own.remove(&self.process.pid);
        if let Some(newborn) = self.newborn.take() {
            world.events.remove(newborn.status());
            // The child may still stand on it: a leak, not a crash.
            std::mem::forget(newborn);
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// It has said READY.
    pub(crate) fn became_ready(&mut self) {
        self.ready = true;
    }

    /// Puts a frame behind all that is on its way; one without a socket hears nothing.
    pub(crate) fn say(&mut self, message: &ToServer) {
        if self.socket.is_some() {
            self.unsent.say(message);
        }
    }

    /// Puts frames behind all that is on its way.
    pub(crate) fn say_all(&mut self, frames: &mut Words) {
        match self.socket {
            Some(_) => self.unsent.append(frames),
            None => frames.clear(),
        }
    }

    /// Bytes on their way.
    pub(crate) fn backlog(&self) -> usize {
        self.unsent.len()
    }

    /// The status pipe has news: the failure, if it never reached its program.
    pub(crate) fn on_status(&mut self, world: &mut World) -> Option<Failure> {
        let newborn = self.newborn.take()?;
        world.events.remove(newborn.status());
        match outcome(newborn, &mut world.stacks) {
            Outcome::Pending(newborn) => {
                let source = Source::Server(self.id, ServerPart::Status);
                let _ = world.events.add(newborn.status(), source);
                self.newborn = Some(newborn);
                None
            }
            Outcome::Closed => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }

    /// Reads some of what it says onto `words`. An error: the socket is of no more use.
    pub(crate) fn read(&mut self, words: &mut Vec<ToKeeper>) -> Result<(), ()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut buffer = [0u8; TURN];
        let end = match rustix::io::read(socket, &mut buffer) {
            Ok(0) => Err(()),
            Ok(length) => {
                self.decoder.feed(&buffer[..length]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(()),
        };
        // Also at its end: a program before this one may have read more than it acted on.
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => words.push(message),
                Ok(None) => return end,
                Err(error @ BadFrame::Body) => crate::complain(format_args!("server: {error}")),
                Err(error @ BadFrame::TooLong) => {
                    crate::complain(format_args!("server: {error}"));
                    return Err(());
                }
            }
        }
    }

    /// Sends what the socket takes. What it is `given` goes with the first byte.
    pub(crate) fn flush(&mut self, given: &[BorrowedFd<'_>], world: &World) {
        let Some(socket) = &self.socket else { return };
        let mut sent = 0;
        while sent < self.unsent.len() {
            let part = self.unsent.part(sent);
            let fds = if self.greeted { &part.fds } else { given };
            match send(socket, part.bytes, fds) {
                Ok(length) => {
                    sent += length;
                    self.greeted = true;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Full, or broken: then reading will tell.
                Err(_) => break,
            }
        }
        self.unsent.went(sent);
        let blocked = !self.unsent.is_empty();
        if blocked != self.blocked {
            let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let source = Source::Server(self.id, ServerPart::Socket);
            let _ = world.events.modify(socket.as_fd(), source, flags);
            self.blocked = blocked;
        }
    }

    /// It hung up: nothing more comes or goes, and it is to end soon.
    pub(crate) fn hang_up(&mut self, world: &mut World) {
        if let Some(socket) = self.socket.take() {
            world.events.remove(socket.as_fd());
            self.unsent.clear();
            world.timers.arm(Alarm::KillServer(self.id), world.now.after(LINGER));
        }
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(self.process.pidfd.as_fd(), which);
    }

    /// It is dead: what it still said is read to its end and thrown away. A spawn among it
    /// was never answered, so "not known" is true when the next server asks, and stays true.
    /// Only SETTLED is of use: it speaks of what is in the store.
    pub(crate) fn bury(mut self, world: &mut World) -> Death {
        let failure = self.on_status(world);
        world.timers.disarm(Alarm::KillServer(self.id));
        world.events.remove(self.process.pidfd.as_fd());
        if let Some(socket) = &self.socket {
            world.events.remove(socket.as_fd());
            let mut buffer = [0u8; TURN];
            while let Ok(length @ 1..) = rustix::io::read(socket, &mut buffer) {
                self.decoder.feed(&buffer[..length]);
            }
        }
        let mut settled = false;
        while let Ok(Some(word)) = self.decoder.next() {
            settled |= word == ToKeeper::Settled;
        }
        let wait_status = reap(self.process.pid).map_or(0, |(status, _)| status);
        world.own.remove(&self.process.pid);
        let life = match (self.ready, world.now >= self.since.after(SOON)) {
            (false, _) => Life::NeverReady,
            (true, false) => Life::Short,
            (true, true) => Life::Long,
        };
        Death { life, wait_status, failure, settled }
    }
}

fn spawn(
    program: &Path,
    server: &ServerCommand,
    socket: BorrowedFd<'_>,
    world: &mut World,
) -> Result<(Process, Newborn), Failure> {
    let join = |name: &[u8], value: &[u8]| [name, b"=", value].concat();
    let ours = |name: &OsString| name == CONTROL_FD || VARIABLES.iter().any(|variable| name == variable);
    let added = |name: &OsString| ours(name) || server.env.iter().any(|(own, _)| own == name);
    let mut env: Vec<Vec<u8>> = std::env::vars_os()
        .filter(|(name, _)| !added(name))
        .map(|(name, value)| join(name.as_bytes(), value.as_bytes()))
        .collect();
    env.extend(server.env.iter().map(|(name, value)| join(name.as_bytes(), value.as_bytes())));
    env.push(format!("{CONTROL_FD}=3").into_bytes());
    let env: Vec<&[u8]> = env.iter().map(Vec::as_slice).collect();
    // Whatever file it is started from, it goes by the name it was given.
    let mut argv = vec![server.program.as_os_str().as_bytes()];
    argv.extend(server.args.iter().map(|arg| arg.as_bytes()));
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let command = Command {
        program: program.as_os_str().as_bytes(),
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
    clone(prepared, world.method, None, &mut world.stacks).map_err(Failure::at(Phase::Fork))
}

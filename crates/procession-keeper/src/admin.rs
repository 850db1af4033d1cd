//! The control socket: where the command line asks the keeper itself. Connections in,
//! questions out; what a question means is `operator`'s business.
//!
//! Nobody can hold up the loop here: only our own user and root are heard, few at once, each
//! for a bounded time and size; who has not asked yet makes room for who comes next. A keeper
//! that cannot make its socket runs without one.

use std::collections::HashMap;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use procession_core::attempt::Instant;
use procession_core::frame::admin::{Answer, Ask};
use procession_core::frame::{Decoder, MAX_FRAME, Message};
use rustix::event::epoll::EventFlags;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with};

use crate::ask::{NAME, address};
use crate::control;
use crate::events::{ConnectionId, Source};
use crate::world::{Alarm, World};

/// At once; who only waits for an answer counts too.
const MOST: usize = 16;

/// Taken in before others have their turn.
const TURN: usize = 16;

/// A question is asked within this.
const QUESTION_WITHIN: Duration = Duration::from_secs(5);

/// Without descriptors for more, nobody is let in for as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Read from an asker before others have their turn.
const PIECE: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    socket: Option<Socket>,
    askers: HashMap<ConnectionId, Asker>,
    next: u64,
    /// Nobody is let in until then.
    closed_until: Option<Instant>,
}

#[derive(Debug)]
struct Socket {
    folder: OwnedFd,
    listener: OwnedFd,
}

#[derive(Debug)]
struct Asker {
    stream: OwnedFd,
    decoder: Decoder<Ask>,
    read: usize,
    fds: Vec<OwnedFd>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its question is not whole; it is sent away at this time.
    Asking(Instant),
    /// Its question is whole.
    Waiting,
}

/// A question, and the descriptors that came with it.
pub(crate) struct Question {
    pub(crate) ask: Ask,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Admin {
    /// Makes the socket in `folder`, in place of one that a keeper before left behind: the
    /// data directory is ours alone.
    pub(crate) fn open(folder: &Path, world: &World) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        rustix::fs::fchmod(&folder, Mode::RWXU)?;
        match rustix::fs::unlinkat(&folder, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&listener, &address(&folder).map_err(|_| Errno::INVAL)?)?;
        rustix::fs::chmodat(&folder, NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        listen(&listener, 128)?;
        Self::of(Socket { folder, listener }, world)
    }

    /// Goes on with the socket of the program before: who knocked meanwhile is heard.
    pub(crate) fn resume(folder: &Path, listener: OwnedFd, world: &World) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        Self::of(Socket { folder, listener }, world)
    }

    fn of(socket: Socket, world: &World) -> Result<Self, Errno> {
        world.events.add(socket.listener.as_fd(), Source::Askers)?;
        Ok(Self { socket: Some(socket), ..Self::default() })
    }

    /// Whoever knocks does so here.
    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.listener.as_fd())
    }

    /// Somebody knocks.
    pub(crate) fn let_in(&mut self, world: &mut World) {
        for _ in 0..TURN {
            let Some(Socket { listener, .. }) = &self.socket else { return };
            let stream = match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(stream) => stream,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(_) => return self.close_for_a_while(world),
            };
            // Its connection ends here, unread.
            if peer(&stream).is_some_and(may_ask) && self.make_room(world) {
                self.admit(stream, world);
            }
        }
    }

    /// Whoever asked, or has been silent longest, makes room; who waits for an answer stays.
    fn make_room(&mut self, world: &mut World) -> bool {
        if self.askers.len() < MOST {
            return true;
        }
        let silent = self.askers.iter().filter_map(|(id, asker)| match asker.stage {
            Stage::Asking(until) => Some((until, *id)),
            Stage::Waiting => None,
        });
        match silent.min() {
            Some((_, id)) => {
                self.send_away(id, world);
                true
            }
            None => false,
        }
    }

    fn admit(&mut self, stream: OwnedFd, world: &mut World) {
        let id = ConnectionId(self.next);
        self.next += 1;
        if world.events.add(stream.as_fd(), Source::Asker(id)).is_err() {
            return;
        }
        let until = world.now.after(QUESTION_WITHIN);
        let stage = Stage::Asking(until);
        let asker = Asker { stream, decoder: Decoder::default(), read: 0, fds: vec![], stage };
        self.askers.insert(id, asker);
        if !world.timers.is_armed(Alarm::TendAskers) {
            world.timers.arm(Alarm::TendAskers, until);
        }
    }

    /// Of one who waits.
    pub(crate) fn connection(&self, id: ConnectionId) -> Option<BorrowedFd<'_>> {
        self.askers.get(&id).map(|asker| asker.stream.as_fd())
    }

    /// Takes up who waited for the program before.
    pub(crate) fn take_up(&mut self, stream: OwnedFd, world: &mut World) -> Option<ConnectionId> {
        let id = ConnectionId(self.next);
        self.admit(stream, world);
        self.askers.get_mut(&id)?.stage = Stage::Waiting;
        Some(id)
    }

    fn close_for_a_while(&mut self, world: &mut World) {
        if let Some(Socket { listener, .. }) = &self.socket {
            let _ = world.events.modify(listener.as_fd(), Source::Askers, EventFlags::empty());
            self.closed_until = Some(world.now.after(PAUSE));
            world.timers.arm(Alarm::TendAskers, world.now.after(PAUSE));
        }
    }

    /// The alarm of that name.
    pub(crate) fn tend(&mut self, world: &mut World) {
        let now = world.now;
        let silent = |asker: &Asker| matches!(asker.stage, Stage::Asking(until) if until <= now);
        let late: Vec<_> = self.askers.iter().filter(|(_, asker)| silent(asker)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.send_away(id, world));
        if self.closed_until.is_some_and(|until| until <= now)
            && let Some(Socket { listener, .. }) = &self.socket
        {
            self.closed_until = None;
            let _ = world.events.modify(listener.as_fd(), Source::Askers, EventFlags::IN);
        }
        let asking = self.askers.values().filter_map(|asker| match asker.stage {
            Stage::Asking(until) => Some(until),
            Stage::Waiting => None,
        });
        if let Some(next) = asking.chain(self.closed_until).min() {
            world.timers.arm(Alarm::TendAskers, next);
        }
    }

    /// An asker has said something, or gone: its question, once that is whole.
    pub(crate) fn hear(&mut self, id: ConnectionId, world: &mut World) -> Option<Question> {
        let asker = self.askers.get_mut(&id)?;
        match asker.read() {
            Ok(None) => None,
            Ok(Some(ask)) => {
                asker.stage = Stage::Waiting;
                Some(Question { ask, fds: std::mem::take(&mut asker.fds) })
            }
            Err(()) => {
                self.send_away(id, world);
                None
            }
        }
    }

    /// Answers, and takes leave.
    pub(crate) fn answer(&mut self, id: ConnectionId, answer: &Answer, world: &mut World) {
        self.tell(id, answer);
        self.send_away(id, world);
    }

    /// Answers, and stays in touch.
    pub(crate) fn tell(&mut self, id: ConnectionId, answer: &Answer) {
        let Some(asker) = self.askers.get(&id) else { return };
        let mut bytes = vec![];
        answer.encode(&mut bytes);
        // An answer is small and the first thing we say: it fits, or the asker is no friend.
        let _ = control::send(&asker.stream, &bytes, &[]);
    }

    fn send_away(&mut self, id: ConnectionId, world: &mut World) {
        if let Some(asker) = self.askers.remove(&id) {
            world.events.remove(asker.stream.as_fd());
        }
    }

    /// Takes the socket's name away: nobody is to wait for a keeper that ends.
    pub(crate) fn close(&mut self) {
        if let Some(Socket { folder, .. }) = self.socket.take() {
            let _ = rustix::fs::unlinkat(&folder, NAME, AtFlags::empty());
        }
    }
}

impl Asker {
    /// Its question, if that is whole. An error: it is of no more use.
    fn read(&mut self) -> Result<Option<Ask>, ()> {
        let mut buffer = [0u8; PIECE];
        match control::receive(&self.stream, &mut buffer, &mut self.fds) {
            // Whoever waits has nothing more to say.
            Ok(0) => return Err(()),
            Ok(_) if self.stage == Stage::Waiting => return Err(()),
            Ok(length) => {
                self.read += length;
                self.decoder.feed(&buffer[..length]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(None),
            Err(_) => return Err(()),
        }
        match self.decoder.next() {
            Ok(Some(ask)) => Ok(Some(ask)),
            // One frame, and descriptors for one.
            Ok(None) if self.read <= 4 + MAX_FRAME && self.fds.len() <= control::MAX_DESCRIPTORS => Ok(None),
            Ok(None) | Err(_) => Err(()),
        }
    }
}

fn may_ask(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Who is at the other end. By libc: of a process in a pid namespace we do not see the pid is
/// 0, which rustix' type for it cannot hold.
fn peer(stream: &OwnedFd) -> Option<u32> {
    let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both out-pointers are valid for writes, the length says how long.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SAFETY: zeroed and then filled by the kernel; any bit pattern is valid.
    (result == 0).then(|| unsafe { credentials.assume_init() }.uid)
}

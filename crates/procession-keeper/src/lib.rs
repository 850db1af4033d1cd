//! A command becomes a process tree and ends: the keeper.
//!
//! The small process that owns the listening sockets, the children, their output pipes and
//! their deadlines, so that the server may die, or be replaced, without any of these. One
//! thread, epoll; no tokio, no HTTP, no JSON, no database. The only crate with `unsafe`.
//! It knows nothing of tasks, jobs, retries: a `Launch` comes in, an `ExitRecord` goes out.
//!
//! # For the program
//! [`run`] turns the calling process into a keeper and returns its exit status. Call it
//! while the process has one thread and no children. It changes the process for good: all
//! signals blocked and at their defaults, umask 077, subreaper, open files raised to the
//! hard limit. Messages for people go to stderr, a line each, `procession keeper: …`.
//!
//! Of signals to the keeper: the first TERM, INT or QUIT is SHUTDOWN to the server, the
//! second SHUTDOWN `now`; the third kills every tree and the server. Where no server is ready
//! to hear it, the keeper ends by itself: at once if nothing runs; else it waits 10 s for a
//! server (not after a second signal) and then ends what runs, by TERM and after its grace
//! by KILL. Unless a server said GOODBYE the exit status is 128 + the signal's number. HUP lets
//! another server take over with the config as it is now, USR2 with the program as it is now;
//! USR1 is REOPEN_LOG to the server.
//!
//! The operator asks the same, and more, on the socket `control` in `Setup::state_dir`
//! ([`ask()`], [`Conversation`]). A server that was asked to keep its jobs says GOODBYE while
//! they run: the keeper then closes its listeners and waits for them alone, until they have
//! ended or a [`Conversation::attach`] brings listeners and a server again.
//!
//! A service manager that set `NOTIFY_SOCKET` is told when the keeper is ready, reloads and
//! stops; one that set `WATCHDOG_USEC` hears that the keeper is well. A ready server that leaves
//! three PINGs unanswered is ended, and followed by another.
//!
//! # For the server
//! [`take_control_socket`] gives its end of the socket (a blocking stream, once a process).
//! Frames are [`procession_core::frame`]: `Message::encode` into a buffer, bytes through a
//! `Decoder<ToServer>`. HELLO and HELD carry descriptors: receive with [`control::receive`],
//! which gives them close-on-exec, in the order of `Hello::listeners` and of
//! [`procession_core::frame::Held`]. Batch reads and writes.
//!
//! 1. HELLO comes at once, nothing else before the server has said something.
//! 2. Say READY when HTTP is answered. A server that dies before the first READY ever ends
//!    the keeper with the server's own exit status (128 + signal); later ones are started
//!    again, at once if they had been ready, else after 100 ms, doubling up to 5 s.
//! 3. Say LIST after every HELLO, also the first one: a keeper finds records of its
//!    predecessor in the journal. The answer is one or more ATTEMPTS, the last with
//!    `more == false`. What ended before HELLO is only told there; what ends after it comes
//!    as EXITED too, so the same record may come twice: commit under the fence, ACK each.
//!    An attempt in neither list was never started, and never will be by an old message.
//! 4. SPAWN is answered by STARTED, then EXITED, or by EXITED alone (`Ending::NotStarted`, or
//!    one that ended before its exec was seen). `NotStarted{phase: Prepare | Cgroup | Fork,
//!    errno: EAGAIN | ENOMEM | EMFILE | ENFILE}` is want of resources: nothing ran, requeue
//!    and admit less. A SPAWN whose key runs or is not acknowledged is ignored.
//! 5. STOP: TERM and CONT to every process of the tree, KILL after `grace`; with `now` KILL
//!    at once. No answer but EXITED. The first cause stays in the record (a STOP after the
//!    deadline is still a deadline); an exit that came before the stop has none.
//! 6. GOODBYE{status}, then exit: the keeper ends with that status once nothing runs and the
//!    server is gone. Until then SHUTDOWN may come at any time, and is said again to a
//!    server that is started during a shutdown.
//!
//! # When another server takes over
//! HELLO with `standby` says that another server serves. Check what can be checked, touch
//! nothing, say PREPARED (or REFUSED and exit); the server before then hears RETIRE, finishes
//! what changes the store, releases it and says RETIRED; then the standby hears PROCEED and
//! goes on with LIST like any other. What either of them does wrong is mended by a third one:
//! a standby that dies, hangs or refuses before it was to proceed is forgotten, one that dies
//! later is followed by a server from the program that the keeper itself runs.
//!
//! The server runs in its own session with the keeper's environment and standard
//! descriptors, `Setup::server.env` added, umask 077, open files raised. A server that
//! closes the socket is killed after 5 s.
//!
//! 7. RENEW: the keeper executes `Setup::server.program` with the arguments `keeper --image N`,
//!    which must give N to [`Resumed::read`]. Nothing else changes for anybody; if it fails
//!    nothing changes at all.
//!
//! # Times and output
//! A timeout begins at exec, not at SPAWN. `started_us` is the exec, or for what never ran
//! its end. OUTPUT counts bytes that readers of the file find by
//! [`procession_core::output::Layout`]; while all of it is small and young there is no file
//! and no notice. `OutputMode::File` gives no notices and no limit: watch the file's size.
//! A file is made anew: what stands at its path is removed, never written through. One of
//! `Stdin::File` must be a regular file, and no link.
//! With `leave_children` what the leader leaves is left alone only if the leader ended by
//! itself; a stopped attempt is ended whole.

mod admin;
mod ask;
mod attempts;
pub mod control;
mod daemon;
mod ending;
mod events;
pub mod fault;
mod file;
mod follow;
mod handover;
pub mod heir;
mod identity;
mod journal;
mod keeper;
mod monitors;
mod notify;
mod operator;
mod orphans;
mod outbox;
mod output;
mod reload;
mod renew;
mod resume;
mod server;
mod servers;
mod spawn;
mod startup;
mod supervise;
mod sys;
mod timers;
mod tree;
mod unacknowledged;
mod world;

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use ask::{AskError, Conversation, ask};
pub use control::{CONTROL_FD, NoControlSocket, take_control_socket};
pub use daemon::{Child, Daemon, Detached, Start, detach, open_log, passed_sockets, replace_output};
pub use follow::{Followed, follow};
pub use identity::{Handle, Identity};
pub use journal::inspect::{JournalState, inspect_journal};
pub use renew::begin_anew;
pub use resume::Resumed;
pub use server::ServerCommand;
use startup::dev_null;

/// What the keeper is to keep.
#[derive(Debug)]
pub struct Setup {
    /// Listening sockets and what the config calls them; handed to every server.
    pub listeners: Vec<(OwnedFd, String)>,
    /// Descriptors that stay open as long as this process, and longer: every server gets them
    /// too. The lock of the data directory.
    pub held: Vec<OwnedFd>,
    /// Holds the journal; it must exist, and its lock be held by this process.
    pub state_dir: PathBuf,
    /// What to run as the server.
    pub server: ServerCommand,
    /// How trees are to be held together.
    pub containment: ContainmentChoice,
    /// Names the folder of cgroups (`procession-<label>`), the same for every keeper of a data directory and for no
    /// other: a keeper ends what it finds there.
    pub label: String,
    /// Set where somebody waits for this process to serve.
    pub daemon: Option<Daemon>,
}

/// How trees are to be held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainmentChoice {
    /// By cgroups where they are usable, else by monitors.
    Best,
    /// By monitors: for tests of these.
    MonitorOnly,
}

/// Why there is no keeper, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It could not become fit to keep anything, or lost what it waits with.
    #[error("keeper: {what}")]
    Start {
        /// The step.
        what: &'static str,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// What the program before handed on cannot be used.
    #[error("the keeper cannot go on as what it was: {what}")]
    Image {
        /// What is wrong with it.
        what: String,
    },
    /// The server's program could not be started, not even once.
    #[error("the server could not be started: {phase}")]
    Server {
        /// The step that failed.
        phase: &'static str,
        /// The kernel's reason.
        source: std::io::Error,
    },
}

impl KeeperError {
    fn start<E: Into<std::io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |source| KeeperError::Start { what, source: source.into() }
    }
}

/// Keeps until there is nothing more to keep; gives the exit status for this process.
pub fn run(setup: Setup) -> Result<u8, KeeperError> {
    let inherited = startup::settle().map_err(KeeperError::start("settling"))?;
    let boot_id = boot_id().map_err(KeeperError::start("boot id"))?;
    let (journal, left) =
        journal::Journal::open(&setup.state_dir, boot_id).map_err(KeeperError::start("journal"))?;
    let monitors = monitors::share_alone(&setup.state_dir).map_err(KeeperError::start("monitors"))?;
    let mut stacks = sys::stack::Stacks::default();
    let method = spawn::method(&mut stacks).map_err(KeeperError::start("clone"))?;
    let trees = match setup.containment {
        ContainmentChoice::Best => tree::cgroup::Cgroups::open(&setup.label, method, &mut stacks),
        ContainmentChoice::MonitorOnly => None,
    };
    let world = world::World {
        boot_id,
        origin: world::Origin::of(&setup),
        events: events::Events::new().map_err(KeeperError::start("events"))?,
        timers: timers::Timers::new().map_err(KeeperError::start("timers"))?,
        now: sys::clock::now(),
        inherited,
        method,
        stacks,
        trees: trees.map_or(world::Trees::Monitors, world::Trees::Cgroups),
        null: dev_null().map_err(KeeperError::start("/dev/null"))?.into(),
        monitors,
        own: HashSet::new(),
        spared: HashSet::new(),
        overdue: vec![],
        journal,
        left,
        outbox: world::Outbox::default(),
    };
    let admin = open_control_socket(&setup.state_dir, None, &world);
    let servers = servers::Servers::new(setup.server, setup.listeners, setup.held);
    keeper::Keeper::new(world, servers, admin, setup.daemon)?.run()
}

fn open_control_socket(state_dir: &Path, socket: Option<OwnedFd>, world: &world::World) -> admin::Admin {
    let opened = match socket {
        Some(socket) => admin::Admin::resume(state_dir, socket, world),
        None => admin::Admin::open(state_dir, world),
    };
    opened.unwrap_or_else(|errno| {
        complain(format_args!("no control socket, `procession status` will not find us: {errno}"));
        admin::Admin::default()
    })
}

/// The kernel's name for this boot: pids of another boot mean nothing.
pub fn boot_id() -> std::io::Result<[u8; 16]> {
    let text = match fault::boot_id() {
        Some(text) => text,
        None => std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?,
    };
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
    Ok(number.to_be_bytes())
}

/// The longest complaint: it fits a pipe, of which nobody reads, in one piece.
const COMPLAINT: usize = 2048;

/// A line for people on stderr. A terminal that is gone must not end the keeper, as `eprintln`
/// would; one that is held up, or a pipe that nobody reads, must not hold up all deadlines: then
/// the line is lost.
fn complain(what: std::fmt::Arguments<'_>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = std::io::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut line = format!("procession keeper: {what}");
    line.truncate(line.floor_char_boundary(COMPLAINT));
    line.push('\n');
    if matches!(poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&at_once)), Ok(1)) {
        let _ = rustix::io::write(&stderr, line.as_bytes());
    }
}

/// Bytes of a launch as a path.
fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(bytes)).into()
}

//! What a keeper hands on to the program that takes its place: all it owns, as numbers of
//! descriptors that stay open, and as values.
//!
//! Written by a keeper that executes itself anew, read by the new program: one release may
//! write what another reads. As in frames, fields are only ever appended and numbers of
//! variants are never given to another; here every field is a block of its own, so that a
//! value may grow wherever it stands. Does no I/O, owns no descriptor.

#[cfg(test)]
mod tests;
mod values;

use bytes::Bytes;

use super::Shutdown;
use super::codec::BadFrame;
use super::fields::{Reader, Writer};
use super::values::Value;
use crate::attempt::{Bounds, Instant, State as MachineState, Verdict};
use crate::id::AttemptKey;
use crate::record::{ExitRecord, Phase, StopCause, Usage};
use values::field;

const MAGIC: &[u8; 8] = b"procimg1";
const HEADER: usize = 12;

/// Why an image cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// It is no image, or not whole: nothing in it can be believed.
    #[error("it is not whole")]
    Torn,
    /// It is whole, and says what this program does not understand.
    #[error("it says what this program does not understand")]
    Unknown,
}

/// A descriptor by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub i32);

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The folder of the attempts' cgroups; empty where there is none. It stands first:
    /// [`folder_of`] reads it where the rest is not understood.
    pub folder: Bytes,
    /// What every keeper is given.
    pub setup: Setup,
    /// What this one owns; `None`: it is to begin anew.
    pub state: Option<State>,
}

/// What every keeper is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Descriptors that are only kept open.
    pub held: Vec<Fd>,
    /// The folder with the journal.
    pub state_dir: Bytes,
    /// Absolute path of the server's program.
    pub program: Bytes,
    /// Its arguments, without its name.
    pub args: Vec<Bytes>,
    /// Added to its environment: names and values.
    pub env: Vec<Variable>,
    /// Cgroups are not to be used.
    pub monitor_only: bool,
    /// Names the folder of cgroups.
    pub label: Bytes,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The socket.
    pub fd: Fd,
    /// What the config calls it.
    pub name: Bytes,
}

/// A variable of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// What a keeper owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The boot it was written under.
    pub boot_id: [u8; 16],
    /// Children are made by `clone3`.
    pub clone3: bool,
    /// Open files that jobs get: soft, hard.
    pub nofile: (u64, u64),
    /// Runs at another niceness than 0.
    pub niced: bool,
    /// Strangers may be or become its children.
    pub strangers: bool,
    /// The journal, at its end.
    pub journal: Fd,
    /// The journal's length, bytes.
    pub journal_length: u64,
    /// Records that no server has committed, oldest first.
    pub left: Vec<ExitRecord>,
    /// Children that are its own to reap.
    pub own: Vec<i32>,
    /// Children that may run on.
    pub spared: Vec<i32>,
    /// Monitors that are to end soon.
    pub overdue: Vec<Overdue>,
    /// Cgroups; `None`: monitors hold the trees.
    pub cgroups: Option<Cgroups>,
    /// The servers.
    pub servers: Servers,
    /// Attempts that are not over.
    pub attempts: Vec<Attempt>,
    /// Alarms that are no attempt's.
    pub alarms: Vec<Alarm>,
    /// How far its own end has come.
    pub ending: Ending,
    /// How the last reload went; `None`: there was none.
    pub reloaded: Option<Reloaded>,
    /// The connection of whoever attached and stands in for the keeper.
    pub follower: Option<Fd>,
    /// The file that stdout and stderr of a daemon go to.
    pub log: Option<Bytes>,
    /// The control socket, as it is listened on.
    pub askers: Option<Fd>,
    /// A reload that was asked for and has not begun.
    pub reload: Option<Reload>,
}

/// A reload that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The program too may be another.
    pub binary: bool,
    /// Unfinished jobs of tasks that left the config are cancelled.
    pub force: bool,
    /// Connections of those who wait for it.
    pub askers: Vec<Fd>,
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Wall clock, Unix microseconds.
    pub at_us: i64,
    /// Why it was refused; empty: it was not.
    pub error: Bytes,
}

/// A child and the handle to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: Fd,
}

/// A monitor that is ended if it does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// So long it may take.
    pub until: Instant,
    /// The monitor.
    pub process: Process,
}

/// The folder of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    /// As `/proc/PID/cgroup` names it.
    pub name: Bytes,
    /// Children join before exec; else they are born inside.
    pub joins_before_exec: bool,
    /// The next number.
    pub next: u64,
    /// Those that are to be removed.
    pub leaving: Vec<Slot>,
}

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its folder.
    pub path: Bytes,
    /// Its number.
    pub number: u64,
    /// As `/proc/PID/cgroup` names it.
    pub name: Bytes,
    /// Its folder, open.
    pub folder: Fd,
    /// Its `cgroup.events`, open.
    pub events: Fd,
    /// It saw `cgroup.kill`.
    pub killed: bool,
}

/// The servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// How many there were.
    pub generation: u64,
    /// Before the next start, microseconds.
    pub pause_us: u64,
    /// One of them was ready.
    pub ever_ready: bool,
    /// One of them has said SETTLED.
    pub settled: bool,
    /// The one that serves.
    pub current: Option<Up>,
    /// Those that have handed over.
    pub retired: Vec<Up>,
}

/// A server process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// Its generation.
    pub id: u32,
    /// The process.
    pub process: Process,
    /// Its socket; `None`: it has hung up.
    pub socket: Option<Fd>,
    /// Read from it and not acted on.
    pub unread: Bytes,
    /// Not yet taken by the socket; may begin inside a frame.
    pub unsent: Bytes,
    /// Descriptors that travel with bytes of `unsent`.
    pub attached: Vec<Attached>,
    /// The listeners are on their way.
    pub greeted: bool,
    /// It has said READY.
    pub ready: bool,
    /// When it was started.
    pub since: Instant,
}

/// Descriptors beside a byte of what is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Counted from the first byte that is not sent.
    pub at: u64,
    /// They travel with it.
    pub fds: Vec<Fd>,
}

/// An attempt that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub key: AttemptKey,
    /// The launch's own note.
    pub cookie: Bytes,
    /// Where it stands.
    pub machine: Machine,
    /// The leader, or its monitor.
    pub process: Process,
    /// What holds its tree.
    pub tree: Tree,
    /// What it writes.
    pub output: Output,
    /// Streams that may still bring something.
    pub open: (bool, bool),
    /// How far the server was told of its output.
    pub told: (u64, u64),
    /// The leader's pid; 0 until it reached its program.
    pub pid: u32,
    /// The leader's start time.
    pub start_ticks: u64,
    /// Wall clock at the exec, Unix microseconds.
    pub started_us: i64,
    /// The same moment on the clock of deadlines.
    pub started: Instant,
    /// Wall clock at the leader's end, Unix microseconds.
    pub finished_us: i64,
    /// The same moment on the clock of deadlines.
    pub finished: Instant,
    /// Looks at a monitor that does not answer, and how many found it stopped.
    pub looks: (u32, u32),
    /// It was ending by itself when somebody first wanted it ended.
    pub unasked: bool,
    /// Its alarms.
    pub alarms: Vec<Alarm>,
    /// The server holds duplicates of its descriptors.
    pub held: bool,
}

/// The machine of [`crate::attempt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its state.
    pub state: MachineState,
    /// Its bounds.
    pub bounds: Bounds,
    /// Its verdict so far.
    pub verdict: Verdict,
}

/// What holds a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A cgroup; and how many were found beside the leader.
    Cgroup(Slot, u32),
    /// A monitor.
    Monitor(Watch),
}

/// A monitor, as far as it has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The keeper's end of its socket.
    pub wire: Fd,
    /// How the leader ended.
    pub wait_status: Option<i32>,
    /// What it used.
    pub usage: Usage,
    /// Found beside it.
    pub leaked: u32,
    /// What it left is left alone.
    pub left: bool,
    /// It has told that it is done.
    pub swept: bool,
}

/// What an attempt writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Through pipes; the second is missing where both streams are one.
    Pipes(Stream, Option<Stream>),
    /// Straight to these files.
    Files(Fd, Fd),
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The read end of its pipe.
    pub pipe: Fd,
    /// Its file, made or not.
    pub path: Bytes,
    /// Kept bytes.
    pub limit: u64,
    /// Bytes that came so far.
    pub total: u64,
    /// Where they are.
    pub sink: Sink,
    /// Little of it stays in the pipe.
    pub patient: bool,
}

/// Where the bytes of a stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Here; and whether making a file was tried in vain.
    Memory(Bytes, bool),
    /// In the file; and whether it is written by splice.
    File(Fd, bool),
    /// The file took no more.
    Full {
        /// The file, where one was made.
        file: Option<Fd>,
        /// So many it took.
        written: u64,
        /// The last bytes of the rest.
        tail: Bytes,
    },
}

/// Something that is to happen at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What: the keeper's own numbers.
    pub kind: u8,
    /// When.
    pub at: Instant,
}

/// How far the keeper's own end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// How often it was asked.
    pub asked: u8,
    /// The exit status if it ends because of that.
    pub status: u8,
    /// The exit status a server said.
    pub goodbye: Option<u8>,
    /// A server is waited for until then.
    pub alone_until: Option<Instant>,
    /// Every attempt was asked to end.
    pub attempts_ended: bool,
    /// What was asked for beside the end.
    pub wish: Shutdown,
}

impl Image {
    /// All of it as bytes, with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        self.write(&mut Writer::new(&mut out));
        let crc = crc32fast::hash(&out[HEADER..]);
        out[MAGIC.len()..HEADER].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// From the bytes that [`Image::to_bytes`] gave, in this release or its neighbours.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, BadImage> {
        Self::read(&mut whole(bytes)?).map_err(|_| BadImage::Unknown)
    }
}

/// The folder of cgroups of an image that is whole, understood or not.
pub fn folder_of(bytes: &Bytes) -> Option<Bytes> {
    field(&mut whole(bytes).ok()?).ok()
}

fn whole(bytes: &Bytes) -> Result<Reader, BadImage> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(BadImage::Torn)?;
    let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let body = bytes.slice(HEADER..);
    let good = header[..8] == *MAGIC && crc32fast::hash(&body) == crc;
    good.then(|| Reader::new(body)).ok_or(BadImage::Torn)
}

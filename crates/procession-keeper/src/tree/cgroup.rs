//! A pool of cgroups, one an attempt.
//!
//! The rule that cost most to find: a cgroup that once saw `cgroup.kill` kills, on some
//! kernels, every child born into it later, and killing a parent folder does that to all
//! below. So only leaves are killed, and a killed one is removed, never used again. A slot
//! comes back only if [`Slot::is_clean`]. The keeper owns the pool; `supervise` asks for slots.
//!
//! Nothing leaves a cgroup by forking, but who may write a `cgroup.procs` above (root, or the
//! user that the keeper runs as) can move out. Its leader is still known by its handle; what
//! else moved out and lost its parent falls to the keeper, and `orphans` ends it. Out of
//! reach stays only what moved out where the keeper also adopts strangers (as PID 1), in a
//! session of its own.

mod image;

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{Timespec, poll};
use rustix::fs::{Mode, OFlags, XattrFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

mod leaf;

pub(crate) use image::end_all;
pub(crate) use leaf::end_leaf;

use super::mount::{OwnCgroup, own_cgroup};
use crate::spawn::no_op;
use crate::sys::clone::Method;
use crate::sys::process::signal;
use crate::sys::stack::Stacks;

/// Idle cgroups kept for the next attempts.
const SPARE: usize = 64;

/// New members found while signalling are signalled too, this many times over: a tree that
/// forks faster is the business of KILL.
const SIGNAL_ROUNDS: usize = 8;

/// Marks a cgroup whose processes were left alone on purpose, for later keepers.
const LEFT: &str = "user.procession.left";

/// How a child gets into its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Born in it.
    AtBirth,
    /// Writes itself into `cgroup.procs` before exec: older kernels, and where being born
    /// in a cgroup kills (the keeper itself lives in a killed one).
    BeforeExec,
}

/// The folder of this keeper's cgroups and those in it.
#[derive(Debug)]
pub(crate) struct Cgroups {
    folder: PathBuf,
    name: String,
    join: Join,
    next: u64,
    /// Numbers of those that attempts have, or that are to be removed.
    lent: HashSet<u64>,
    spare: Vec<Slot>,
    /// Emptying, to be removed.
    leaving: VecDeque<Slot>,
}

/// The cgroup of one attempt.
#[derive(Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    number: u64,
    name: String,
    folder: OwnedFd,
    events: OwnedFd,
    killed: bool,
}

impl Cgroups {
    /// Finds or makes the folder `procession-<label>` below our own cgroup, ends what a
    /// killed predecessor left in it, and tries whether children can live there. `None`:
    /// there is no usable cgroup here.
    pub(crate) fn open(label: &str, method: Method, stacks: &mut Stacks) -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let OwnCgroup { folder, name } =
            own_cgroup(&mountinfo, &fs::read_to_string("/proc/self/cgroup").ok()?)?;
        let label = format!("procession-{label}");
        let folder = folder.join(&label);
        let name = format!("{}/{label}", name.trim_end_matches('/'));
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => end_leftovers(&folder),
            Err(_) => return None,
        }
        let mut cgroups = Self {
            folder,
            name,
            join: Join::AtBirth,
            next: 0,
            lent: HashSet::new(),
            spare: vec![],
            leaving: VecDeque::new(),
        };
        cgroups.join = cgroups.probe(method, stacks)?;
        Some(cgroups)
    }

    fn probe(&mut self, method: Method, stacks: &mut Stacks) -> Option<Join> {
        let slot = self.make().ok()?;
        let joins: &[Join] = match method {
            Method::Clone3 => &[Join::AtBirth, Join::BeforeExec],
            Method::Clone => &[Join::BeforeExec],
        };
        let survives = |join: &&Join| {
            let procs = slot.procs().ok();
            let status = match join {
                Join::AtBirth => no_op(method, Some(slot.folder()), None, stacks),
                Join::BeforeExec => no_op(method, None, procs.as_ref().map(AsFd::as_fd), stacks),
            };
            status == Ok(0)
        };
        // Without `cgroup.kill` (Linux 5.14) a fork bomb would win.
        let kills = slot.path.join("cgroup.kill").exists();
        let join = joins.iter().find(survives).copied().filter(|_| kills);
        self.retire(slot);
        join
    }

    pub(crate) fn join(&self) -> Join {
        self.join
    }

    /// A clean cgroup.
    pub(crate) fn take(&mut self) -> Result<Slot, Errno> {
        let slot = match self.spare.pop() {
            Some(slot) => slot,
            None => self.make()?,
        };
        self.lent.insert(slot.number);
        Ok(slot)
    }

    /// Whether the process has left the cgroups of attempts. One of which nothing can be
    /// read has not.
    pub(crate) fn was_left_by(&self, pid: Pid) -> bool {
        cgroup_of(pid).is_some_and(|name| !self.holds(&name))
    }

    /// Whether it is, or is below, a cgroup in which an attempt has its processes or left
    /// them.
    fn holds(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&*self.name).and_then(|rest| rest.strip_prefix("/a"));
        let number = rest.and_then(|rest| rest.split('/').next()).and_then(|number| number.parse().ok());
        number.is_some_and(|number| self.lent.contains(&number))
    }

    fn make(&mut self) -> Result<Slot, Errno> {
        loop {
            let number = self.next;
            let name = format!("a{number}");
            self.next += 1;
            let path = self.folder.join(&name);
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
                // A leftover that could not be removed, a tree that was left alone.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
                Ok(()) => {
                    let slot = Slot::open(path.clone(), number, format!("{}/{name}", self.name));
                    if slot.is_err() {
                        let _ = rustix::fs::rmdir(&path);
                    }
                    return slot;
                }
            }
        }
    }

    /// Takes a slot back whose attempt is over: into the pool, or to be removed.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        if self.spare.len() < SPARE && slot.is_clean() {
            self.lent.remove(&slot.number);
            self.spare.push(slot);
        } else {
            self.retire(slot);
        }
    }

    /// Takes a slot that is never to be used again: removed now or by [`Cgroups::tend`].
    pub(crate) fn retire(&mut self, slot: Slot) {
        if slot.remove() {
            self.lent.remove(&slot.number);
        } else {
            self.leaving.push_back(slot);
        }
    }

    /// Tries again to remove what was not empty yet; says whether anything is left to do.
    pub(crate) fn tend(&mut self) -> bool {
        let Self { leaving, lent, .. } = self;
        leaving.retain(|slot| {
            let gone = slot.remove();
            if gone {
                lent.remove(&slot.number);
            }
            !gone
        });
        !self.leaving.is_empty()
    }

    /// Whether [`Cgroups::tend`] has work.
    pub(crate) fn needs_tending(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Removes what can be removed: trees that were left alone keep theirs.
    pub(crate) fn close(&mut self) {
        self.leaving.extend(self.spare.drain(..));
        for _ in 0..20 {
            self.tend();
            // The last killed may still be on their way out.
            if self.leaving.iter().all(|slot| is_left(&slot.path)) {
                break;
            }
            pause();
        }
        // Those that a predecessor left alone may have emptied since.
        for child in child_folders(&self.folder) {
            let _ = fs::remove_dir(child);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Slot {
    fn open(path: PathBuf, number: u64, name: String) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())?;
        let events = openat(&folder, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { path, number, name, folder, events, killed: false })
    }

    /// For CLONE_INTO_CGROUP.
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Readable with priority after a change of what [`Slot::is_populated`] says.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// For a child that writes itself in.
    pub(crate) fn procs(&self) -> Result<OwnedFd, Errno> {
        openat(&self.folder, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Whether any process lives in it or below; zombies do not.
    pub(crate) fn is_populated(&self) -> bool {
        self.event("populated ") != Some(false)
    }

    /// A field of `cgroup.events`; reading re-arms the notification.
    fn event(&self, field: &str) -> Option<bool> {
        let mut buffer = [0u8; 128];
        let length = rustix::io::pread(&self.events, &mut buffer, 0).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).ok()?;
        text.lines().find_map(|line| line.strip_prefix(field)).map(|value| value != "0")
    }

    /// Fit for another attempt: never killed, empty, thawed, without children or changes to
    /// how it works (its processes may have run as root).
    fn is_clean(&self) -> bool {
        let mut buffer = [0u8; 64];
        let mut is = |file: &str, expected: &[u8]| {
            let length = openat(&self.folder, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .and_then(|fd| rustix::io::read(fd, &mut buffer));
            length.is_ok_and(|length| buffer[..length].trim_ascii() == expected)
        };
        // A folder's link count is 2 and one for each folder in it.
        let childless = || rustix::fs::fstat(&self.folder).is_ok_and(|stat| stat.st_nlink == 2);
        !self.killed
            && self.event("populated ") == Some(false)
            && self.event("frozen ") != Some(true)
            && childless()
            && is("cgroup.type", b"domain")
            && is("cgroup.subtree_control", b"")
    }

    /// The processes alive in it and below, `except` one.
    pub(crate) fn members(&self, except: Pid) -> Vec<Pid> {
        let mut members = vec![];
        collect_members(&self.path, &mut members);
        members.retain(|pid| *pid != except);
        members
    }

    /// TERM, then CONT, to every process in it but the leader, who has heard.
    pub(crate) fn terminate(&self, leader: Pid) {
        let mut told: Vec<Pid> = vec![leader];
        for _ in 0..SIGNAL_ROUNDS {
            let mut members = vec![];
            collect_members(&self.path, &mut members);
            members.retain(|pid| !told.contains(pid));
            if members.is_empty() {
                return;
            }
            members.iter().for_each(|pid| self.terminate_member(*pid));
            told.append(&mut members);
        }
    }

    /// The handle first, then the look whether it is still a member: between the two reads
    /// the number may have gone to a stranger.
    fn terminate_member(&self, pid: Pid) {
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let name = cgroup_of(pid).unwrap_or_default();
        let inside =
            name.strip_prefix(&*self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if inside {
            signal(handle.as_fd(), Signal::TERM);
            signal(handle.as_fd(), Signal::CONT);
        }
    }

    /// KILL to every process in it and below, however fast it forks.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
        let kill = openat(&self.folder, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let done = kill.and_then(|fd| rustix::io::write(fd, b"1"));
        if done.is_err() {
            // Only for want of descriptors or memory: one by one, as well as can be.
            let mut members = vec![];
            collect_members(&self.path, &mut members);
            for handle in members.into_iter().filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
                signal(handle.as_fd(), Signal::KILL);
            }
        }
    }

    /// What lives in it is to be left alone, by later keepers too (Linux 5.7; before that
    /// they end it).
    pub(crate) fn leave(&self) {
        let _ = rustix::fs::fsetxattr(&self.folder, LEFT, b"1", XattrFlags::empty());
    }

    fn remove(&self) -> bool {
        remove_tree(&self.path)
    }
}

/// The name of the cgroup that the process is in.
fn cgroup_of(pid: Pid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn is_left(folder: &Path) -> bool {
    rustix::fs::getxattr(folder, LEFT, &mut [0u8; 8]).is_ok()
}

fn collect_members(folder: &Path, members: &mut Vec<Pid>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    members.extend(text.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)));
    for child in child_folders(folder) {
        collect_members(&child, members);
    }
}

fn child_folders(folder: &Path) -> Vec<PathBuf> {
    let childless = rustix::fs::stat(folder).is_ok_and(|stat| stat.st_nlink == 2);
    if childless {
        return vec![];
    }
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_folder).map(|entry| entry.path()).collect()
}

/// Whether it is gone.
fn remove_tree(folder: &Path) -> bool {
    match rustix::fs::rmdir(folder) {
        Ok(()) | Err(Errno::NOENT) => return true,
        Err(_) => {}
    }
    let children = child_folders(folder);
    !children.is_empty()
        && children.iter().all(|child| remove_tree(child))
        && rustix::fs::rmdir(folder).is_ok()
}

/// Kills each cgroup in the folder, never the folder itself, and waits a moment for them.
/// Those that were left alone are removed only if nothing lives in them.
fn end_leftovers(folder: &Path) {
    let (left, mut leftover): (Vec<_>, Vec<_>) =
        child_folders(folder).into_iter().partition(|child| is_left(child));
    for child in &left {
        let _ = fs::remove_dir(child);
    }
    for child in &leftover {
        let _ = fs::write(child.join("cgroup.kill"), "1");
    }
    for _ in 0..100 {
        leftover.retain(|child| !remove_tree(child));
        if leftover.is_empty() {
            return;
        }
        pause();
    }
}

/// A moment for processes to die, where there is no one file to wait on.
fn pause() {
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
}

#[cfg(test)]
mod tests;

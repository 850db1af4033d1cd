//! The keeper is dead, its server lives: what ran is brought to its end here, by a process
//! that is nobody's parent.
//!
//! The server calls it, from a thread of its own, with the duplicates it was given: pipes are
//! drained as the keeper would have, a leader's end is seen through its handle, its status is
//! the kernel's or unknown. What has not ended by itself in time is ended by its cgroup. Only
//! for attempts in cgroups: monitors end their trees by themselves.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use procession_core::attempt::{DRAIN_TIMEOUT, Instant};
use procession_core::frame::Held;
use procession_core::record::{Containment, Ending, ExitRecord, StreamRecord, Usage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::output::{Progress, Stream};
use crate::sys::clock;
use crate::sys::pidfd_info::exit_status;
use crate::sys::process::{has_ended, signal};
use crate::tree::cgroup;

/// Between two looks for a status: it comes when somebody reaps, and nothing tells of that.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// One that ended at the last moment is still given so long to be reaped.
const REAPED_WITHIN: Duration = Duration::from_secs(2);

/// An attempt of the dead keeper.
#[derive(Debug)]
pub struct Orphan {
    /// What the keeper said of it.
    pub held: Held,
    /// What came with that, in its order.
    pub descriptors: Vec<OwnedFd>,
    /// Files of stdout and stderr, made or not.
    pub files: [PathBuf; 2],
    /// Kept bytes of each stream.
    pub limit: u64,
    /// What the leader leaves running is left alone.
    pub leave_children: bool,
}

/// Sees every orphan to its end and gives each one's record, with an ending that is the
/// kernel's or `Vanished`. What runs longer than `bound` is ended. Blocks until all are over.
pub fn inherit(orphans: Vec<Orphan>, bound: Duration, mut each: impl FnMut(ExitRecord)) {
    let until = clock::now().after(bound);
    let mut all: Vec<Heritage> = orphans.into_iter().filter_map(Heritage::of).collect();
    while !all.is_empty() {
        let now = clock::now();
        for heritage in all.extract_if(.., |heritage| heritage.go_on(now, until)) {
            each(heritage.record());
        }
        wait(&all);
    }
}

/// What the dead keeper had recorded itself, and no server committed: it knew more of it than is
/// known here. `state_dir`: the folder of its journal.
pub fn recorded(state_dir: &Path) -> std::io::Result<Vec<ExitRecord>> {
    crate::journal::inspect::records(state_dir)
}

/// Ends all that lives in the cgroups of a keeper that is no more, but for what was left
/// alone on purpose. `folder` is what it called its own.
pub fn end_all(folder: &Path) {
    cgroup::end_all(folder);
}

struct Heritage {
    key: procession_core::id::AttemptKey,
    cookie: Bytes,
    cgroup: PathBuf,
    leave: bool,
    started_us: i64,
    finished_us: i64,
    leader: OwnedFd,
    streams: [Option<Stream>; 2],
    /// Of streams that have ended.
    records: [Option<StreamRecord>; 2],
    files: [PathBuf; 2],
    limit: u64,
    stage: Stage,
    leaked: u32,
    status: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Runs,
    /// By itself, then.
    Ended(Instant),
    /// By us, then: how is no more its own doing.
    Killed(Instant),
}

impl Heritage {
    fn of(orphan: Orphan) -> Option<Self> {
        let Orphan { held, descriptors, files, limit, leave_children } = orphan;
        let mut descriptors = descriptors.into_iter();
        let leader = descriptors.next()?;
        let mut pipe = |is_there: bool| is_there.then(|| descriptors.next()).flatten();
        let pipes = [pipe(held.stdout), pipe(held.stderr)];
        let mut streams = [None, None];
        for ((stream, pipe), file) in streams.iter_mut().zip(pipes).zip(&files) {
            *stream = pipe.and_then(|pipe| Stream::inherit(Some(pipe), file.clone(), limit).ok());
        }
        Some(Self {
            key: held.key,
            cookie: held.cookie,
            cgroup: crate::path_of(&held.cgroup),
            leave: leave_children,
            started_us: held.started_us,
            finished_us: 0,
            leader,
            streams,
            records: [None, None],
            files,
            limit,
            stage: Stage::Runs,
            leaked: 0,
            status: None,
        })
    }

    /// Whether it is over.
    fn go_on(&mut self, now: Instant, until: Instant) -> bool {
        self.drain();
        match self.stage {
            Stage::Runs if has_ended(self.leader.as_fd()) => {
                self.end_rest(self.leave);
                self.stage = Stage::Ended(now);
            }
            Stage::Runs if now >= until => {
                self.end_rest(false);
                // It was one of them itself.
                self.leaked = self.leaked.saturating_sub(1);
                signal(self.leader.as_fd(), Signal::KILL);
                self.stage = Stage::Killed(now);
            }
            Stage::Runs => {}
            Stage::Ended(at) => {
                self.status = exit_status(self.leader.as_fd());
                let known = self.status.is_some() || now >= until.max(at.after(REAPED_WITHIN));
                return known && self.is_drained(at, now);
            }
            Stage::Killed(at) => {
                let gone = has_ended(self.leader.as_fd()) || now >= at.after(REAPED_WITHIN);
                return gone && self.is_drained(at, now);
            }
        }
        false
    }

    fn end_rest(&mut self, leave: bool) {
        self.finished_us = clock::wall_us();
        self.leaked = cgroup::end_leaf(&self.cgroup, leave);
    }

    fn drain(&mut self) {
        for (stream, record) in self.streams.iter_mut().zip(&mut self.records) {
            if let Some(open) = stream
                && open.take() == Progress::Ended
                && let Some(ended) = stream.take()
            {
                *record = Some(ended.close());
            }
        }
    }

    /// Who was left alone may hold the pipes for ever.
    fn is_drained(&self, ended: Instant, now: Instant) -> bool {
        self.streams.iter().all(Option::is_none) || now >= ended.after(DRAIN_TIMEOUT)
    }

    fn record(self) -> ExitRecord {
        let [first, second] = self.streams;
        let [early, late] = self.records;
        let [stdout, stderr] = self.files;
        // What has no pipe, or none any more, was written to its file or not at all.
        let of_file = |file| Stream::inherit(None, file, self.limit).map(Stream::close).unwrap_or_default();
        let stdout = early.or(first.map(Stream::close)).unwrap_or_else(|| of_file(stdout));
        let stderr = late.or(second.map(Stream::close)).unwrap_or_else(|| of_file(stderr));
        let ending = match (self.stage, self.status) {
            (Stage::Ended(_), Some(wait_status)) => Ending::Ended { wait_status, stopped: None },
            _ => Ending::Vanished,
        };
        ExitRecord {
            key: self.key,
            ending,
            started_us: self.started_us,
            finished_us: self.finished_us,
            run_us: u64::try_from(self.finished_us - self.started_us).unwrap_or_default(),
            // Only a parent is told what its child used.
            usage: Usage::default(),
            leaked: self.leaked,
            stdout,
            stderr,
            containment: Containment::Cgroup,
            cookie: self.cookie,
        }
    }
}

/// Until something happens, or a status may be there.
fn wait(all: &[Heritage]) {
    let running = all.iter().filter(|heritage| heritage.stage == Stage::Runs);
    let leaders = running.map(|heritage| heritage.leader.as_fd());
    let pipes = all.iter().flat_map(|heritage| heritage.streams.iter().flatten().map(Stream::pipe));
    let each = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds: Vec<PollFd<'_>> = leaders.chain(pipes).map(each).collect();
    let _ = poll(&mut fds, Some(&LOOK_EVERY));
}

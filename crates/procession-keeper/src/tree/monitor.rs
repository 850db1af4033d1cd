//! The monitor: a process between the keeper and one job, where there is no cgroup.
//!
//! Forked from the keeper, not exec'd: it costs some pages, and inherits the code. It is the
//! tree's subreaper, so whatever a job does, its orphans fall to its monitor and are known as
//! its. It takes orders, reports, decides nothing; when the keeper dies it ends its tree.
//!
//! A job that runs as the keeper's user can signal its monitor. Stopped, the keeper resumes
//! it, or kills it where it does not stay so; killed, its leader dies too, the rest falls to
//! the keeper and is ended, and how the attempt ended is not known (`Ending::Vanished`).

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_core::record::{Phase, Usage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, set_child_subreaper};

use super::descendants::{Row, living, signal_row, table};
use super::watch::{Order, Report, Silence, Wire};
use crate::orphans;
use crate::spawn::{Command, Failure, Newborn, Outcome, Process, clone, outcome, prepare};
use crate::sys::clone::Method;
use crate::sys::fork::{detach_standard, fork, keep_only};
use crate::sys::process::{has_children, has_ended, peek, reap, stat};
use crate::sys::signals;
use crate::sys::stack::Stacks;

/// Between two looks at a tree that is being killed.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// New descendants found while signalling are signalled too, this many times over.
const SIGNAL_ROUNDS: usize = 8;

/// Forks a monitor that runs `command` and speaks on `wire`; it has the `lock` of the module
/// `monitors` as long as there is something to end.
pub(crate) fn start(
    (wire, lock): (&Wire, &OwnedFd),
    command: &Command<'_>,
    null: &OwnedFd,
    method: Method,
    stacks: &mut Stacks,
) -> Result<Process, Errno> {
    // What the copy needs must exist before it does.
    let children = signals::descriptor(&[libc::SIGCHLD])?;
    fork(|| {
        detach_standard(null);
        let [stdin, stdout, stderr] = command.stdio;
        keep_only(&[wire.descriptor(), lock.as_fd(), children.as_fd(), stdin, stdout, stderr]);
        let mut monitor =
            Monitor { wire, lock, children: &children, job: Job::default(), stage: Stage::Running };
        monitor.begin(command, method, stacks);
        monitor.run(stacks);
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The leader runs, or is about to.
    Running,
    /// The tree is being killed, the leader with it.
    Killing,
    /// The leader is dead; the keeper has to say what becomes of the rest.
    Ended,
    /// The rest is being killed.
    Sweeping,
    /// The keeper is gone: everything is being killed, nobody listens.
    Abandoned,
    /// The rest lives on; we are only its subreaper.
    Left,
    /// Nothing is left to do.
    Done,
}

struct Monitor<'a> {
    wire: &'a Wire,
    lock: &'a OwnedFd,
    children: &'a OwnedFd,
    job: Job,
    stage: Stage,
}

#[derive(Default)]
struct Job {
    leader: Option<Process>,
    newborn: Option<Newborn>,
    /// An order to end it came while it lived.
    asked: bool,
    leaked: u32,
}

impl Monitor<'_> {
    fn begin(&mut self, command: &Command<'_>, method: Method, stacks: &mut Stacks) {
        let _ = set_child_subreaper(Some(getpid()));
        match begin_job(command, method, stacks) {
            Ok((leader, newborn)) => {
                // The job's own ends are the job's alone: its end is their end.
                keep_only(&[
                    self.wire.descriptor(),
                    self.lock.as_fd(),
                    self.children.as_fd(),
                    leader.pidfd.as_fd(),
                    newborn.status(),
                ]);
                self.job.leader = Some(leader);
                self.job.newborn = Some(newborn);
            }
            Err(Failure { phase, errno }) => {
                self.wire.report(Report::Failed { phase, errno: errno.raw_os_error() });
                self.wire.report(Report::Ended { wait_status: 0, unasked: false });
                self.stage = Stage::Ended;
            }
        }
    }

    fn run(&mut self, stacks: &mut Stacks) {
        while self.stage != Stage::Done {
            self.wait();
            signals::read(self.children);
            orphans::reap(&self.own());
            self.on_status(stacks);
            self.on_leader(stacks);
            self.on_orders();
            self.go_on();
        }
    }

    /// The leader stays a zombie until the tree is swept: its pid is pinned.
    fn own(&self) -> HashSet<Pid> {
        self.job.leader.iter().map(|leader| leader.pid).collect()
    }

    fn wait(&self) {
        let mut fds = vec![PollFd::new(self.children, PollFlags::IN)];
        let wire = self.wire.descriptor();
        if !matches!(self.stage, Stage::Left | Stage::Abandoned) {
            fds.push(PollFd::from_borrowed_fd(wire, PollFlags::IN));
        }
        let lives = matches!(self.stage, Stage::Running | Stage::Killing);
        let leader: Option<BorrowedFd<'_>> = self.job.leader.as_ref().map(|leader| leader.pidfd.as_fd());
        let status = self.job.newborn.as_ref().map(Newborn::status);
        for fd in [leader.filter(|_| lives), status].into_iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let busy = matches!(self.stage, Stage::Killing | Stage::Sweeping | Stage::Abandoned);
        let _ = poll(&mut fds, busy.then_some(&LOOK_AGAIN));
    }

    fn on_status(&mut self, stacks: &mut Stacks) {
        let Some(newborn) = self.job.newborn.take() else { return };
        let phase = newborn.phase();
        match outcome(newborn, stacks) {
            Outcome::Pending(newborn) => self.job.newborn = Some(newborn),
            Outcome::Failed(Failure { phase, errno }) => {
                self.wire.report(Report::Failed { phase, errno: errno.raw_os_error() });
            }
            Outcome::Closed => {
                let leader = self.job.leader.as_ref().map(|leader| leader.pid);
                match leader.and_then(|pid| Some((pid, stat(pid)?))) {
                    Some((pid, stat)) if !stat.before_exec => {
                        let pid = pid.as_raw_nonzero().get().cast_unsigned();
                        self.wire.report(Report::Started { pid, start_ticks: stat.start_ticks });
                    }
                    _ => self.wire.report(Report::Failed { phase, errno: libc::EINTR }),
                }
            }
        }
    }

    fn on_leader(&mut self, stacks: &mut Stacks) {
        if !matches!(self.stage, Stage::Running | Stage::Killing) || self.leader_lives() {
            return;
        }
        self.on_status(stacks);
        match self.job.leader.as_ref().and_then(|leader| peek(leader.pid)) {
            Some(wait_status) => {
                self.wire.report(Report::Ended { wait_status, unasked: !self.job.asked });
                self.stage = Stage::Ended;
            }
            // How it ended cannot be known, and is not made up: the keeper takes a monitor that
            // ends without a word for what it is.
            None => self.stage = Stage::Abandoned,
        }
    }

    fn leader_lives(&self) -> bool {
        self.job.leader.as_ref().is_some_and(|leader| !has_ended(leader.pidfd.as_fd()))
    }

    fn on_orders(&mut self) {
        while !matches!(self.stage, Stage::Left | Stage::Abandoned | Stage::Done) {
            match self.wire.next_order() {
                Ok(order) => self.obey(order),
                Err(Silence::Quiet) => return,
                Err(Silence::Gone) => self.stage = Stage::Abandoned,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match (order, self.stage) {
            // A leader that has just ended, or is about to, does so by itself.
            (Order::Terminate, Stage::Running) if self.leader_lives() => {
                self.ask();
                self.terminate();
            }
            (Order::Kill, Stage::Running) if self.leader_lives() => {
                self.ask();
                self.count();
                self.stage = Stage::Killing;
            }
            (Order::Sweep, Stage::Ended) => {
                self.count();
                self.stage = Stage::Sweeping;
            }
            (Order::Leave, Stage::Ended) => {
                self.count();
                self.tell_of_the_end();
                // Nobody has to wait for what is left alone.
                keep_only(&[self.wire.descriptor(), self.children.as_fd()]);
                self.stage = Stage::Left;
            }
            (Order::Locate, _) => {
                let phase = self.job.newborn.as_ref().map_or(Phase::Exec, Newborn::phase);
                self.wire.report(Report::Located { phase });
            }
            _ => {}
        }
    }

    fn ask(&mut self) {
        let leader = self.job.leader.as_ref().and_then(|leader| stat(leader.pid));
        self.job.asked |= !leader.is_some_and(|stat| stat.exiting);
    }

    fn go_on(&mut self) {
        match self.stage {
            Stage::Killing => drop(self.kill_all()),
            Stage::Sweeping => {
                if !self.kill_all() {
                    self.tell_of_the_end();
                    self.stage = Stage::Done;
                }
            }
            Stage::Abandoned => {
                if !self.kill_all() {
                    self.stage = Stage::Done;
                }
            }
            Stage::Left => {
                if !has_children() {
                    self.stage = Stage::Done;
                }
            }
            Stage::Running | Stage::Ended | Stage::Done => {}
        }
    }

    /// The living ones. All of `/proc` is read only if there can be any.
    fn descendants(&self) -> Vec<Row> {
        if self.is_alone() { vec![] } else { living(&table(), getpid().as_raw_nonzero().get()) }
    }

    /// Whether nothing lives below us. Sound, where a table read row by row is not: once the
    /// leader is dead, whoever is left has fallen to us or is below one that has.
    fn is_alone(&self) -> bool {
        let dead = self.job.leader.as_ref().filter(|_| !self.leader_lives()).map(|leader| leader.pid);
        match orphans::children() {
            Some(children) => children.iter().all(|pid| Some(*pid) == dead),
            None => living(&table(), getpid().as_raw_nonzero().get()).is_empty(),
        }
    }

    fn terminate(&self) {
        let mut told: Vec<Row> = vec![];
        for _ in 0..SIGNAL_ROUNDS {
            let mut rows = self.descendants();
            rows.retain(|row| !told.contains(row));
            if rows.is_empty() {
                return;
            }
            rows.iter().for_each(|row| signal_row(*row, &[Signal::TERM, Signal::CONT]));
            told.append(&mut rows);
        }
    }

    /// One pass; whether there may be more to kill.
    fn kill_all(&self) -> bool {
        self.descendants().iter().for_each(|row| signal_row(*row, &[Signal::KILL]));
        !self.is_alone()
    }

    /// What lives beside the leader.
    fn count(&mut self) {
        let leader = self.job.leader.as_ref().map(|leader| leader.pid.as_raw_nonzero().get());
        let beside = self.descendants().iter().filter(|row| Some(row.pid) != leader).count();
        self.job.leaked = self.job.leaked.max(u32::try_from(beside).unwrap_or(u32::MAX));
    }

    fn tell_of_the_end(&mut self) {
        let (wait_status, usage) = match self.job.leader.take().map(|leader| reap(leader.pid)) {
            Some(Ok(reaped)) => reaped,
            // Unknown is not 0: the keeper hears no last word and says so.
            Some(Err(_)) => return,
            // It never ran, which was told.
            None => (0, Usage::default()),
        };
        self.wire.report(Report::Swept { wait_status, usage, leaked: self.job.leaked });
    }
}

fn begin_job(
    command: &Command<'_>,
    method: Method,
    stacks: &mut Stacks,
) -> Result<(Process, Newborn), Failure> {
    let prepared = prepare(command, stacks)?;
    clone(prepared, method, None, stacks).map_err(Failure::at(Phase::Fork))
}

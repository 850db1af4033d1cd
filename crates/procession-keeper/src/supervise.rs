//! One attempt in the keeper: events become inputs of `procession_core::attempt`, its
//! actions are performed.
//!
//! Decides nothing about what an event means: that is the machine. Knows the one order that
//! matters here: whether a child reached its program is read before its death is told.

mod hold;
mod image;
mod start;
mod tree;

use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use procession_core::attempt::{self, Action, Input, Instant, State, Timer, Verdict};
use procession_core::frame::{OutputNotice, Started, ToServer};
use procession_core::id::AttemptKey;
use procession_core::outcome::WaitStatus;
use procession_core::record::{Ending, ExitRecord, Phase, Usage};
use rustix::process::{Pid, Signal};

use crate::events::{AttemptId, Part, Source};
use crate::output::{Output, Progress};
use crate::spawn::{Failure, Newborn, Outcome, Process, outcome};
use crate::sys::clock::wall_us;
use crate::sys::process::{has_ended, peek, signal, stat};
use crate::tree::watch::{Order, Report, Silence};
use crate::world::{Alarm, World};
use hold::wait_for_bytes;
use tree::Tree;

pub(crate) use start::{not_started, start};

/// Output older than this goes to its file, so that people can read it.
const WRITE_OUT_AFTER: Duration = Duration::from_millis(100);

/// Between two notices of an attempt's output.
const NOTICE_EVERY: Duration = Duration::from_millis(20);

/// An order to a monitor that has not been answered for so long is looked into.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A monitor that is found stopped so often, though it was resumed, is ended.
const STOPPED_LOOKS: u32 = 2;

/// One that does not answer at all is ended after so many looks; it may have much to do.
const MOST_LOOKS: u32 = 10;

/// A monitor that sweeps longer than its attempt waits has so long in all.
const SWEPT_WITHIN: Duration = Duration::from_secs(2);

/// An attempt that is not over.
pub(crate) struct Attempt {
    id: AttemptId,
    key: AttemptKey,
    cookie: Bytes,
    machine: attempt::Attempt,
    newborn: Option<Newborn>,
    /// The leader, or its monitor.
    process: Process,
    tree: Tree,
    output: Output,
    /// Streams that may still bring something.
    open: [bool; 2],
    told: [u64; 2],
    /// Of the leader; 0 until it reached its program.
    pid: u32,
    start_ticks: u64,
    started_us: i64,
    started: Instant,
    finished_us: i64,
    finished: Instant,
    status: Option<(i32, Usage)>,
    /// Looks at a monitor that does not answer, and how many found it stopped.
    looks: (u32, u32),
    /// It was ending by itself when somebody first wanted it ended.
    unasked: bool,
    /// The server was given duplicates of its descriptors.
    held: bool,
}

impl Attempt {
    pub(crate) fn key(&self) -> AttemptKey {
        self.key
    }

    pub(crate) fn is_over(&self) -> bool {
        self.machine.state() == State::Over
    }

    /// How long it may take from a request to end to KILL.
    pub(crate) fn longest_end(&self) -> Duration {
        // One that has not reached its program is asked only then.
        attempt::EXEC_TIMEOUT.saturating_add(self.machine.bounds().grace)
    }

    /// For LIST.
    pub(crate) fn describe(&self, world: &World) -> Started {
        Started {
            key: self.key,
            pid: self.pid,
            start_ticks: self.start_ticks,
            started_us: self.started_us,
            containment: world.containment(),
            cookie: self.cookie.clone(),
        }
    }

    /// A descriptor of the attempt has news.
    pub(crate) fn on_event(&mut self, part: Part, world: &mut World) {
        match part {
            Part::Status => self.on_status(world),
            Part::Process => self.on_process(world),
            Part::Stdout => self.on_output(0, world),
            Part::Stderr => self.on_output(1, world),
            Part::Tree => self.on_tree(world),
            Part::Monitor => self.on_reports(world),
        }
    }

    /// A timer of the attempt's machine is over.
    pub(crate) fn on_timer(&mut self, timer: Timer, world: &mut World) {
        let phase = self.newborn.as_ref().map_or(Phase::Exec, Newborn::phase);
        match timer {
            Timer::Exec => match &self.tree {
                Tree::Cgroup { .. } => {
                    self.on_status(world);
                    if self.newborn.is_some() {
                        self.feed(Input::ExecTimeout { phase }, world);
                    }
                }
                // Its answer is the input.
                Tree::Monitor(watch) => {
                    watch.order(Order::Locate, &self.process);
                    self.await_answer(world);
                }
            },
            Timer::Deadline => {
                self.look_first(world);
                self.feed(Input::Deadline, world);
            }
            Timer::Grace => self.feed(Input::GraceOver, world),
            Timer::Drain => self.feed(Input::DrainOver, world),
        }
    }

    /// Somebody wants it ended.
    pub(crate) fn stop(&mut self, by: procession_core::outcome::CancelledBy, now: bool, world: &mut World) {
        self.look_first(world);
        self.feed(Input::Stop { by, now }, world);
    }

    /// An exit that is there already, or under way, came before what we are about to do. A
    /// monitor looks for itself before it obeys.
    fn look_first(&mut self, world: &mut World) {
        if has_ended(self.process.pidfd.as_fd()) {
            self.on_process(world);
        } else if matches!(self.tree, Tree::Cgroup { .. }) && self.machine.state() == State::Running {
            self.unasked = stat(self.process.pid).is_some_and(|stat| stat.exiting);
        }
    }

    fn on_status(&mut self, world: &mut World) {
        let Some(newborn) = self.newborn.take() else { return };
        world.events.remove(newborn.status());
        let phase = newborn.phase();
        match outcome(newborn, &mut world.stacks) {
            Outcome::Pending(newborn) => {
                let source = Source::Attempt(self.id, Part::Status);
                let _ = world.events.add(newborn.status(), source);
                self.newborn = Some(newborn);
            }
            Outcome::Failed(Failure { phase, errno }) => {
                self.feed(Input::ExecFailed { phase, errno: errno.raw_os_error() }, world);
            }
            Outcome::Closed => match self.start_of_program(phase) {
                Some(start_ticks) => {
                    self.pid = self.process.pid.as_raw_nonzero().get().cast_unsigned();
                    self.start_ticks = start_ticks;
                    self.feed(Input::ExecOk, world);
                }
                None => self.feed(Input::ExecFailed { phase, errno: libc::EINTR }, world),
            },
        }
    }

    /// When the child that left its status pipe in `phase` became its program; `None`: something
    /// killed it before. Without a descriptor to look by, what lives or exited by itself ran, and
    /// what was killed at its exec may have: that it did not is said only where it is known.
    fn start_of_program(&self, phase: Phase) -> Option<u64> {
        if let Some(stat) = stat(self.process.pid) {
            return (!stat.before_exec).then_some(stat.start_ticks);
        }
        let lives = !has_ended(self.process.pidfd.as_fd());
        let exited = || peek(self.process.pid).is_some_and(|status| WaitStatus(status).code().is_some());
        (lives || phase == Phase::Exec || exited()).then_some(0)
    }

    /// The leader, or its monitor, is dead.
    fn on_process(&mut self, world: &mut World) {
        match self.tree {
            Tree::Cgroup { .. } => {
                self.on_status(world);
                world.events.remove(self.process.pidfd.as_fd());
                self.feed(Input::LeaderExited { unasked: self.unasked }, world);
            }
            Tree::Monitor(_) => {
                self.on_reports(world);
                world.events.remove(self.process.pidfd.as_fd());
                if !self.is_over() {
                    world.timers.arm(Alarm::EndStrays, world.now);
                    self.feed(Input::WatcherDied, world);
                }
            }
        }
    }

    /// The monitor has said something; what it said is heard before its death is.
    fn on_reports(&mut self, world: &mut World) {
        while let Tree::Monitor(watch) = &mut self.tree {
            match watch.wire.next_report() {
                Ok(report) => {
                    watch.heed(report);
                    if let Report::Started { pid, start_ticks } = report {
                        (self.pid, self.start_ticks) = (pid, start_ticks);
                    }
                    if matches!(report, Report::Located { .. } | Report::Ended { .. }) {
                        world.timers.disarm(Alarm::Answer(self.id));
                    }
                    self.feed(input_of(report), world);
                }
                Err(Silence::Quiet) => return,
                Err(Silence::Gone) => {
                    world.events.remove(watch.wire.descriptor());
                    return;
                }
            }
        }
    }

    pub(crate) fn is_child(&self, pid: Pid) -> bool {
        self.process.pid == pid
    }

    /// It was stopped, and is to go on.
    pub(crate) fn resume(&self) {
        if matches!(self.tree, Tree::Monitor(_)) {
            signal(self.process.pidfd.as_fd(), Signal::CONT);
        }
    }

    fn await_answer(&self, world: &mut World) {
        if matches!(self.tree, Tree::Monitor(_)) {
            world.timers.arm(Alarm::Answer(self.id), world.now.after(ANSWER_WITHIN));
        }
    }

    /// The monitor does not answer. Stopped, it is resumed, and ended if its job stops it
    /// again: its leader dies with it, and the rest falls to us.
    pub(crate) fn on_silence(&mut self, world: &mut World) {
        let stopped = stat(self.process.pid).is_some_and(|stat| stat.stopped);
        self.looks = (self.looks.0 + 1, self.looks.1 + u32::from(stopped));
        if self.looks.0 >= MOST_LOOKS || self.looks.1 >= STOPPED_LOOKS {
            signal(self.process.pidfd.as_fd(), Signal::KILL);
        } else {
            self.resume();
            self.await_answer(world);
        }
    }

    fn on_tree(&mut self, world: &mut World) {
        if let Tree::Cgroup { slot, .. } = &self.tree
            && !slot.is_populated()
        {
            world.events.remove(slot.events());
            self.feed(Input::TreeEmpty, world);
        }
    }

    fn on_output(&mut self, number: usize, world: &mut World) {
        let now = world.now;
        let mut waiting = false;
        for (index, stream) in self.output.streams() {
            if index == number && self.open[index] {
                let was_patient = stream.is_patient();
                let progress = stream.take();
                if was_patient && !stream.is_patient() {
                    wait_for_bytes(stream, (self.id, index), world);
                }
                if progress == Progress::Ended {
                    // Level-triggered: a closed pipe would wake us for ever.
                    world.events.remove(stream.pipe());
                    self.open[index] = false;
                }
            }
            waiting |= stream.is_waiting();
        }
        let write_out = Alarm::WriteOut(self.id);
        if waiting && !world.timers.is_armed(write_out) {
            world.timers.arm(write_out, now.after(WRITE_OUT_AFTER));
        }
        self.tell_of_output(world);
        if self.machine.state() == State::Draining
            && let Some(input) = self.drain(world)
        {
            self.feed(input, world);
        }
    }

    /// Small output has become old.
    pub(crate) fn write_out(&mut self, world: &mut World) {
        for (index, stream) in self.output.streams() {
            let was_patient = stream.is_patient();
            stream.write_out();
            if was_patient && !stream.is_patient() && self.open[index] {
                wait_for_bytes(stream, (self.id, index), world);
            }
        }
        self.tell_of_output(world);
    }

    /// Now, unless the last notice is too fresh: then when it is not.
    fn tell_of_output(&mut self, world: &mut World) {
        let notice = Alarm::Notice(self.id);
        if self.output.in_files() != self.told && !world.timers.is_armed(notice) {
            self.notice(world);
        }
    }

    /// Tells how far output has come, if it has.
    pub(crate) fn notice(&mut self, world: &mut World) {
        let [stdout, stderr] = self.output.in_files();
        if [stdout, stderr] != self.told {
            self.told = [stdout, stderr];
            world.outbox.mention(OutputNotice { key: self.key, stdout, stderr });
            world.timers.arm(Alarm::Notice(self.id), world.now.after(NOTICE_EVERY));
        }
    }

    /// The dull loop: inputs in, actions out, and the answers that some actions have at once.
    pub(crate) fn feed(&mut self, input: Input, world: &mut World) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            for action in self.machine.on(input, world.now) {
                // At most one action of a transition has an answer: a sweep or a drain.
                next = self.perform(action, world).or(next);
            }
        }
    }

    fn perform(&mut self, action: Action, world: &mut World) -> Option<Input> {
        match action {
            Action::Announce => self.announce(world),
            Action::SignalTree => self.tree.terminate(&self.process),
            Action::KillTree => {
                self.tree.kill(&self.process);
                self.await_answer(world);
            }
            Action::Arm(timer, at) => world.timers.arm(Alarm::Attempt(self.id, timer), at),
            Action::Disarm(timer) => world.timers.disarm(Alarm::Attempt(self.id, timer)),
            Action::Sweep { leave } => {
                self.finished = world.now;
                self.finished_us = wall_us();
                return self.tree.sweep(leave, (self.id, &self.process), world);
            }
            Action::Drain => return self.drain(world),
            Action::Reap => self.status = self.tree.reap(self.process.pid, world),
            Action::Report => {}
        }
        None
    }

    fn announce(&mut self, world: &mut World) {
        self.started = world.now;
        self.started_us = wall_us();
        let started = self.describe(world);
        world.outbox.say(&ToServer::Started(started));
        self.hold_later(world);
    }

    fn drain(&mut self, world: &mut World) -> Option<Input> {
        let mut empty = true;
        for (index, stream) in self.output.streams() {
            if self.open[index] {
                stream.stop_waiting();
                match stream.take() {
                    Progress::Empty => {}
                    Progress::More => empty = false,
                    Progress::Ended => {
                        world.events.remove(stream.pipe());
                        self.open[index] = false;
                    }
                }
            }
        }
        empty.then_some(Input::Drained)
    }

    /// What is left to do with an attempt that is over: the record, and everything given back.
    pub(crate) fn finish(mut self, world: &mut World) {
        for (index, stream) in self.output.streams() {
            if self.open[index] {
                world.events.remove(stream.pipe());
            }
        }
        world.events.remove(self.process.pidfd.as_fd());
        world.timers.disarm(Alarm::WriteOut(self.id));
        world.timers.disarm(Alarm::Notice(self.id));
        world.timers.disarm(Alarm::Answer(self.id));
        world.timers.disarm(Alarm::Hold(self.id));
        let containment = world.containment();
        let (stdout, stderr) = self.output.close();
        let (ending, usage) = ending(self.machine.verdict(), self.status);
        let never_ran = self.started_us == 0;
        let record = ExitRecord {
            key: self.key,
            ending,
            started_us: if never_ran { self.finished_us } else { self.started_us },
            finished_us: self.finished_us,
            run_us: if never_ran { 0 } else { self.finished.0.saturating_sub(self.started.0) / 1000 },
            usage,
            leaked: self.tree.leaked(),
            stdout,
            stderr,
            containment,
            cookie: self.cookie,
        };
        if self.tree.is_overdue() && !has_ended(self.process.pidfd.as_fd()) {
            let until = world.now.after(SWEPT_WITHIN);
            world.overdue.push((until, self.process));
            world.timers.arm(Alarm::EndOverdue, world.overdue.first().map_or(until, |first| first.0));
        }
        self.tree.give_back(self.held, world);
        world.record(record);
    }
}

/// What a monitor's report means to the machine.
fn input_of(report: Report) -> Input {
    match report {
        Report::Started { .. } => Input::ExecOk,
        Report::Failed { phase, errno } => Input::ExecFailed { phase, errno },
        Report::Located { phase } => Input::ExecTimeout { phase },
        Report::Ended { unasked, .. } => Input::LeaderExited { unasked },
        Report::Swept { .. } => Input::TreeEmpty,
    }
}

/// The machine's verdict with what the kernel said.
fn ending(verdict: Verdict, status: Option<(i32, Usage)>) -> (Ending, Usage) {
    let usage = status.map(|(_, usage)| usage).unwrap_or_default();
    let ending = match (verdict, status) {
        (Verdict::NotStarted { phase, errno }, _) => {
            Ending::NotStarted { phase, errno, message: message(errno) }
        }
        (Verdict::Ended { stopped }, Some((wait_status, _))) => Ending::Ended { wait_status, stopped },
        // Not reaped by us: whatever it was, it is not known.
        (Verdict::Ended { .. }, None) | (Verdict::Vanished, _) => Ending::Vanished,
    };
    (ending, usage)
}

/// For people.
fn message(errno: i32) -> String {
    match errno {
        libc::EINTR => "ended by a signal before it could start".into(),
        libc::ETIMEDOUT => "did not start within 10 s".into(),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

//! One attempt in the keeper: events become inputs of `procession_core::attempt`, its
//! actions are performed.
//!
//! Decides nothing about what an event means: that is the machine. Knows the one order that
//! matters here: whether a child reached its program is read before its death is told.

mod start;

use std::os::fd::AsFd;

use bytes::Bytes;
use procession_core::attempt::{self, Action, Input, Instant, State, Timer, Verdict};
use procession_core::frame::{OutputNotice, Started, ToServer};
use procession_core::id::AttemptKey;
use procession_core::record::{Ending, ExitRecord, Phase, Usage};
use rustix::event::epoll::EventFlags;

use crate::events::{AttemptId, Part, Source};
use crate::output::{Output, Progress};
use crate::spawn::{Failure, Newborn, Outcome, Process, outcome};
use crate::sys::clock::wall_us;
use crate::sys::process::{has_ended, reap, stat};
use crate::tree::cgroup::Slot;
use crate::world::{Alarm, Trees, World};

pub(crate) use start::{not_started, start};

/// Output older than this goes to its file, so that people can read it.
const WRITE_OUT_AFTER: std::time::Duration = std::time::Duration::from_millis(100);

/// Between two notices of an attempt's output.
const NOTICE_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

/// An attempt that is not over.
pub(crate) struct Attempt {
    id: AttemptId,
    key: AttemptKey,
    cookie: Bytes,
    machine: attempt::Attempt,
    newborn: Option<Newborn>,
    leader: Process,
    slot: Slot,
    output: Output,
    /// Streams that may still bring something.
    open: [bool; 2],
    told: [u64; 2],
    start_ticks: u64,
    started_us: i64,
    started: Instant,
    finished_us: i64,
    finished: Instant,
    leaked: u32,
    status: Option<(i32, Usage)>,
}

impl Attempt {
    pub(crate) fn key(&self) -> AttemptKey {
        self.key
    }

    pub(crate) fn is_over(&self) -> bool {
        self.machine.state() == State::Over
    }

    /// For LIST.
    pub(crate) fn describe(&self, world: &World) -> Started {
        Started {
            key: self.key,
            pid: if self.start_ticks == 0 {
                0
            } else {
                self.leader.pid.as_raw_nonzero().get().cast_unsigned()
            },
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
            Part::Leader => self.on_leader(world),
            Part::Stdout => self.on_output(0, world),
            Part::Stderr => self.on_output(1, world),
            Part::Tree => self.on_tree(world),
            Part::Monitor => {}
        }
    }

    /// A timer of the attempt's machine is over.
    pub(crate) fn on_timer(&mut self, timer: Timer, world: &mut World) {
        let phase = self.newborn.as_ref().map_or(Phase::Exec, Newborn::phase);
        match timer {
            Timer::Exec => self.feed(Input::ExecTimeout { phase }, world),
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

    /// An exit that is there already came before what we are about to do.
    fn look_first(&mut self, world: &mut World) {
        if has_ended(self.leader.pidfd.as_fd()) {
            self.on_leader(world);
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
            Outcome::Closed => match stat(self.leader.pid) {
                Some(stat) if !stat.before_exec => {
                    self.start_ticks = stat.start_ticks;
                    self.feed(Input::ExecOk, world);
                }
                _ => self.feed(Input::ExecFailed { phase, errno: libc::EINTR }, world),
            },
        }
    }

    fn on_leader(&mut self, world: &mut World) {
        self.on_status(world);
        world.events.remove(self.leader.pidfd.as_fd());
        self.feed(Input::LeaderExited { unasked: false }, world);
    }

    fn on_tree(&mut self, world: &mut World) {
        if !self.slot.is_populated() {
            world.events.remove(self.slot.events());
            self.feed(Input::TreeEmpty, world);
        }
    }

    fn on_output(&mut self, number: usize, world: &mut World) {
        let now = world.now;
        let mut waiting = false;
        for (index, stream) in self.output.streams() {
            if index == number && self.open[index] {
                let progress = stream.take();
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
        self.output.write_out();
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
            Action::SignalTree => self.slot.terminate(),
            Action::KillTree => self.kill_tree(),
            Action::Arm(timer, at) => world.timers.arm(Alarm::Attempt(self.id, timer), at),
            Action::Disarm(timer) => world.timers.disarm(Alarm::Attempt(self.id, timer)),
            Action::Sweep { leave } => return self.sweep(leave, world),
            Action::Drain => return self.drain(world),
            Action::Reap => {
                self.status = reap(self.leader.pid).ok();
                world.own.remove(&self.leader.pid);
            }
            Action::Report => {}
        }
        None
    }

    fn announce(&mut self, world: &mut World) {
        self.started = world.now;
        self.started_us = wall_us();
        let started = self.describe(world);
        world.outbox.say(&ToServer::Started(started));
    }

    fn kill_tree(&mut self) {
        self.count_members();
        self.slot.kill();
    }

    fn count_members(&mut self) -> usize {
        let members = self.slot.members(self.leader.pid).len();
        self.leaked = self.leaked.max(u32::try_from(members).unwrap_or(u32::MAX));
        members
    }

    fn sweep(&mut self, leave: bool, world: &mut World) -> Option<Input> {
        self.finished = world.now;
        self.finished_us = wall_us();
        if !self.slot.is_populated() {
            return Some(Input::TreeEmpty);
        }
        if self.count_members() == 0 || leave {
            return Some(Input::TreeEmpty);
        }
        self.slot.kill();
        let source = Source::Attempt(self.id, Part::Tree);
        let watched = world.events.add_for(self.slot.events(), source, EventFlags::PRI);
        // Only after the watch is set: a change before it would not wake us. Unwatched, the
        // drain's bound ends the wait.
        let gone = watched.is_ok() && !self.slot.is_populated();
        if gone {
            world.events.remove(self.slot.events());
        }
        gone.then_some(Input::TreeEmpty)
    }

    fn drain(&mut self, world: &mut World) -> Option<Input> {
        let mut empty = true;
        for (index, stream) in self.output.streams() {
            if self.open[index] {
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
        world.events.remove(self.slot.events());
        world.events.remove(self.leader.pidfd.as_fd());
        world.timers.disarm(Alarm::WriteOut(self.id));
        world.timers.disarm(Alarm::Notice(self.id));
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
            leaked: self.leaked,
            stdout,
            stderr,
            containment,
            cookie: self.cookie,
        };
        if let Trees::Cgroups(cgroups) = &mut world.trees {
            cgroups.give_back(self.slot);
            if cgroups.needs_tending() && !world.timers.is_armed(Alarm::TendCgroups) {
                world.timers.arm(Alarm::TendCgroups, world.now.after(WRITE_OUT_AFTER));
            }
        }
        world.record(record);
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

//! One running attempt as a machine: in what state it is, what an event means there, and
//! what to do about it. A supervisor that fits on a screen.
//!
//! No clock, no process, no I/O inside: time comes in with each input, what is to be done
//! goes out as [`Action`]s. The keeper's `supervise` feeds it and performs the actions; it
//! owes the machine a `LeaderExited` for every attempt that was started.

use std::time::Duration;

use crate::outcome::CancelledBy;
use crate::record::{Phase, StopCause};

/// A child that has not reached its program by then is killed.
pub const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// The result is told at most this long after the leader's exit, whoever holds the pipes.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// `errno` of a child that did not exec in time (`ETIMEDOUT`).
const TIMED_OUT: i32 = 110;

/// `errno` of a child that something else killed before it could exec (`EINTR`).
const INTERRUPTED: i32 = 4;

/// Nanoseconds on a clock that nobody sets and that runs on in a suspended machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// This much later; the end of time where there is no such instant.
    pub fn after(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

/// The bounds of an attempt, from its launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From exec to TERM.
    pub timeout: Option<Duration>,
    /// From TERM to KILL.
    pub grace: Duration,
    /// What the leader leaves running is left alone, unless the attempt was stopped.
    pub leave_children: bool,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Cloned, not yet at its program's first instruction. A stop waits for the exec.
    Starting,
    /// The program runs.
    Running,
    /// Asked to end (TERM); its grace runs.
    Stopping,
    /// Killed, or gone before exec: nothing is left but to see the leader end.
    Ending,
    /// The leader is a zombie; what it left behind is being ended.
    Sweeping,
    /// Nothing of it lives; what stands in its pipes is being read.
    Draining,
    /// Reaped and reported.
    Over,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The child became its program.
    ExecOk,
    /// The child could not become its program, and is about to exit.
    ExecFailed {
        /// The step that failed.
        phase: Phase,
        /// The kernel's reason.
        errno: i32,
    },
    /// [`Timer::Exec`] is over.
    ExecTimeout {
        /// The step it hangs in.
        phase: Phase,
    },
    /// [`Timer::Deadline`] is over.
    Deadline,
    /// Somebody wants it ended.
    Stop {
        /// Who.
        by: CancelledBy,
        /// Without asking first.
        now: bool,
    },
    /// [`Timer::Grace`] is over.
    GraceOver,
    /// The leader is dead and not yet reaped.
    LeaderExited {
        /// It had ended before our signal could reach it: the stop is not its cause.
        unasked: bool,
    },
    /// After a sweep: nothing of the tree lives, or what lives is left alone.
    TreeEmpty,
    /// After a drain: the pipes are empty.
    Drained,
    /// [`Timer::Drain`] is over.
    DrainOver,
    /// Whoever watched the leader died without a word.
    WatcherDied,
}

/// The timers of an attempt, at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// For reaching the program.
    Exec,
    /// For the whole run.
    Deadline,
    /// Between TERM and KILL.
    Grace,
    /// After the leader's end.
    Drain,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the server that the program runs.
    Announce,
    /// TERM, then CONT (a stopped process does not hear TERM), to every process of the tree.
    SignalTree,
    /// KILL to every process of the tree.
    KillTree,
    /// Set a timer.
    Arm(Timer, Instant),
    /// Forget a timer.
    Disarm(Timer),
    /// Count what lives beside the leader and, unless `leave`, kill it. Answered by
    /// `TreeEmpty`, at once or later.
    Sweep {
        /// Only count.
        leave: bool,
    },
    /// Read what stands in the pipes. Answered by `Drained`.
    Drain,
    /// `wait4`: from here on the pid may name another process.
    Reap,
    /// Write the record, tell the server.
    Report,
}

/// How an attempt ended, but for what only the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The program never ran.
    NotStarted {
        /// The step that failed.
        phase: Phase,
        /// The kernel's reason.
        errno: i32,
    },
    /// Its wait status says how.
    Ended {
        /// Set where we ended it.
        stopped: Option<StopCause>,
    },
    /// Nobody saw it end.
    Vanished,
}

/// One attempt, from clone to record.
#[derive(Clone, Debug)]
pub struct Attempt {
    state: State,
    bounds: Bounds,
    verdict: Verdict,
}

impl Attempt {
    /// The machine of a child just cloned, and its first actions.
    pub fn new(bounds: Bounds, now: Instant) -> (Self, Vec<Action>) {
        let verdict = Verdict::Ended { stopped: None };
        let attempt = Self { state: State::Starting, bounds, verdict };
        (attempt, vec![Action::Arm(Timer::Exec, now.after(EXEC_TIMEOUT))])
    }

    /// The machine of an attempt that another process kept until now: whoever kept it set
    /// its timers.
    pub fn resume(state: State, bounds: Bounds, verdict: Verdict) -> Self {
        Self { state, bounds, verdict }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its bounds.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// How it ended; final once it is over.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The one transition function. What a state does not expect changes nothing.
    pub fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        use Action::*;
        use State::*;
        match (self.state, input) {
            (Over, _) => vec![],

            (Starting, Input::ExecOk) => self.started(now),
            (Starting, Input::ExecFailed { phase, errno }) => {
                self.verdict = Verdict::NotStarted { phase, errno };
                self.enter(Ending, [Disarm(Timer::Exec)])
            }
            (Starting, Input::ExecTimeout { phase }) => {
                self.verdict = Verdict::NotStarted { phase, errno: TIMED_OUT };
                self.enter(Ending, [KillTree])
            }
            // Before exec TERM would end a child that is still ours: wait for its program.
            (Starting, Input::Stop { by, now: false }) => self.blame(StopCause::Cancelled { by }),
            (Starting, Input::Stop { by, now: true }) => {
                self.blame(StopCause::Cancelled { by });
                self.enter(Ending, [Disarm(Timer::Exec), KillTree])
            }
            (Starting, Input::LeaderExited { .. }) => {
                if self.verdict == (Verdict::Ended { stopped: None }) {
                    let phase = Phase::Exec;
                    self.verdict = Verdict::NotStarted { phase, errno: INTERRUPTED };
                }
                self.leader_exited(Timer::Exec, now)
            }

            (Running, Input::Deadline) => self.ask(self.deadline_cause(), now),
            (Running, Input::Stop { by, now: false }) => self.ask(StopCause::Cancelled { by }, now),
            (Running, Input::Stop { by, now: true }) => {
                self.blame(StopCause::Cancelled { by });
                self.enter(Ending, [Disarm(Timer::Deadline), KillTree])
            }
            (Running, Input::LeaderExited { .. }) => self.leader_exited(Timer::Deadline, now),

            (Stopping, Input::GraceOver) => self.enter(Ending, [KillTree]),
            (Stopping, Input::Stop { now: true, .. }) => self.enter(Ending, [Disarm(Timer::Grace), KillTree]),
            (Stopping | Ending, Input::LeaderExited { unasked }) => {
                if let (true, Verdict::Ended { stopped }) = (unasked, &mut self.verdict) {
                    *stopped = None;
                }
                self.leader_exited(Timer::Grace, now)
            }

            (Sweeping, Input::TreeEmpty) => self.enter(Draining, [Drain]),
            // Something does not die (a hung disk): the result does not wait for it.
            (Sweeping, Input::DrainOver) => self.enter(Over, [Drain, Reap, Report]),
            (Draining, Input::Drained) => self.enter(Over, [Disarm(Timer::Drain), Reap, Report]),
            (Draining, Input::DrainOver) => self.enter(Over, [Reap, Report]),

            (_, Input::WatcherDied) => self.watcher_died(),
            _ => vec![],
        }
    }

    fn enter<const N: usize>(&mut self, state: State, actions: [Action; N]) -> Vec<Action> {
        self.state = state;
        actions.to_vec()
    }

    fn started(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![Action::Disarm(Timer::Exec), Action::Announce];
        if let Verdict::Ended { stopped: Some(cause) } = self.verdict {
            actions.extend(self.ask(cause, now));
            return actions;
        }
        if let Some(timeout) = self.bounds.timeout {
            actions.push(Action::Arm(Timer::Deadline, now.after(timeout)));
        }
        self.state = State::Running;
        actions
    }

    /// TERM, with KILL to follow.
    fn ask(&mut self, cause: StopCause, now: Instant) -> Vec<Action> {
        self.blame(cause);
        let grace = Action::Arm(Timer::Grace, now.after(self.bounds.grace));
        self.enter(State::Stopping, [Action::Disarm(Timer::Deadline), Action::SignalTree, grace])
    }

    /// The first cause stays: a cancel after a time-out is still a time-out.
    fn blame(&mut self, cause: StopCause) -> Vec<Action> {
        if let Verdict::Ended { stopped: stopped @ None } = &mut self.verdict {
            *stopped = Some(cause);
        }
        vec![]
    }

    fn deadline_cause(&self) -> StopCause {
        let limit = self.bounds.timeout.unwrap_or_default();
        StopCause::Deadline { limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
    }

    fn leader_exited(&mut self, running: Timer, now: Instant) -> Vec<Action> {
        // Who ended the leader wants the rest gone too.
        let by_itself = self.verdict == (Verdict::Ended { stopped: None });
        let leave = self.bounds.leave_children && by_itself;
        let bound = Action::Arm(Timer::Drain, now.after(DRAIN_TIMEOUT));
        self.enter(State::Sweeping, [Action::Disarm(running), bound, Action::Sweep { leave }])
    }

    fn watcher_died(&mut self) -> Vec<Action> {
        if !matches!(self.verdict, Verdict::NotStarted { .. }) {
            self.verdict = Verdict::Vanished;
        }
        let timers = [Timer::Exec, Timer::Deadline, Timer::Grace, Timer::Drain];
        let mut actions = timers.map(Action::Disarm).to_vec();
        actions.extend([Action::Sweep { leave: false }, Action::Drain, Action::Reap, Action::Report]);
        self.state = State::Over;
        actions
    }
}

#[cfg(test)]
mod tests;

//! When the keeper ends: a machine of what was asked of it, what runs, and whether a server
//! is there to end it in order.
//!
//! No process and no clock inside; `keeper` asks [`Ending::look`] before each wait and does
//! what it says. Whoever asked waits for a bounded time, server or no server: a bound of a
//! ready server's drain is that server's own.

mod image;

use std::time::Duration;

use procession_core::attempt::Instant;
use procession_core::frame::Shutdown;

/// With attempts running, a server that could end them in order has this long to become
/// ready after the first request to end.
pub(crate) const SERVER_WITHIN: Duration = Duration::from_secs(10);

/// How far the operator's wish to end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    No,
    /// SHUTDOWN was said.
    Drain,
    /// SHUTDOWN `now` was said.
    Now,
    /// Everything was killed.
    Forced,
}

/// The server, as far as its words matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Between two.
    Gone,
    /// It has a process, and has not said READY.
    Starting,
    Ready,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    /// Look again then.
    WaitUntil(Instant),
    /// Ask every attempt to end; said once.
    EndAttempts,
    /// End with this status.
    Done(u8),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ending {
    asked: Asked,
    /// What was asked for beside that on the control socket.
    wish: Shutdown,
    /// 128 and the number of the signal that last asked.
    status: u8,
    goodbye: Option<u8>,
    /// Set when there first was no ready server for a request; never moved, so that servers
    /// that come and go do not stretch it.
    alone_until: Option<Instant>,
    attempts_ended: bool,
}

impl Ending {
    pub(crate) fn new() -> Self {
        Self {
            asked: Asked::No,
            wish: Shutdown::default(),
            status: 0,
            goodbye: None,
            alone_until: None,
            attempts_ended: false,
        }
    }

    /// Nothing serves, and what runs may run to its end.
    pub(crate) fn alone() -> Self {
        Self { asked: Asked::Drain, goodbye: Some(0), ..Self::new() }
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked
    }

    /// For an end that waits for nothing more.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// A signal asks; says how far that is, if it is further than before.
    pub(crate) fn ask(&mut self, signal: u8) -> Option<Asked> {
        self.asked = match self.asked {
            Asked::No => Asked::Drain,
            Asked::Drain => Asked::Now,
            Asked::Now => Asked::Forced,
            Asked::Forced => return None,
        };
        self.status = 128 + signal;
        Some(self.asked)
    }

    /// The control socket asks; says how far that is, as long as a server can be told. To ask
    /// for the same twice is to ask once; impatience is said by `now`.
    pub(crate) fn ask_for(&mut self, wish: Shutdown) -> Option<Asked> {
        self.asked = self.asked.max(if wish.now { Asked::Now } else { Asked::Drain });
        self.wish = wish;
        if self.status == 0 {
            self.status = 128 + libc::SIGTERM as u8;
        }
        (self.asked != Asked::Forced).then_some(self.asked)
    }

    /// What SHUTDOWN says, if it is said.
    pub(crate) fn shutdown(&self) -> Option<Shutdown> {
        match self.asked {
            Asked::No | Asked::Forced => None,
            Asked::Drain => Some(Shutdown { now: false, ..self.wish }),
            Asked::Now => Some(Shutdown { now: true, keep_jobs: false, ..self.wish }),
        }
    }

    /// Whether a server said goodbye and what runs was left to run.
    pub(crate) fn left_jobs(&self) -> bool {
        self.goodbye.is_some() && self.asked <= Asked::Drain && !self.attempts_ended
    }

    /// The server has said GOODBYE.
    pub(crate) fn goodbye(&mut self, status: u8) {
        self.goodbye = Some(status);
    }

    /// Whether a server that dies now is to be followed by another.
    pub(crate) fn wants_a_server(&self) -> bool {
        self.goodbye.is_none() && self.asked != Asked::Forced
    }

    /// Whether everything was asked to end: nothing may begin any more.
    pub(crate) fn takes_no_more(&self) -> bool {
        self.asked == Asked::Forced || self.attempts_ended
    }

    /// What to do, with attempts `running` or none.
    pub(crate) fn look(&mut self, running: bool, server: Presence, now: Instant) -> Step {
        let nothing_left = !running && server == Presence::Gone;
        match (self.asked, self.goodbye) {
            (Asked::Forced, _) if nothing_left => Step::Done(self.status),
            (_, Some(status)) if nothing_left => Step::Done(status),
            // Whoever said goodbye has decided what may run on.
            (Asked::No | Asked::Forced, _) | (Asked::Drain, Some(_)) => Step::Wait,
            (Asked::Drain | Asked::Now, _) if server == Presence::Ready => Step::Wait,
            (Asked::Drain | Asked::Now, None) if !running => Step::Done(self.status),
            (Asked::Now, Some(_)) if !running => Step::Wait,
            (Asked::Drain | Asked::Now, _) => self.look_alone(now),
        }
    }

    /// Attempts run, and nobody is there who could end them in order.
    fn look_alone(&mut self, now: Instant) -> Step {
        let until = *self.alone_until.get_or_insert(now.after(SERVER_WITHIN));
        match self.attempts_ended {
            true => Step::Wait,
            false if now < until && self.asked == Asked::Drain => Step::WaitUntil(until),
            false => {
                self.attempts_ended = true;
                Step::EndAttempts
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000);
    const TERM: u8 = 15;

    fn asked(times: usize) -> Ending {
        let mut ending = Ending::new();
        for _ in 0..times {
            let _ = ending.ask(TERM);
        }
        ending
    }

    #[test]
    fn every_request_with_every_server_with_and_without_attempts() {
        use Presence::*;
        use Step::*;
        let until = WaitUntil(NOW.after(SERVER_WITHIN));
        let done = Done(128 + TERM);
        // Gone, Starting, Ready; first with nothing running, then with attempts.
        let table = [
            (Asked::No, [[Wait, Wait, Wait], [Wait, Wait, Wait]]),
            (Asked::Drain, [[done, done, Wait], [until, until, Wait]]),
            (Asked::Now, [[done, done, Wait], [EndAttempts, EndAttempts, Wait]]),
            (Asked::Forced, [[done, Wait, Wait], [Wait, Wait, Wait]]),
        ];
        for (times, (name, expected)) in table.into_iter().enumerate() {
            for (running, row) in [false, true].into_iter().zip(expected) {
                for (server, step) in [Gone, Starting, Ready].into_iter().zip(row) {
                    let mut ending = asked(times);
                    assert_eq!(ending.asked(), name);
                    assert_eq!(ending.look(running, server, NOW), step, "{name:?} {running} {server:?}");
                }
            }
        }
    }

    #[test]
    fn after_a_goodbye_what_runs_may_run_and_its_status_counts() {
        for times in 0..3 {
            let mut ending = asked(times);
            ending.goodbye(7);
            assert!(!ending.wants_a_server());
            assert_eq!(ending.look(false, Presence::Ready, NOW), Step::Wait);
            assert_eq!(ending.look(false, Presence::Gone, NOW), Step::Done(7));
        }
        let mut ending = asked(1);
        ending.goodbye(7);
        assert_eq!(ending.look(true, Presence::Gone, NOW), Step::Wait);
    }

    #[test]
    fn servers_that_come_and_go_do_not_stretch_the_bound() {
        let mut ending = asked(1);
        let until = NOW.after(SERVER_WITHIN);
        assert_eq!(ending.look(true, Presence::Gone, NOW), Step::WaitUntil(until));
        let later = NOW.after(SERVER_WITHIN / 2);
        assert_eq!(ending.look(true, Presence::Ready, later), Step::Wait);
        assert_eq!(ending.look(true, Presence::Gone, later), Step::WaitUntil(until));
        assert_eq!(ending.look(true, Presence::Ready, until), Step::Wait);
        assert_eq!(ending.look(true, Presence::Starting, until), Step::EndAttempts);
        assert_eq!(ending.look(true, Presence::Gone, until), Step::Wait, "once");
        assert_eq!(ending.look(false, Presence::Gone, until), Step::Done(128 + TERM));
    }

    #[test]
    fn the_control_socket_asks_once_however_often_and_a_signal_hastens_it() {
        let mut ending = Ending::new();
        assert_eq!(ending.shutdown(), None);
        let wish = Shutdown { timeout: Some(Duration::from_secs(3)), keep_jobs: true, now: false };
        for _ in 0..3 {
            assert_eq!(ending.ask_for(wish), Some(Asked::Drain));
            assert_eq!(ending.shutdown(), Some(wish));
        }
        assert_eq!(ending.ask(TERM), Some(Asked::Now));
        assert_eq!(ending.shutdown(), Some(Shutdown { now: true, keep_jobs: false, ..wish }));
        assert_eq!(ending.ask_for(wish), Some(Asked::Now), "never backwards");
        assert_eq!(ending.ask(TERM), Some(Asked::Forced));
        assert_eq!((ending.ask_for(wish), ending.shutdown()), (None, None));
        assert_eq!(ending.look(false, Presence::Gone, NOW), Step::Done(128 + TERM));
    }

    #[test]
    fn alone_it_waits_for_what_runs_and_ends_well() {
        let mut ending = Ending::alone();
        assert!(ending.left_jobs() && !ending.wants_a_server());
        assert_eq!(ending.look(true, Presence::Gone, NOW), Step::Wait);
        assert_eq!(ending.look(false, Presence::Gone, NOW), Step::Done(0));
        let _ = ending.ask(TERM);
        assert_eq!(ending.look(true, Presence::Gone, NOW), Step::EndAttempts);
        assert!(!ending.left_jobs());
    }

    #[test]
    fn a_fourth_request_is_no_more_than_the_third() {
        let mut ending = asked(2);
        assert_eq!(ending.ask(2), Some(Asked::Forced));
        assert_eq!(ending.ask(15), None);
        assert_eq!(ending.status(), 130);
    }
}

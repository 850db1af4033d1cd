//! A reload, or an upgrade: the keeper does what `handover` says.
//!
//! Asked for by a signal (HUP, USR2) or by the command line. Whoever asks is told how it
//! went; the last answer is kept for those who ask later.

use procession_core::frame::{ToKeeper, ToServer};

use crate::ending::Asked;
use crate::events::ServerId;
use crate::fault;
use crate::handover::{Action, Input, Wish};
use crate::keeper::Keeper;
use crate::servers::Role;
use crate::world::Alarm;
use rustix::process::Signal;

impl Keeper {
    /// Lets another server take over, started from the files as they are now. An error: that
    /// was not even begun. How it went is told by [`Keeper::reloaded`].
    pub(crate) fn reload(&mut self, wish: Wish) -> Result<(), String> {
        if self.ending.asked() != Asked::No || !self.ending.wants_a_server() {
            return Err("the server is stopping".into());
        }
        let actions = self.servers.replace(wish, &mut self.world)?;
        self.notify.reloading();
        self.perform(actions);
        Ok(())
    }

    /// A reload that nobody waits for. One that comes while another is under way has its turn
    /// afterwards: the files may have changed since the other read them.
    pub(crate) fn reload_by_signal(&mut self, binary: bool) {
        let wish = Wish { binary, force: false };
        if self.is_changing() {
            self.reload_later(wish);
        } else if let Err(why) = self.reload(wish) {
            self.reloaded(Err(why));
        }
    }

    /// Whether a reload has to wait.
    pub(crate) fn is_changing(&self) -> bool {
        self.servers.is_handing_over() || self.renewal.is_some()
    }

    /// All that is asked for meanwhile is one reload afterwards.
    pub(crate) fn reload_later(&mut self, wish: Wish) {
        let before = self.reload_again.unwrap_or(Wish { binary: false, force: false });
        self.reload_again =
            Some(Wish { binary: before.binary | wish.binary, force: before.force | wish.force });
    }

    /// Nothing is reloaded any more.
    pub(crate) fn reload_never(&mut self) {
        self.reload_again = None;
        self.refuse_those_who_wait("the server is stopping");
    }

    /// Something happened that may concern a handover.
    pub(crate) fn hand_over(&mut self, input: Input) {
        let actions = self.servers.on(input);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Bound(time) => self.world.timers.arm(Alarm::Handover, self.world.now.after(time)),
                Action::Unbound => self.world.timers.disarm(Alarm::Handover),
                Action::Discard => self.servers.discard_standby(),
                Action::Retire => {
                    fault::point("handover.before_retire");
                    self.servers.retire(&mut self.world);
                }
                Action::Promote => {
                    fault::point("handover.before_promote");
                    self.servers.promote(&mut self.world);
                    self.tell_retired_of_the_end();
                }
                Action::KillCurrent => self.servers.signal_current(Signal::KILL),
                Action::RollBack if !self.ending.wants_a_server() => self.no_server_follows(),
                Action::RollBack => {
                    self.start_server();
                    self.tell_retired_of_the_end();
                }
                Action::Tell(result) => self.reloaded(result),
            }
        }
    }

    /// How a reload went.
    pub(crate) fn reloaded(&mut self, result: Result<(), String>) {
        if let Err(why) = &result {
            // All of it is told to whoever asks; here the first line will do.
            let first = why.lines().next().unwrap_or_default();
            crate::complain(format_args!("the reload failed: {first}"));
        }
        self.tell_of_reload(result);
    }

    /// Called before each wait: what was asked for while it could not be done.
    pub(crate) fn reload_if_due(&mut self) {
        if self.is_changing() {
            return;
        }
        let Some(wish) = self.reload_again.take() else { return };
        self.their_turn();
        if let Err(why) = self.reload(wish) {
            self.reloaded(Err(why));
        }
    }

    /// They were told to hand over when others were told to end.
    fn tell_retired_of_the_end(&mut self) {
        if let Some(shutdown) = self.ending.shutdown() {
            self.servers.say_to_retired(&ToServer::Shutdown(shutdown));
        }
    }

    /// What a standby says.
    pub(crate) fn on_standby_message(&mut self, message: ToKeeper) {
        match message {
            ToKeeper::Prepared => self.hand_over(Input::Prepared),
            ToKeeper::Refused { message } => self.hand_over(Input::Refused(message)),
            _ => crate::complain(format_args!("a server that stands by spoke out of turn")),
        }
    }

    /// A server that has handed over still says what it had under way.
    pub(crate) fn on_retired_message(&mut self, message: ToKeeper) {
        if let ToKeeper::Ack { key } = message {
            self.world.acknowledge(key);
        }
    }

    /// What becomes of a handover when one of its two servers dies; whether its end is all
    /// there is to it.
    pub(crate) fn died_in_handover(&mut self, role: Role, how: String) -> bool {
        match role {
            Role::Retired => true,
            Role::Standby => {
                self.hand_over(Input::StandbyEnded(how));
                true
            }
            Role::Current => {
                let replacing = self.servers.is_replacing();
                self.hand_over(Input::CurrentEnded(how));
                replacing
            }
        }
    }

    /// The status pipe of a server has news.
    pub(crate) fn on_server_status(&mut self, id: ServerId) {
        let role = self.servers.role(id);
        let Some(failure) = self.servers.on_status(id, &mut self.world) else { return };
        let phase = failure.phase.name();
        match role {
            Some(Role::Standby) => {
                let how = format!("could not be started ({phase}: {})", failure.errno);
                self.hand_over(Input::StandbyEnded(how));
            }
            Some(Role::Current) => self.server_never_ran(phase, failure.errno),
            Some(Role::Retired) | None => {}
        }
    }
}

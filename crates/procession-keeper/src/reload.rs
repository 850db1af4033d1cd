//! A reload, or an upgrade: the keeper does what `handover` says.
//!
//! Asked for by a signal (HUP, USR2) or by the command line. Whoever asks is told how it
//! went; the last answer is kept for those who ask later.

use procession_core::frame::ToKeeper;

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
        let actions = self.servers.replace(wish, &mut self.world)?;
        self.notify.reloading();
        self.perform(actions);
        Ok(())
    }

    /// A reload that nobody waits for. One that comes while another is under way has its turn
    /// afterwards: the files may have changed since the other read them.
    pub(crate) fn reload_by_signal(&mut self, binary: bool) {
        let wish = Wish { binary, force: false };
        if let Some(later) = &mut self.reload_again {
            later.binary |= binary;
        } else if self.servers.is_handing_over() {
            self.reload_again = Some(wish);
        } else if let Err(why) = self.reload(wish) {
            self.reloaded(Err(why));
        }
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
                }
                Action::KillCurrent => self.servers.signal_current(Signal::KILL),
                Action::RollBack => {
                    self.servers.distrust();
                    self.start_server();
                }
                Action::Tell(result) => self.reloaded(result),
            }
        }
    }

    /// How a reload went.
    pub(crate) fn reloaded(&mut self, result: Result<(), String>) {
        if let Err(why) = &result {
            crate::complain(format_args!("the reload failed: {why}"));
        }
        self.tell_of_reload(result);
        if let Some(Wish { binary, .. }) = self.reload_again.take() {
            self.reload_by_signal(binary);
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
        if let Some(failure) = self.servers.on_status(id, &mut self.world)
            && role == Some(Role::Current)
        {
            // One that stands by is told of by its death.
            self.server_never_ran(failure.phase.name(), failure.errno);
        }
    }
}

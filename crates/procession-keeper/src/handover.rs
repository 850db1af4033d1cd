//! One server takes over from another without a gap: a machine of how far that has come.
//!
//! No process and no clock inside; `servers` feeds it and does what it says. A standby checks
//! all it can before the server that serves hears of it (PREPARED), so nearly everything that
//! can be wrong with a new config or a new program changes nothing. Only then is the old one
//! asked to release the store (RETIRE), and the new one told to open it (PROCEED).

use std::time::Duration;

/// A standby that has not said PREPARED by then is given up.
const PREPARED_WITHIN: Duration = Duration::from_secs(15);

/// A server that has not released the store by then is ended.
const RELEASED_WITHIN: Duration = Duration::from_secs(15);

/// A server that has not become ready by then, with the store in its hands, is ended.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The program too may be another: the keeper is to execute it as well.
    pub(crate) binary: bool,
    /// Unfinished jobs of tasks that left the config are cancelled.
    pub(crate) force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The standby checks.
    Preparing,
    /// The old server finishes what changes the store.
    Releasing,
    /// The same, but the standby is gone: neither can serve, a third one has to.
    Reverting,
    /// The new server has the store and is not ready yet.
    Taking,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The standby said PREPARED.
    Prepared,
    /// The standby said REFUSED.
    Refused(String),
    /// The standby is dead, or never ran.
    StandbyEnded(String),
    /// The server that holds the store said RETIRED.
    Released,
    /// The server that holds the store is dead.
    CurrentEnded(String),
    /// The server that holds the store said READY.
    Ready,
    /// The time that the last [`Action::Bound`] gave is over.
    TookTooLong,
    /// The keeper was asked to end.
    Ending,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Say [`Input::TookTooLong`] after this time, in place of what was said before.
    Bound(Duration),
    /// Nothing is waited for any more.
    Unbound,
    /// End the standby, which has changed nothing.
    Discard,
    /// Say RETIRE to the server that serves.
    Retire,
    /// The standby is the server now: say PROCEED to it.
    Promote,
    /// End the server that holds the store.
    KillCurrent,
    /// Start a server from what is known to work.
    RollBack,
    /// Tell whoever asked.
    Tell(Result<(), String>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    under_way: Option<(Stage, Wish)>,
    /// Why it cannot come to a good end any more.
    trouble: String,
}

impl Handover {
    /// What is under way, if anything is.
    pub(crate) fn wish(&self) -> Option<Wish> {
        self.under_way.map(|(_, wish)| wish)
    }

    /// Whether the server that serves has been asked to release the store: its end is then no
    /// accident, and the next server is there already.
    pub(crate) fn is_replacing(&self) -> bool {
        self.under_way.is_some_and(|(stage, _)| stage != Stage::Preparing)
    }

    /// Whether the server that serves was asked to release the store and has not said that it did.
    pub(crate) fn is_releasing(&self) -> bool {
        self.under_way.is_some_and(|(stage, _)| matches!(stage, Stage::Releasing | Stage::Reverting))
    }

    /// A standby was started for this.
    pub(crate) fn begin(&mut self, wish: Wish) -> Vec<Action> {
        self.under_way = Some((Stage::Preparing, wish));
        vec![Action::Bound(PREPARED_WITHIN)]
    }

    /// The one transition function. What a stage does not expect changes nothing.
    pub(crate) fn on(&mut self, input: Input) -> Vec<Action> {
        use Action::*;
        let Some((stage, _)) = self.under_way else { return vec![] };
        match (stage, input) {
            (Stage::Preparing, Input::Prepared) => {
                self.go(Stage::Releasing, [Bound(RELEASED_WITHIN), Retire])
            }
            (Stage::Preparing, Input::Refused(why)) => self.end(Discard, Err(why)),
            (Stage::Preparing, Input::StandbyEnded(how)) => {
                let why = format!("the new server {how} before it could take over; the old one goes on");
                self.end(Discard, Err(why))
            }
            (Stage::Preparing, Input::TookTooLong) => {
                let bound = PREPARED_WITHIN.as_secs();
                let why = format!("the new server could not take over within {bound} s; the old one goes on");
                self.end(Discard, Err(why))
            }
            (Stage::Preparing, Input::CurrentEnded(how)) => {
                self.end(Discard, Err(format!("the server {how} meanwhile; ask again")))
            }
            (Stage::Preparing, Input::Ending) => self.end(Discard, Err("the keeper was asked to end".into())),

            (Stage::Releasing, Input::Released | Input::CurrentEnded(_)) => {
                self.go(Stage::Taking, [Bound(READY_WITHIN), Promote])
            }
            (Stage::Releasing, Input::StandbyEnded(how)) => {
                self.trouble = format!("the new server {how} as it was to take over");
                self.go(Stage::Reverting, [])
            }
            (Stage::Reverting, Input::Released | Input::CurrentEnded(_)) => {
                let why = std::mem::take(&mut self.trouble);
                self.end(RollBack, Err(format!("{why}; another one was started")))
            }
            (Stage::Releasing | Stage::Reverting | Stage::Taking, Input::TookTooLong) => vec![KillCurrent],

            (Stage::Taking, Input::Ready) => self.end(Unbound, Ok(())),
            (Stage::Taking, Input::CurrentEnded(how)) => {
                let why = format!("the new server {how} before it was ready; another one was started");
                self.end(RollBack, Err(why))
            }
            _ => vec![],
        }
    }

    fn go<const N: usize>(&mut self, stage: Stage, actions: [Action; N]) -> Vec<Action> {
        self.under_way = self.under_way.map(|(_, wish)| (stage, wish));
        actions.to_vec()
    }

    fn end(&mut self, action: Action, told: Result<(), String>) -> Vec<Action> {
        self.under_way = None;
        vec![Action::Unbound, action, Action::Tell(told)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish { binary: true, force: false };

    fn inputs() -> Vec<Input> {
        let how = || "exited with 1".to_owned();
        vec![
            Input::Prepared,
            Input::Refused("no".into()),
            Input::StandbyEnded(how()),
            Input::Released,
            Input::CurrentEnded(how()),
            Input::Ready,
            Input::TookTooLong,
            Input::Ending,
        ]
    }

    /// A handover that has come to this stage.
    fn at(stage: Stage) -> Handover {
        let mut handover = Handover::default();
        assert_eq!(handover.begin(WISH), [Action::Bound(PREPARED_WITHIN)]);
        let way: &[Input] = match stage {
            Stage::Preparing => &[],
            Stage::Releasing => &[Input::Prepared],
            Stage::Reverting => &[Input::Prepared, Input::StandbyEnded("died".into())],
            Stage::Taking => &[Input::Prepared, Input::Released],
        };
        way.iter().for_each(|input| drop(handover.on(input.clone())));
        assert_eq!(handover.under_way, Some((stage, WISH)));
        handover
    }

    #[test]
    fn f06_until_the_old_server_is_asked_to_retire_nothing_touches_it() {
        for input in inputs().into_iter().filter(|input| *input != Input::Prepared) {
            let actions = at(Stage::Preparing).on(input.clone());
            let touched = [Action::Retire, Action::Promote, Action::KillCurrent, Action::RollBack];
            assert!(!actions.iter().any(|action| touched.contains(action)), "{input:?}: {actions:?}");
        }
    }

    /// Whatever happens: there is a server, or one is started, and who asked is told once.
    #[test]
    fn f06_every_way_ends_with_a_server_and_an_answer() {
        let expected = [
            // Prepared, Refused, StandbyEnded, Released, CurrentEnded, Ready, TookTooLong, Ending.
            (Stage::Preparing, "RxxoxoxX"),
            (Stage::Releasing, "oorPPoko"),
            (Stage::Reverting, "ooobboko"),
            (Stage::Taking, "oooob!ko"),
        ];
        for (stage, row) in expected {
            for (input, letter) in inputs().into_iter().zip(row.chars()) {
                let mut handover = at(stage);
                let actions = handover.on(input.clone());
                let told = actions.iter().filter(|action| matches!(action, Action::Tell(_))).count();
                assert_eq!(told == 1, handover.wish().is_none(), "{stage:?} {input:?}");
                let has = |action: &Action| actions.contains(action);
                let does = match letter {
                    'o' => actions.is_empty(),
                    'R' => has(&Action::Retire),
                    'P' => has(&Action::Promote),
                    'x' | 'X' => has(&Action::Discard),
                    'r' => actions.is_empty() && handover.under_way == Some((Stage::Reverting, WISH)),
                    'b' => has(&Action::RollBack) && told == 1,
                    'k' => actions == [Action::KillCurrent],
                    _ => actions == [Action::Unbound, Action::Unbound, Action::Tell(Ok(()))],
                };
                assert!(does, "{stage:?} {input:?}: {actions:?}");
            }
        }
    }

    #[test]
    fn nothing_is_under_way_before_it_begins() {
        for input in inputs() {
            assert_eq!(Handover::default().on(input), []);
        }
    }
}

//! The whole table, every (state, input) pair of it, and what holds in any order of inputs.

use proptest::prelude::*;

use super::*;

const NOW: Instant = Instant(1_000);
const BY: CancelledBy = CancelledBy::Client;

fn bounds() -> Bounds {
    Bounds {
        timeout: Some(Duration::from_millis(50)),
        grace: Duration::from_millis(20),
        leave_children: false,
    }
}

const INPUTS: [Input; 13] = [
    Input::ExecOk,
    Input::ExecFailed { phase: Phase::Directory, errno: 2 },
    Input::ExecTimeout { phase: Phase::Exec },
    Input::Deadline,
    Input::Stop { by: BY, now: false },
    Input::Stop { by: BY, now: true },
    Input::GraceOver,
    Input::LeaderExited { unasked: false },
    Input::LeaderExited { unasked: true },
    Input::TreeEmpty,
    Input::Drained,
    Input::DrainOver,
    Input::WatcherDied,
];

/// How a state is reached.
fn in_state(state: State) -> Attempt {
    let path: &[Input] = match state {
        State::Starting => &[],
        State::Running => &[Input::ExecOk],
        State::Stopping => &[Input::ExecOk, Input::Deadline],
        State::Ending => &[Input::ExecOk, Input::Deadline, Input::GraceOver],
        State::Sweeping => &[Input::ExecOk, Input::LeaderExited { unasked: false }],
        State::Draining => &[Input::ExecOk, Input::LeaderExited { unasked: false }, Input::TreeEmpty],
        State::Over => &[Input::WatcherDied],
    };
    let (mut attempt, _) = Attempt::new(bounds(), NOW);
    for input in path {
        attempt.on(*input, NOW);
    }
    assert_eq!(attempt.state(), state);
    attempt
}

#[test]
fn every_pair_of_state_and_input() {
    use Action::*;
    use State::*;
    let grace = Arm(Timer::Grace, NOW.after(bounds().grace));
    let deadline = Arm(Timer::Deadline, NOW.after(Duration::from_millis(50)));
    let drain = Arm(Timer::Drain, NOW.after(DRAIN_TIMEOUT));
    let sweep = Sweep { leave: false };
    let asked = vec![Disarm(Timer::Deadline), SignalTree, grace];
    let exited = |timer| vec![Disarm(timer), drain, sweep];
    let (soft, hard) = (Input::Stop { by: BY, now: false }, Input::Stop { by: BY, now: true });
    let (exit, early) = (Input::LeaderExited { unasked: false }, Input::LeaderExited { unasked: true });

    // What is not in this table changes nothing and does nothing.
    let moves = [
        (Starting, INPUTS[0], Running, vec![Disarm(Timer::Exec), Announce, deadline]),
        (Starting, INPUTS[1], Ending, vec![Disarm(Timer::Exec)]),
        (Starting, INPUTS[2], Ending, vec![KillTree]),
        (Starting, hard, Ending, vec![Disarm(Timer::Exec), KillTree]),
        (Starting, exit, Sweeping, exited(Timer::Exec)),
        (Starting, early, Sweeping, exited(Timer::Exec)),
        (Running, Input::Deadline, Stopping, asked.clone()),
        (Running, soft, Stopping, asked),
        (Running, hard, Ending, vec![Disarm(Timer::Deadline), KillTree]),
        (Running, exit, Sweeping, exited(Timer::Deadline)),
        (Running, early, Sweeping, exited(Timer::Deadline)),
        (Stopping, hard, Ending, vec![Disarm(Timer::Grace), KillTree]),
        (Stopping, Input::GraceOver, Ending, vec![KillTree]),
        (Stopping, exit, Sweeping, exited(Timer::Grace)),
        (Stopping, early, Sweeping, exited(Timer::Grace)),
        (Ending, exit, Sweeping, exited(Timer::Grace)),
        (Ending, early, Sweeping, exited(Timer::Grace)),
        (Sweeping, Input::TreeEmpty, Draining, vec![Drain]),
        (Sweeping, Input::DrainOver, Over, vec![Drain, Reap, Report]),
        (Draining, Input::Drained, Over, vec![Disarm(Timer::Drain), Reap, Report]),
        (Draining, Input::DrainOver, Over, vec![Reap, Report]),
    ];
    for state in [Starting, Running, Stopping, Ending, Sweeping, Draining, Over] {
        for input in INPUTS {
            let mut attempt = in_state(state);
            let actions = attempt.on(input, NOW);
            if input == Input::WatcherDied && state != Over {
                assert_eq!(attempt.state(), Over);
                assert_eq!(actions[4..], [sweep, Drain, Reap, Report]);
                continue;
            }
            let expected = moves.iter().find(|row| (row.0, row.1) == (state, input));
            let (next, then) = expected.map_or((state, vec![]), |row| (row.2, row.3.clone()));
            assert_eq!((attempt.state(), actions), (next, then), "{state:?} x {input:?}");
        }
    }
}

#[test]
fn a_stop_before_exec_is_carried_out_after_it() {
    let (mut attempt, _) = Attempt::new(bounds(), NOW);
    assert_eq!(attempt.on(Input::Stop { by: BY, now: false }, NOW), vec![]);
    assert!(attempt.on(Input::ExecOk, NOW).contains(&Action::SignalTree));
    assert_eq!(attempt.state(), State::Stopping);
}

#[test]
fn the_first_cause_stays() {
    let mut attempt = in_state(State::Stopping);
    attempt.on(Input::Stop { by: BY, now: true }, NOW);
    let stopped = Some(StopCause::Deadline { limit_ms: 50 });
    assert_eq!(attempt.verdict(), Verdict::Ended { stopped });
}

#[test]
fn an_exit_that_came_first_is_nobodys_doing() {
    let mut attempt = in_state(State::Stopping);
    attempt.on(Input::LeaderExited { unasked: true }, NOW);
    assert_eq!(attempt.verdict(), Verdict::Ended { stopped: None });
}

#[test]
fn children_are_left_only_by_a_leader_that_ended_by_itself() {
    let bounds = Bounds { leave_children: true, ..bounds() };
    for (stop, leave) in [(false, true), (true, false)] {
        let (mut attempt, _) = Attempt::new(bounds, NOW);
        attempt.on(Input::ExecOk, NOW);
        if stop {
            attempt.on(Input::Deadline, NOW);
        }
        let actions = attempt.on(Input::LeaderExited { unasked: false }, NOW);
        assert!(actions.contains(&Action::Sweep { leave }));
    }
}

#[test]
fn a_child_killed_by_others_before_exec_never_ran() {
    let (mut attempt, _) = Attempt::new(bounds(), NOW);
    attempt.on(Input::LeaderExited { unasked: false }, NOW);
    let never = Verdict::NotStarted { phase: Phase::Exec, errno: INTERRUPTED };
    assert_eq!(attempt.verdict(), never);
}

proptest! {
    #[test]
    fn in_any_order_one_report_and_no_signal_to_a_stranger(
        order in prop::collection::vec(0..INPUTS.len(), 0..40),
        leave_children: bool,
        timed: bool,
    ) {
        let timeout = timed.then_some(Duration::from_millis(50));
        let bounds = Bounds { timeout, leave_children, ..bounds() };
        let (mut attempt, mut done) = Attempt::new(bounds, NOW);
        let mut abrupt = false;
        // What the supervisor owes comes at last.
        let owed = [Input::LeaderExited { unasked: false }, Input::DrainOver];
        for input in order.iter().map(|i| INPUTS[*i]).chain(owed) {
            let hurry = matches!(input, Input::Stop { now: true, .. } | Input::ExecTimeout { .. });
            abrupt |= hurry;
            done.extend(attempt.on(input, NOW));
        }
        prop_assert_eq!(attempt.state(), State::Over);
        prop_assert_eq!(done.iter().filter(|a| **a == Action::Report).count(), 1);
        prop_assert_eq!(done.last(), Some(&Action::Report));
        let at = |wanted: Action| done.iter().position(|a| *a == wanted);
        let reap = at(Action::Reap).expect("reaped");
        let signals = |a: &Action| matches!(a, Action::SignalTree | Action::KillTree | Action::Sweep { .. });
        prop_assert!(!done[reap..].iter().any(signals), "{:?}", done);
        if let Some(kill) = at(Action::KillTree) {
            prop_assert!(abrupt || at(Action::SignalTree).is_some_and(|term| term < kill));
        }
        prop_assert!(done.iter().filter(|a| **a == Action::KillTree).count() <= 1);
    }
}

//! A job in words: how it ended, and how far it is. Every line about a job that people
//! read is made here, and is safe for a terminal.

use procession_core::api::{Job, Progress};
use procession_core::outcome::{CancelledBy, LostReason, Outcome};
use procession_core::quantity::show_duration;
use std::time::Duration;

use super::id;
use super::plain;
use super::when;

/// `failed: exit code 3`, `succeeded`, `running`.
pub(super) fn state(job: &Job) -> String {
    let word = job.state.name().replace('_', " ");
    match job.outcome.as_ref().and_then(reason) {
        Some(reason) => format!("{word}: {reason}"),
        None => word,
    }
}

/// `full-report 9f3a1c2b failed: exit code 3, after 812ms`.
pub(super) fn ending(job: &Job) -> String {
    let after = job.run_ms.map(|ms| format!(", after {}", when::span(ms))).unwrap_or_default();
    plain::line(&format!("{} {} {}{after}", job.task, id::short(job.id), state(job)))
}

/// The column EXIT: a code, a signal's name, or nothing.
pub(super) fn exit(job: &Job) -> String {
    match &job.outcome {
        Some(Outcome::Signaled { name, .. }) => name.clone(),
        Some(Outcome::OomKilled) => "OOM".into(),
        _ => job.exit_code.map(|code| code.to_string()).unwrap_or_default(),
    }
}

/// What a table has room for beside state and code.
pub(super) fn note(job: &Job) -> String {
    match (&job.outcome, &job.progress) {
        (Some(Outcome::Exited { .. } | Outcome::Signaled { .. } | Outcome::OomKilled), _) => String::new(),
        (Some(outcome), _) => reason(outcome).unwrap_or_default(),
        (None, _) if job.cancel_requested_at.is_some() => "cancel requested".into(),
        (None, Some(progress)) => self::progress(progress),
        (None, None) => String::new(),
    }
}

/// `40% roof left`.
pub(super) fn progress(progress: &Progress) -> String {
    let percent = (progress.fraction.clamp(0.0, 1.0) * 100.0).floor();
    plain::line(&format!("{percent}% {}", progress.message))
}

/// What the state's word does not say.
fn reason(outcome: &Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Exited { code: 0 } => return None,
        Outcome::Exited { code } => format!("exit code {code}"),
        Outcome::Signaled { name, core: false, .. } => format!("ended by {name}"),
        Outcome::Signaled { name, core: true, .. } => format!("ended by {name}, core dumped"),
        Outcome::OomKilled => "out of memory".into(),
        Outcome::SpawnFailed { phase, message, .. } if phase == "exec" => format!("cannot start: {message}"),
        Outcome::SpawnFailed { phase, message, .. } => format!("cannot start ({phase}): {message}"),
        Outcome::ChildrenFailed { failed: 1 } => "1 child failed".into(),
        Outcome::ChildrenFailed { failed } => format!("{failed} children failed"),
        Outcome::ResultMissing => "exit code 0, but no result".into(),
        Outcome::BadResult { message } => format!("exit code 0, but a bad result: {message}"),
        Outcome::TimedOut { limit_ms, .. } => {
            format!("ran longer than {}", show_duration(Duration::from_millis(*limit_ms)))
        }
        Outcome::Cancelled { by, .. } => cancelled(*by).into(),
        Outcome::Lost { reason } => lost(*reason).into(),
    })
}

fn cancelled(by: CancelledBy) -> &'static str {
    match by {
        CancelledBy::Client => "by a client",
        CancelledBy::Parent => "with its parent",
        CancelledBy::Replaced => "replaced by a newer job",
        CancelledBy::Expired => "waited longer than its queue_timeout",
        CancelledBy::Shutdown => "the server stopped",
        CancelledBy::TaskRemoved => "its task left the config",
    }
}

fn lost(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Reboot => "the machine was restarted",
        LostReason::KeeperDied => "the keeper died",
        LostReason::NodeLost => "its node went away",
        LostReason::Quarantined => "it was lost too often",
        LostReason::StoreDamaged => "the store was damaged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::job;

    #[test]
    fn ends_in_words() {
        let signaled = Outcome::Signaled { signal: 11, name: "SIGSEGV".into(), core: true };
        for (outcome, text) in [
            (Outcome::Exited { code: 0 }, "succeeded"),
            (Outcome::Exited { code: 3 }, "failed: exit code 3"),
            (signaled, "failed: ended by SIGSEGV, core dumped"),
            (
                Outcome::TimedOut { limit_ms: 90_000, code: None, signal: None },
                "timed out: ran longer than 1m30s",
            ),
            (Outcome::cancelled(CancelledBy::Client), "cancelled: by a client"),
            (Outcome::Lost { reason: LostReason::Reboot }, "lost: the machine was restarted"),
        ] {
            assert_eq!(state(&job::ended(outcome)), text);
        }
    }

    #[test]
    fn one_line_says_who_how_and_how_long() {
        let job = job::ended(Outcome::Exited { code: 3 });
        assert_eq!(ending(&job), "hello 00000000 failed: exit code 3, after 812ms");
        assert_eq!((exit(&job), note(&job)), ("3".into(), String::new()));
    }

    #[test]
    fn progress_is_a_percentage_and_one_line() {
        let progress =
            |fraction, message: &str| super::progress(&Progress { fraction, message: message.into() });
        assert_eq!(progress(0.4, "roof\nleft"), "40% roof left");
        assert_eq!(progress(7.0, ""), "100%");
        assert_eq!(progress(0.999, ""), "99%");
    }
}

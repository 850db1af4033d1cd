//! What comes between the attempts of a job, and between jobs: retries, lanes, what is unique, rates.

use procession_core::condition::Condition;
use procession_core::job::OnDuplicate;
use procession_core::limits::Limit;
use procession_core::outcome::Outcome;
use procession_core::rate::Rate;
use procession_core::retry::RetryPolicy;
use procession_core::task::Task;

use super::super::keys;
use super::super::nearest::nearest;
use super::super::section::{Section, Text};
use super::labels::of_request;
use super::slot::Slot;

const EXAMPLE: &str = "{ max_attempts = 3, on = [\"exit:75\", \"lost\"] }";

/// More attempts than this are a loop.
const MOST_ATTEMPTS: u64 = 1_000;

/// The templates of `lane` and `unique`, which are filled with the request.
#[derive(Debug, Default)]
pub(super) struct Keyed<'a> {
    pub(super) lane: Option<Slot<'a>>,
    pub(super) unique: Option<Slot<'a>>,
}

/// Reads `retry`.
pub(super) fn retry(section: &Section<'_>) -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    let Some(item) = section.item("retry") else { return policy };
    let help = format!("write retry = {EXAMPLE}");
    let Some(retry) = item.section(&keys::RETRY, "retry", item.span.clone(), &help) else { return policy };
    match retry.count("max_attempts", 1..=MOST_ATTEMPTS) {
        Some(most) => policy.max_attempts = u32::try_from(most).unwrap_or(u32::MAX),
        None if !retry.has("max_attempts") => {
            item.report.error(&item.span, "`retry` does not say how often", help.as_str());
        }
        None => {}
    }
    let on = retry.item("on").and_then(|on| on.one_or_many("[\"exit:75\", \"lost\"]"));
    match on.as_deref() {
        // It was said what is wrong with it.
        None if retry.has("on") => {}
        None | Some([]) => {
            let help = "name the ends after which it may run again: on = [\"exit:75\", \"timed_out\"]";
            item.report.error(&item.span, "`retry` does not say after which ends", help);
        }
        Some(on) => policy.on = on.iter().filter_map(condition).collect(),
    }
    if let Some(backoff) = retry.duration("backoff") {
        policy.backoff = backoff;
    }
    policy.max_backoff = retry.duration("max_backoff").unwrap_or(policy.max_backoff.max(policy.backoff));
    if policy.max_backoff < policy.backoff {
        let help = "raise `max_backoff`, or lower `backoff`";
        retry.report.error(&retry.span_of("max_backoff"), "`max_backoff` is shorter than `backoff`", help);
    }
    policy
}

fn condition(text: &Text<'_>) -> Option<Condition> {
    match text.text.parse::<Condition>() {
        Ok(condition) if condition.matches(&Outcome::Exited { code: 0 }) && is_success(text.text) => {
            text.error("a job that succeeded is not tried again", "name the ends that are worth another try");
            None
        }
        Ok(condition) => Some(condition),
        Err(bad) => {
            const NAMES: [&str; 8] = [
                "failed",
                "timed_out",
                "cancelled",
                "lost",
                "signaled",
                "oom_killed",
                "spawn_failed",
                "shutdown",
            ];
            let said = bad.to_string();
            let (message, help) = said.split_once("; ").unwrap_or((&said, ""));
            let help = nearest(text.text, &NAMES)
                .map_or(help.to_owned(), |meant| format!("did you mean \"{meant}\"?"));
            text.error(message, help);
            None
        }
    }
}

/// Names that mean success, or above all success.
fn is_success(text: &str) -> bool {
    matches!(text, "succeeded" | "finished" | "exit:0")
}

/// Reads `lane`, `unique` and what goes with them, and `rate`.
pub(super) fn keyed<'a>(section: &Section<'a>, task: &mut Task) -> Keyed<'a> {
    let lane = section.text("lane").and_then(of_request);
    let unique = section.text("unique").and_then(of_request);
    if let Some(most) = section.count("max_running_per_lane", 1..=1 << 22) {
        task.limits.per_lane = Limit::AtMost(most);
    }
    let choices = [
        ("return", OnDuplicate::Return),
        ("replace_queued", OnDuplicate::ReplaceQueued),
        ("cancel_running", OnDuplicate::CancelRunning),
    ];
    if let Some(on_duplicate) = section.choice("on_duplicate", &choices) {
        task.on_duplicate = on_duplicate;
        if !section.has("unique") {
            let help = "say which jobs are duplicates: unique = \"{{payload.id}}\"";
            section.report.error(&section.span_of("on_duplicate"), "`on_duplicate` without `unique`", help);
        }
    }
    if let Some(text) = section.text("rate") {
        match text.text.parse::<Rate>() {
            Ok(rate) => task.rate = Some(rate),
            Err(bad) => {
                let said = bad.to_string();
                let (message, help) = said.split_once(": ").unwrap_or((&said, ""));
                text.error(format!("`rate` is {message}"), help);
            }
        }
    }
    Keyed { lane, unique }
}

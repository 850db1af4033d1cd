//! What the end of a job brings about: `then`, another task, and `callback`, a request that
//! tells of it. Tasks that follow each other in a circle would never stop, so there is none.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use procession_core::callback::is_behind_host;
use procession_core::condition::Condition;
use procession_core::id::TaskName;
use procession_core::job::{FollowUp, What};
use procession_core::placeholder::Part;
use procession_core::target::{BadTarget, HostPattern, Target};
use procession_core::task::{Callback, Task};
use procession_core::validate::Tasks;

use super::super::diagnostic::Span;
use super::super::keys::{CALLBACK, THEN};
use super::super::load::Surroundings;
use super::super::nearest::nearest;
use super::super::report::Report;
use super::super::secret::read_secret;
use super::super::section::{Item, Section, Text};
use super::labels::of_request;
use super::slot::Slot;

const THEN_EXAMPLE: &str = "write then = { task = \"notify\", on = [\"unsuccessful\"] }";
const CALLBACK_EXAMPLE: &str = "write callback = { url = \"https://…\", secret_file = \"hook.secret\" }";

/// Which task follows which, as far as the config was read.
#[derive(Debug, Default)]
pub(in crate::config) struct Follows(Vec<Follow>);

#[derive(Debug)]
struct Follow {
    first: TaskName,
    then: TaskName,
    span: Span,
}

/// The tasks that follow the task `name`.
pub(super) fn then(section: &Section<'_>, name: &TaskName, follows: &mut Follows) -> Vec<FollowUp> {
    let Some(item) = section.item("then") else { return Vec::new() };
    let items =
        if item.is_list() { item.items("[{ task = \"notify\" }]").unwrap_or_default() } else { vec![item] };
    items.iter().filter_map(|item| one_then(item, name, follows)).collect()
}

fn one_then(item: &Item<'_>, name: &TaskName, follows: &mut Follows) -> Option<FollowUp> {
    let section = item.section(&THEN, "then", item.span.clone(), THEN_EXAMPLE)?;
    let on = conditions(&section);
    let Some(text) = section.text("task") else {
        if !section.has("task") {
            section.report.error(&section.span, "`then` names no `task`", THEN_EXAMPLE);
        }
        return None;
    };
    let say = |bad: procession_core::id::BadTaskName| {
        text.error(format!("\"{}\" cannot name a task", text.text.escape_debug()), bad.to_string());
    };
    let task: TaskName = text.text.parse().map_err(say).ok()?;
    follows.0.push(Follow { first: name.clone(), then: task.clone(), span: text.span });
    Some(FollowUp { on, what: What::Then(task) })
}

/// After which ends: any, where nothing is said.
fn conditions(section: &Section<'_>) -> Vec<Condition> {
    let Some(texts) = section.item("on").and_then(|item| item.one_or_many("[\"unsuccessful\"]")) else {
        return vec![Condition::Finished];
    };
    if texts.is_empty() {
        section.report.error(
            &section.span_of("on"),
            "`on` is empty: nothing would ever follow",
            "name ends: [\"unsuccessful\"], [\"failed\", \"exit:75\"], or remove it: any end then counts",
        );
    }
    texts.iter().filter_map(condition).collect()
}

fn condition(text: &Text<'_>) -> Option<Condition> {
    let say = |bad: procession_core::condition::BadCondition| {
        let said = bad.to_string();
        let (message, help) = said.split_once("; ").unwrap_or((&said, "see docs/config.md"));
        text.error(message, help);
    };
    text.text.parse().map_err(say).ok()
}

impl Follows {
    /// Reports each that leads nowhere, and each circle once.
    pub(super) fn check(&self, tasks: &Tasks, report: &Report) {
        let mut told: BTreeSet<BTreeSet<&TaskName>> = BTreeSet::new();
        for Follow { first, then, span } in &self.0 {
            let Some((then, _)) = tasks.get_key_value(then) else {
                let known: Vec<&str> = tasks.keys().map(TaskName::as_str).collect();
                let help = match nearest(then.as_str(), &known) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("name a task of this config, or add [task.{then}]"),
                };
                report.error(span, format!("`then` names the task `{then}`, which does not exist"), help);
                continue;
            };
            let Some(way) = way(tasks, then, first) else { continue };
            if told.insert(way.iter().copied().collect()) {
                let names: Vec<&str> = way.iter().map(|name| name.as_str()).collect();
                report.error(
                    span,
                    format!("`{first}` would follow itself and never stop: {first} → {}", names.join(" → ")),
                    "remove one `then` of the circle; a task is tried again by `retry`, at times by a schedule",
                );
            }
        }
    }
}

/// The shortest way from one task to another, both named: by what follows, and by what it divides
/// its requests among, whose ends may be followed as well.
fn way<'a>(tasks: &'a Tasks, from: &'a TaskName, to: &TaskName) -> Option<Vec<&'a TaskName>> {
    let mut ways = vec![vec![from]];
    let mut at = 0;
    while let Some(way) = ways.get(at).cloned() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        for next in tasks.get(last).into_iter().flat_map(|task| after(task)) {
            if !ways.iter().any(|way| way.contains(&next)) {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
        at += 1;
    }
    None
}

/// The tasks whose jobs come of those of this one.
fn after(task: &Task) -> impl Iterator<Item = &TaskName> {
    let then = task.then.iter().filter_map(|follow_up| match &follow_up.what {
        What::Then(name) => Some(name),
        What::Callback { .. } => None,
    });
    then.chain(task.fan_out.as_ref().map(|fan_out| &fan_out.task))
}

/// Who is told of the task's ends, and the template of the URL.
pub(super) fn callback<'a>(section: &Section<'a>, around: &Surroundings<'_>) -> Option<(Callback, Slot<'a>)> {
    let item = section.item("callback")?;
    let section = item.section(&CALLBACK, "callback", item.span.clone(), CALLBACK_EXAMPLE)?;
    let on = conditions(&section);
    let secret_file = section.text("secret_file").and_then(|text| secret_file(&text, around));
    if !section.has("secret_file") {
        section.report.advice(
            &section.span,
            "callbacks are not signed: whoever gets one cannot tell who sent it",
            "name a file with a secret that the receiver knows: secret_file = \"hook.secret\"",
        );
    }
    if !section.has("url") {
        section.report.error(&section.span, "`callback` has no `url`", CALLBACK_EXAMPLE);
    }
    let slot = section.text("url").and_then(of_request)?;
    check_url(&slot, &around.callback_hosts);
    let hosts = around.callback_hosts.clone();
    Some((Callback { url: slot.template.clone(), secret_file, on, hosts }, slot))
}

/// What of it the config fixes is judged now, the rest with each request.
fn check_url(slot: &Slot<'_>, hosts: &[HostPattern]) {
    const LIST: &str =
        "list the hosts that callbacks may go to: [server] callback_hosts = [\"hooks.example.org\"]";
    let fixed: String = slot.template.parts().iter().map_while(fixed_text).collect();
    let whole = slot.template.holes().next().is_none();
    if !whole && !is_behind_host(&fixed) {
        if hosts.is_empty() {
            slot.text.error("a client would decide where callbacks go", LIST);
        }
        return;
    }
    match fixed.parse::<Target>() {
        Err(bad) => slot.text.error(format!("`url` cannot be used: {bad}"), remedy(bad)),
        Ok(target) if !whole && !hosts.iter().any(|pattern| pattern.matches(&target.host)) => {
            let message = format!("a client has part in a url whose host `{}` is not listed", target.host);
            slot.text.error(message, LIST);
        }
        Ok(_) => {}
    }
}

fn fixed_text(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(text),
        Part::Hole(_) => None,
    }
}

fn remedy(bad: BadTarget) -> &'static str {
    match bad {
        BadTarget::User => "keep no password in a url: receivers know us by the signature of `secret_file`",
        _ => "write it whole: url = \"https://hooks.example.org/done\"",
    }
}

/// Read again at each callback, so that it can be exchanged at any time; that it is good now
/// is checked now.
fn secret_file(text: &Text<'_>, around: &Surroundings<'_>) -> Option<PathBuf> {
    let path = text.path(around.folder)?;
    if let Err(problem) = read_secret(&path) {
        let message = format!("no secret in {}: {problem}", path.display());
        let help = "write one key on a line: `whsec_` and its Base64, or any text; \
                    openssl rand -base64 24 | sed s/^/whsec_/";
        if around.schemas.are_kept() {
            // What is in force goes on: its callbacks wait until the file is there again.
            text.report.warning(&text.span, message, help);
        } else {
            text.error(message, help);
        }
    } else if fs::metadata(&path).is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        let message = format!("every user of this machine can read {}", path.display());
        text.report.warning(&text.span, message, "whoever reads it can forge callbacks: chmod 600");
    }
    Some(path)
}

//! A task's own route: method, path, who may call it. Its answer's shape is `reply`'s.

use std::collections::BTreeMap;

use procession_core::id::TaskName;
use procession_core::task::{Method, Route};

use super::super::section::{Section, Text};
use super::reply;

/// The routes of the tasks read so far.
#[derive(Debug, Default)]
pub(crate) struct Routes(BTreeMap<(&'static str, String), TaskName>);

/// Paths of the server's own; beneath `/v1` all are.
const RESERVED: [&str; 5] = ["/v1", "/healthz", "/readyz", "/metrics", "/openapi.json"];

/// The route of the task `name`, if it has one.
pub(super) fn read(section: &Section<'_>, name: &TaskName, routes: &mut Routes) -> Option<Route> {
    let anonymous = section.choice("auth", &[("token", false), ("none", true)]).unwrap_or(false);
    let reply = reply::read(section);
    if !section.has("route") {
        for key in ["auth", "reply"] {
            if section.has(key) {
                let message = format!("`{key}` is about a route, and this task has none");
                section.report.error(
                    &section.span_of(key),
                    message,
                    "add route = \"POST /path\", or remove it",
                );
            }
        }
        return None;
    }
    let text = section.text("route")?;
    let (method, path) = method_and_path(&text)?;
    check_path(&text, path);
    if method == Method::Get && !reply.has_wait {
        text.error(
            "a GET route answers when its job is over, and nothing says how long that may take",
            "add wait to reply: reply = { wait = \"30s\" }; or make it a POST route",
        );
    }
    let word = if method == Method::Get { "GET" } else { "POST" };
    if let Some(other) = routes.0.insert((word, path.to_owned()), name.clone()) {
        let help = "give one of the two another path";
        text.error(format!("`{word} {path}` is the route of task `{other}` already"), help);
    }
    Some(Route { method, path: path.to_owned(), reply: reply.reply, anonymous })
}

fn method_and_path<'a>(text: &Text<'a>) -> Option<(Method, &'a str)> {
    let words: Vec<&str> = text.text.split(' ').collect();
    let example = "write the method and the path: \"POST /reports\"";
    match words.as_slice() {
        ["POST", path] => Some((Method::Post, path)),
        ["GET", path] => Some((Method::Get, path)),
        [word, path] if path.starts_with('/') => {
            let upper = word.to_ascii_uppercase();
            let help = match upper.as_str() {
                "GET" | "POST" => format!("write \"{upper} {path}\""),
                _ => "a route is \"POST /path\" or \"GET /path\"".into(),
            };
            text.error(format!("`{}` is no method of a route", word.escape_debug()), help);
            None
        }
        [path] if path.starts_with('/') => {
            text.error("`route` has no method", format!("write \"POST {path}\""));
            None
        }
        _ => {
            text.error("`route` is no method and path", example);
            None
        }
    }
}

/// Reports the first thing that keeps `path` from being the path of a route: what a
/// router would read as a pattern, a client would rewrite, or the server has itself.
fn check_path(text: &Text<'_>, path: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()+,;=:@".contains(c);
    let segments = || path.split('/').skip(1);
    let reserved = RESERVED
        .iter()
        .find(|own| path.strip_prefix(*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let (message, help) = if !path.starts_with('/') {
        ("the path of a route begins with `/`".into(), format!("write \"/{path}\""))
    } else if path.contains(['{', '}', '*']) || segments().any(|segment| segment.starts_with(':')) {
        (
            "the path of a route has no parameters".into(),
            "take values from the query: \"{{query.name}}\" in `command`".into(),
        )
    } else if path.contains(['?', '#']) {
        (
            "a route is a path alone, without query".into(),
            "\"{{query.name}}\" in `command` reads the query".into(),
        )
    } else if let Some(bad) = path.chars().find(|c| !plain(*c)) {
        (
            format!("`{}` cannot stand in the path of a route", bad.escape_debug()),
            "use letters, digits and - . _ ~ / only".into(),
        )
    } else if path.contains("//") || segments().any(|segment| matches!(segment, "." | "..")) {
        ("no client sends such a path as it is".into(), "remove empty, `.` and `..` parts".into())
    } else if let Some(own) = reserved {
        (format!("`{own}` is the server's own"), "choose another path: \"/reports\"".into())
    } else {
        return;
    };
    text.error(message, help);
}

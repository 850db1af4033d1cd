//! A template and where it stands, so that a complaint about one placeholder points at it.

use procession_core::placeholder::{BadTemplate, Placeholder, Source, Template};

use super::super::diagnostic::Span;
use super::super::nearest::nearest;
use super::super::section::Text;

/// One string of the config in which placeholders are filled.
#[derive(Clone, Debug)]
pub(super) struct Slot<'a> {
    pub(super) text: Text<'a>,
    pub(super) template: Template,
}

impl<'a> Slot<'a> {
    /// Reads `text` as a template, or reports why it is none.
    pub(super) fn parse(text: Text<'a>) -> Option<Self> {
        match Template::parse(text.text) {
            Ok(template) => Some(Self { text, template }),
            Err(bad) => {
                report(&text, &bad);
                None
            }
        }
    }

    /// The first placeholder that `wanted` picks, with its place.
    pub(super) fn find(&self, wanted: impl Fn(&Placeholder) -> bool) -> Option<Span> {
        let n = self.template.holes().position(wanted)?;
        Some(self.span_of_hole(n))
    }

    fn span_of_hole(&self, n: usize) -> Span {
        let mut at = 0;
        let text = self.text.text;
        for seen in 0.. {
            let Some(open) = text[at..].find("{{").map(|found| at + found) else { break };
            let Some(close) = text[open..].find("}}").map(|found| open + found + 2) else { break };
            if seen == n {
                return self.text.span_within(open, close - open);
            }
            at = close;
        }
        self.text.span.clone()
    }
}

/// Whether a client decides what `hole` becomes.
pub(super) fn is_clients(hole: &Placeholder) -> bool {
    matches!(hole.from, Source::Payload(_) | Source::Query(_) | Source::Header(_))
}

/// Whether `hole` is the body or a value in it.
pub(super) fn is_payload(hole: &Placeholder) -> bool {
    matches!(hole.from, Source::Payload(_))
}

fn report(text: &Text<'_>, bad: &BadTemplate) {
    const ROOTS: [&str; 10] = [
        "payload",
        "payload_file",
        "query",
        "header",
        "job.id",
        "job.attempt",
        "job.index",
        "job.dir",
        "job.artifacts",
        "job.result",
    ];
    match bad {
        BadTemplate::Unclosed => {
            let at = text.text.rfind("{{").unwrap_or(0);
            let help = "close it: \"{{payload.name}}\"";
            text.report.error(&text.span_within(at, 2), "`{{` without `}}`", help);
        }
        BadTemplate::Unknown(name) => {
            let at = text.text.find(name.as_str()).unwrap_or(0);
            let root = name.split_once('.').map_or(name.as_str(), |(root, _)| root);
            let help = match nearest(name, &ROOTS).or_else(|| nearest(root, &ROOTS)) {
                Some(meant) if meant != name && meant != root => format!("did you mean `{{{{{meant}}}}}`?"),
                _ => "there are payload, payload.KEY, query.NAME, header.NAME, payload_file, job.id, job.attempt, job.index, job.dir, job.artifacts and job.result".into(),
            };
            let message = format!("nothing is called `{{{{{name}}}}}`");
            text.report.error(&text.span_within(at, name.len()), message, help);
        }
    }
}

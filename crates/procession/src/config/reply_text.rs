//! The line of text a route answers with: `Return code: {{exit_code}}\n`. Names and
//! braces are those of commands, the facts are others: what is known of a job that is over.
//!
//! The config checks the template with it; the route fills it. Filling never fails: a
//! fact that is not known (the exit code of a killed job) is empty.

use std::fmt;

/// What a text reply may name, with what it stands for.
pub const REPLY_FACTS: [(&str, &str); 8] = [
    ("exit_code", "the exit code; empty where a signal ended it"),
    ("signal", "the signal's number; empty where none ended it"),
    ("state", "succeeded, failed, timed_out, cancelled, lost"),
    ("outcome", "how the attempt ended: exited, signaled, …"),
    ("job.id", "the job's id"),
    ("stdout", "the tail of standard output"),
    ("stderr", "the tail of standard error"),
    ("run_ms", "how long the attempt ran, in milliseconds"),
];

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyText(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Index into [`REPLY_FACTS`].
    Fact(usize),
}

/// Why a text is no template, and the bytes of it that are meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadReplyText {
    /// What is wrong.
    pub problem: String,
    /// First byte.
    pub at: usize,
    /// How many bytes.
    pub length: usize,
}

impl ReplyText {
    /// Reads `template`.
    pub fn parse(template: &str) -> Result<Self, BadReplyText> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = template[at..].find("{{").map(|found| at + found) {
            let Some(close) = template[open..].find("}}").map(|found| open + found) else {
                return Err(BadReplyText { problem: "`{{` without `}}`".into(), at: open, length: 2 });
            };
            let name = template[open + 2..close].trim();
            let Some(fact) = REPLY_FACTS.iter().position(|(known, _)| *known == name) else {
                let problem = format!("a reply has nothing called `{{{{{name}}}}}`");
                return Err(BadReplyText { problem, at: open, length: close + 2 - open });
            };
            parts.push(Part::Text(template[at..open].into()));
            parts.push(Part::Fact(fact));
            at = close + 2;
        }
        parts.push(Part::Text(template[at..].into()));
        Ok(Self(parts))
    }

    /// The names it uses, each of `REPLY_FACTS`.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Fact(fact) => REPLY_FACTS.get(*fact).map(|(name, _)| *name),
        })
    }

    /// The text with each name replaced by its value in `facts`, or by nothing.
    pub fn fill<V: fmt::Display>(&self, facts: &[(&str, V)]) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Fact(fact) => {
                    let name = REPLY_FACTS.get(*fact).map_or("", |(name, _)| *name);
                    if let Some((_, value)) = facts.iter().find(|(known, _)| *known == name) {
                        out.push_str(&value.to_string());
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills() {
        let template =
            ReplyText::parse("Return code: {{exit_code}}{{ signal }} ({{job.id}})\n").expect("good");
        assert_eq!(template.names().collect::<Vec<_>>(), ["exit_code", "signal", "job.id"]);
        let facts = [("exit_code", "3"), ("job.id", "{{stdout}}"), ("stdout", "x")];
        assert_eq!(
            template.fill(&facts),
            "Return code: 3 ({{stdout}})\n",
            "what is filled in is not read again"
        );
        assert_eq!(ReplyText::parse("").expect("empty").fill(&facts), "");
    }

    #[test]
    fn says_where_it_is_wrong() {
        let bad = |text| ReplyText::parse(text).map_err(|bad| (bad.at, bad.length));
        assert_eq!(bad("x {{exit_code"), Err((2, 2)));
        assert_eq!(bad("é {{code}}"), Err((3, 8)));
    }
}

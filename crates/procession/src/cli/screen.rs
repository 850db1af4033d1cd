//! Where answers and complaints are written: stdout and stderr, as terminals or not.
//!
//! All output of the verbs passes here, so that a reader who went away (`| head`) ends the
//! verb as [`Closed`], quietly, and is not taken for a broken connection.

use std::io::{self, IsTerminal, Write};

use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::{Answer, Failure};
use super::paint::Style;
use super::plain;
use super::table::Table;

/// Tables for people, or JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text.
    Table,
    /// The API's JSON, unchanged; lists as `{"items":[…]}`.
    Json,
}

/// The two streams of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    /// What answers look like.
    pub(super) format: Format,
    /// Whether somebody reads stdout.
    pub(super) terminal: bool,
    /// Whether somebody reads stderr.
    pub(super) stderr_terminal: bool,
    colour: bool,
    stderr_colour: bool,
}

/// Nobody reads stdout any more, or it cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output: {0}")]
pub(super) struct Closed(#[from] io::Error);

/// Whether `error` says only that the reader went away.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Closed>().is_some_and(|closed| closed.0.kind() == io::ErrorKind::BrokenPipe)
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let stderr_terminal = io::stderr().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let wanted = !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let (colour, stderr_colour) = (terminal && wanted, stderr_terminal && wanted);
        Screen { format, terminal, stderr_terminal, colour, stderr_colour }
    }

    /// Whether answers are for programs.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// `bytes` to stdout, as they are.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<(), Closed> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// A line to stdout.
    pub(super) fn line(&self, text: &str) -> Result<(), Closed> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// A table to stdout.
    pub(super) fn table(&self, table: &Table) -> Result<(), Closed> {
        let mut text = table.lines(self.colour).join("\n");
        text.push('\n');
        self.bytes(text.as_bytes())
    }

    /// `text` as stdout shows it.
    pub(super) fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.colour)
    }

    /// An answer to stdout, as the server wrote it.
    pub(super) fn json(&self, answer: &Answer) -> Result<(), Closed> {
        self.line(String::from_utf8_lossy(&answer.0).trim_end())
    }

    /// The answers about several things: the one alone, more as `{"items":[…]}`.
    pub(super) fn json_of(&self, answers: &[Answer], asked: usize) -> anyhow::Result<()> {
        match answers {
            [one] if asked == 1 => Ok(self.json(one)?),
            [] if asked == 1 => Ok(()),
            _ => {
                let read = |answer: &Answer| serde_json::from_slice(&answer.0).map_err(Failure::from);
                let items: Vec<Box<RawValue>> = answers.iter().map(read).collect::<Result<_, _>>()?;
                self.items(&items)
            }
        }
    }

    /// `{"items":[…]}` to stdout.
    pub(super) fn items(&self, items: &[Box<RawValue>]) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Items<'a> {
            items: &'a [Box<RawValue>],
        }
        Ok(self.line(&serde_json::to_string(&Items { items })?)?)
    }

    /// `bytes` to stderr, as they are. Nobody is told when that fails: where?
    pub(super) fn stderr(&self, bytes: &[u8]) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(bytes).and_then(|()| err.flush());
    }

    /// A line of ours to stderr.
    pub(super) fn say(&self, text: &str) {
        self.stderr(format!("{text}\n").as_bytes());
    }

    /// A line to stderr that is only of use to somebody who reads it now.
    pub(super) fn hint(&self, text: &str) {
        if self.terminal && self.stderr_terminal && !self.is_json() {
            self.say(&Style::Dim.paint(text, self.stderr_colour));
        }
    }

    /// What went wrong, to stderr: one line, then a line for each complaint; in JSON
    /// where the server's own words are.
    pub(super) fn complain(&self, error: &anyhow::Error) {
        if let Some(json) = refusal(error).filter(|_| self.is_json()) {
            return self.say(String::from_utf8_lossy(&json).trim_end());
        }
        let prefix = Style::Bad.paint("procession:", self.stderr_colour);
        let text = format!("{error:#}");
        let text = if self.stderr_terminal { plain::lines(&text) } else { text };
        self.say(&format!("{prefix} {text}"));
    }
}

fn refusal(error: &anyhow::Error) -> Option<Bytes> {
    match error.downcast_ref::<Failure>()? {
        Failure::Refused(refusal) if !refusal.json.is_empty() => Some(refusal.json.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_who_left_is_quiet() {
        let closed = |kind| anyhow::Error::from(Closed(io::Error::from(kind)));
        assert!(is_closed(&closed(io::ErrorKind::BrokenPipe)));
        assert!(!is_closed(&closed(io::ErrorKind::StorageFull)));
        assert!(!is_closed(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
    }
}

//! An event as the line of the log: one JSON object, `time`, `level`, `room`, `message`, then
//! the event's own fields. Values are cut where they are longer than anybody reads.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Bytes of one value.
const LONGEST: usize = 4096;

/// The line of an event.
pub(super) fn of(event: &Event<'_>, now: Timestamp) -> String {
    let mut words = Words::default();
    event.record(&mut words);
    let meta = event.metadata();
    finish(now, *meta.level(), &room(meta.target()), words)
}

/// The line that says how many lines there are not.
pub(super) fn of_loss(lines: u64, now: Timestamp) -> String {
    let mut words = Words {
        message: "lines of this log were lost: they could not be written".into(),
        ..Words::default()
    };
    words.add("lines", lines.into());
    finish(now, Level::WARN, "log", words)
}

/// When the line was written, if it is one of this log's.
pub(super) fn time_of(line: &[u8]) -> Option<Timestamp> {
    let rest = line.strip_prefix(b"{\"time\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// Where it was said, as the source has it: `scheduler/finish`, `store/sqlite/writer`.
fn room(target: &str) -> String {
    let inner = target.strip_prefix("procession::").or_else(|| target.strip_prefix("procession_"));
    inner.unwrap_or(target).replace("::", "/")
}

fn finish(now: Timestamp, level: Level, room: &str, words: Words) -> String {
    let level = level.as_str().to_ascii_lowercase();
    let Words { message, fields } = words;
    let (room, message) = (Value::from(room), Value::from(message));
    format!("{{\"time\":\"{now:.6}\",\"level\":\"{level}\",\"room\":{room},\"message\":{message}{fields}}}\n")
}

/// What an event holds.
#[derive(Default)]
struct Words {
    message: String,
    /// `,"name":value` for each.
    fields: String,
}

impl Words {
    fn add(&mut self, name: &str, value: Value) {
        // The first four keys are the log's own.
        let taken = matches!(name, "time" | "level" | "room" | "message");
        let name = if taken { format!("{name}_") } else { name.to_owned() };
        self.fields.push_str(&format!(",{}:{value}", Value::from(name)));
    }

    fn text(&mut self, field: &Field, text: String) {
        let text = cut(text);
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field.name(), text.into());
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_named_as_their_files_are() {
        for (target, expected) in [
            ("procession::scheduler::finish", "scheduler/finish"),
            ("procession_store::sqlite::writer", "store/sqlite/writer"),
            ("procession", "procession"),
        ] {
            assert_eq!(room(target), expected);
        }
    }

    #[test]
    fn a_line_is_json_whatever_is_in_it_and_its_time_is_found_again() {
        let now: Timestamp = "2026-11-26T10:57:25.5Z".parse().expect("a time");
        let mut words = Words { message: cut("\"\n\u{1b}é".repeat(3000)), ..Words::default() };
        words.add("time", "x".into());
        words.add("a\"b", 3.into());
        let line = finish(now, Level::INFO, "log", words);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            (&value["level"], &value["room"], &value["a\"b"]),
            (&"info".into(), &"log".into(), &3.into())
        );
        assert_eq!(value["time_"], "x");
        assert_eq!(value["time"], "2026-11-26T10:57:25.500000Z");
        assert!(value["message"].as_str().expect("text").len() <= LONGEST + 3);
        assert_eq!(time_of(line.as_bytes()), Some(now));
        assert_eq!(time_of(b"anything"), None);
    }

    #[test]
    fn a_loss_says_how_much() {
        let value: Value = serde_json::from_str(&of_loss(7, Timestamp::UNIX_EPOCH)).expect("JSON");
        assert_eq!((&value["lines"], &value["level"]), (&7.into(), &"warn".into()));
    }
}

//! Server-sent events, read from a stream that is cut anywhere.
//!
//! Only the format, as the HTML standard defines it; what the events mean and when to open
//! the stream again is `follow`'s.

/// One event. A dispatch without data is none, as the standard says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty where the stream names none.
    pub(super) name: String,
    /// All its data lines.
    pub(super) data: String,
}

/// Turns bytes into events and remembers the last id.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    returned: bool,
    event: Event,
    has_data: bool,
    /// What `Last-Event-ID` says when the stream is opened again.
    pub(super) last_id: Option<String>,
}

/// No event of ours comes near; a stream that sends more is not one of ours.
const LONGEST_LINE: usize = 16 << 20;

impl Parser {
    /// The events that `bytes` completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            // CR, LF and CRLF all end a line, and only once.
            let second = byte == b'\n' && std::mem::take(&mut self.returned);
            match byte {
                b'\n' if second => {}
                b'\n' | b'\r' => {
                    self.returned = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.returned = false;
                    if self.line.len() < LONGEST_LINE {
                        self.line.push(byte);
                    }
                }
            }
        }
        events
    }

    /// Forgets the event a lost connection left half: it comes again whole.
    pub(super) fn restart(&mut self) {
        *self = Parser { last_id: self.last_id.take(), ..Parser::default() };
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
            "id" => self.last_id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments (keep-alives), `retry`, and what later versions may add.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": keep-alive\n\nid: 7\nevent: state\ndata: {\"a\":1}\n\n\
                          event:output\r\ndata: x\r\ndata:y\r\nid:8\r\n\r\nretry: 10\n\ndata\n\n";

    fn expected() -> Vec<Event> {
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
        vec![event("state", "{\"a\":1}"), event("output", "x\ny"), event("", "")]
    }

    #[test]
    fn events_are_read_whatever_the_chunks() {
        let mut whole = Parser::default();
        assert_eq!(whole.push(STREAM.as_bytes()), expected());
        assert_eq!(whole.last_id.as_deref(), Some("8"));
        let mut bytewise = Parser::default();
        let events: Vec<Event> = STREAM.bytes().flat_map(|byte| bytewise.push(&[byte])).collect();
        assert_eq!(events, expected());
    }

    #[test]
    fn a_lost_connection_leaves_only_the_last_id() {
        let mut parser = Parser::default();
        parser.push(b"id: 3\nevent: state\ndata: half");
        parser.restart();
        assert_eq!(parser.last_id.as_deref(), Some("3"));
        assert_eq!(parser.push(b"data: new\n\n"), [Event { name: String::new(), data: "new".into() }]);
    }
}

//! Server-sent events.

use serde_json::Value;

use super::client::Client;
use super::connection::Connection;
use super::request::Request;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// A stream of them; ends when the server ends it.
#[derive(Debug)]
pub struct Events(Connection);

impl Events {
    /// The events of a job, after `last` where given.
    #[track_caller]
    pub fn of(client: &Client, job: &str, last: Option<&str>) -> Self {
        Self::open(client, &format!("/v1/jobs/{job}/events"), last)
    }

    /// The events at this target.
    #[track_caller]
    pub fn open(client: &Client, target: &str, last: Option<&str>) -> Self {
        let request = Request::get(target);
        let request = match last {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        };
        let mut connection = client.open(&request).expect("sent");
        let head = connection.head().expect("an answer");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self(connection)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event { name: String::new(), id: String::new(), data: Value::Null };
        while let Some(line) = self.0.line().expect("readable") {
            match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                Some(("event", value)) => event.name = value.into(),
                Some(("id", value)) => event.id = value.into(),
                Some(("data", value)) => event.data = serde_json::from_str(value).expect("JSON"),
                None if line.is_empty() && !event.name.is_empty() => return Some(event),
                // A comment that keeps the connection open.
                _ => {}
            }
        }
        None
    }
}

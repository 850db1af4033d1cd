//! A job's life as a stream of events, which can be cut off at any place and goes on there.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Event, Events, Request, Server};

const TASKS: &str = r#"
[task.steps]
command = ["sh", "-c", '''
echo one; echo warn >&2
printf '0.5 half\n' >> "$PROCESSION_PROGRESS"
while [ ! -e go ]; do sleep 0.02; done
echo two
seq 30000
exit 6
''']
[task.quick]
command = ["sh", "-c", "echo done"]
"#;

/// The bytes of a stream, put together from its events; panics where they leave a gap.
fn output(events: &[Event], stream: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events.iter().filter(|event| event.name == "output" && event.data["stream"] == stream) {
        assert_eq!(event.data["offset"], bytes.len(), "no gap and no repetition");
        bytes.extend(STANDARD.decode(event.data["data"].as_str().expect("base64")).expect("base64"));
    }
    bytes
}

fn states(events: &[Event]) -> Vec<&str> {
    let states = events.iter().filter(|event| event.name == "state");
    states.map(|event| event.data["state"].as_str().expect("a state")).collect()
}

fn expected() -> Vec<u8> {
    let numbers: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
    format!("one\ntwo\n{numbers}").into_bytes()
}

#[test]
fn states_progress_and_output_come_in_order_and_end_with_the_job() {
    let server = Server::start(TASKS);
    let id = server.submit("steps", Value::Null);
    let mut stream = Events::of(&server, &id, None);
    let mut events = Vec::new();
    // It goes on only once we have seen how far it is.
    loop {
        events.push(stream.next().expect("more"));
        if events.iter().any(|event| event.name == "progress") && output(&events, "stdout") == b"one\n" {
            break;
        }
    }
    fs::write(server.path().join("go"), "").expect("written");
    events.extend(stream);
    let progress: Vec<&Value> = events.iter().filter(|e| e.name == "progress").map(|e| &e.data).collect();
    assert_eq!(progress, [&json!({"fraction": 0.5, "message": "half"})]);
    assert_eq!(output(&events, "stdout"), expected());
    assert_eq!(output(&events, "stderr"), b"warn\n");
    let states = states(&events);
    assert_eq!(states.last(), Some(&"failed"));
    let order = ["queued", "running", "failed"];
    let places: Vec<usize> =
        states.iter().map(|state| order.iter().position(|o| o == state).expect("known")).collect();
    assert!(places.is_sorted() && places.contains(&1), "{states:?}");
    let last = events.last().expect("events");
    assert_eq!(
        (last.name.as_str(), &last.data["exit_code"]),
        ("state", &json!(6)),
        "the end is the last word"
    );
    assert!(events.iter().all(|event| !event.id.is_empty()));
}

#[test]
fn a_stream_cut_off_anywhere_goes_on_there() {
    let server = Server::start(TASKS);
    fs::write(server.path().join("go"), "").expect("written");
    let id = server.submit("steps", Value::Null);
    server.over(&id);
    let whole: Vec<Event> = Events::of(&server, &id, None).collect();
    for cut in 0..whole.len() {
        let rest = Events::of(&server, &id, Some(&whole[cut].id));
        let all: Vec<Event> = whole[..=cut].iter().cloned().chain(rest).collect();
        assert_eq!(
            (output(&all, "stdout"), output(&all, "stderr")),
            (expected(), b"warn\n".to_vec()),
            "{cut}"
        );
        assert_eq!(all.iter().filter(|event| event.name == "progress").count(), 1, "after event {cut}");
        assert_eq!(states(&all), ["failed"], "after event {cut}");
    }
}

#[test]
fn a_running_jobs_stream_can_be_resumed_again_and_again() {
    let server = Server::start(TASKS);
    let id = server.running("steps", Value::Null);
    let mut events: Vec<Event> = Vec::new();
    loop {
        // A new connection for each event.
        let last = events.last().map(|event| event.id.clone());
        if events.iter().any(|event| event.name == "progress") && output(&events, "stdout") == b"one\n" {
            fs::write(server.path().join("go"), "").expect("written");
        }
        match Events::of(&server, &id, last.as_deref()).next() {
            Some(event) => events.push(event),
            None => break,
        }
        if events.last().is_some_and(|event| event.data["exit_code"] == 6) {
            break;
        }
    }
    assert_eq!(output(&events, "stdout"), expected());
    assert_eq!(output(&events, "stderr"), b"warn\n");
    assert_eq!(states(&events).last(), Some(&"failed"));
}

#[test]
fn an_unreadable_last_event_id_begins_anew() {
    let server = Server::start(TASKS);
    let id = server.submit("quick", Value::Null);
    server.over(&id);
    for last in ["", "x", "1.2.3", "99999999999999999999.1.1.1.1"] {
        let events: Vec<Event> = Events::of(&server, &id, Some(last)).collect();
        assert_eq!(output(&events, "stdout"), b"done\n", "{last:?}");
    }
}

#[test]
fn every_jobs_states_can_be_watched_at_once() {
    let server = Server::start(TASKS);
    let mut stream = Events::open(&server, "/v1/events", None);
    let ids: Vec<String> = (0..3).map(|_| server.submit("quick", Value::Null)).collect();
    let mut over = Vec::new();
    while over.len() < ids.len() {
        let event = stream.next().expect("more");
        if event.name == "state" && event.data["state"] == "succeeded" {
            over.push(event.data["id"].as_str().expect("an id").to_owned());
        }
    }
    over.sort();
    assert_eq!(over, ids, "each is over once");
}

#[test]
fn events_of_no_job_are_404() {
    let server = Server::start(TASKS);
    let unknown = Request::get("/v1/jobs/01970000-0000-7000-8000-000000000000/events");
    assert_eq!(server.send(&unknown).problem(), (404, "unknown_job".into()));
}

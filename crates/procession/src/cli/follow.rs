//! A job's output, progress and states as they happen, until it is over.
//!
//! Reads `/v1/jobs/{id}/events`. When the connection drops it is opened again behind the
//! last event that was seen, so nothing is printed twice and nothing is left out.

use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{HeaderName, HeaderValue};
use procession_core::api::{Job, Progress};
use procession_core::id::JobId;
use procession_core::state::JobState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::client::{Call, Client, Failure, Reply};
use super::logs::{Stream, Writer};
use super::patience::Patience;
use super::progress_line::ProgressLine;
use super::screen::Screen;
use super::sse::{Event, Parser};
use super::words;

/// The server says something every 15 s; longer silence is a connection that is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// `output`'s data: bytes, or how many of them were not kept.
#[derive(Debug, Deserialize)]
struct Chunk {
    stream: String,
    data: String,
    dropped: Option<u64>,
}

/// Which of a job's output is shown, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Control sequences stay in.
    pub(super) raw: bool,
}

/// Writes all the job does to `screen` and returns it once it is over.
pub(super) async fn until_over(
    client: &Client,
    screen: &Screen,
    id: JobId,
    shown: Shown,
    mut patience: Patience,
) -> anyhow::Result<Job> {
    let mut parser = Parser::default();
    let mut view = View::new(screen, shown);
    loop {
        let failure = match open(client, id, &mut parser).await {
            Ok(mut reply) => {
                while let Some(events) = read(&mut reply, &mut parser).await {
                    patience.answered();
                    for event in &events {
                        // The server sends it last, behind all output.
                        if let Some(job) = view.show(event)? {
                            return Ok(job);
                        }
                    }
                }
                reply.broken("the stream of events ended before the job did")
            }
            Err(failure) => failure,
        };
        patience.bear(failure).await?;
    }
}

/// Opens the stream of events behind the last one that `parser` saw.
async fn open(client: &Client, id: JobId, parser: &mut Parser) -> Result<Reply, Failure> {
    parser.restart();
    let mut call = Call::get(format!("/v1/jobs/{id}/events"));
    if let Some(last) = parser.last_id.as_deref().and_then(|last| HeaderValue::from_str(last).ok()) {
        call = call.header(HeaderName::from_static("last-event-id"), last);
    }
    client.open(call).await
}

/// The next events; none once the stream has ended, broken, or been silent for too long.
async fn read(reply: &mut Reply, parser: &mut Parser) -> Option<Vec<Event>> {
    match timeout(SILENCE, reply.chunk()).await {
        Ok(Ok(Some(bytes))) => Some(parser.push(&bytes)),
        Ok(Ok(None) | Err(_)) | Err(_) => None,
    }
}

/// An event as a line of JSON.
fn as_json(event: &Event) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        event: &'a str,
        data: &'a RawValue,
    }
    let data: Box<RawValue> = read_json(&event.data)?;
    Ok(serde_json::to_string(&Line { event: &event.name, data: &data })?)
}

/// What has been shown of the job so far.
struct View<'a> {
    screen: &'a Screen,
    line: ProgressLine,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
}

impl<'a> View<'a> {
    fn new(screen: &'a Screen, shown: Shown) -> Self {
        let writer = |stream| Writer::new(screen, stream, shown.raw);
        View {
            screen,
            line: ProgressLine::new(*screen),
            stdout: shown.stdout.then(|| writer(Stream::Stdout)),
            stderr: shown.stderr.then(|| writer(Stream::Stderr)),
        }
    }

    /// Shows what happened; the job, if it is over by that.
    fn show(&mut self, event: &Event) -> anyhow::Result<Option<Job>> {
        let json = self.screen.is_json();
        if json {
            self.screen.line(&as_json(event)?)?;
        }
        match event.name.as_str() {
            "state" => {
                let job: Job = read_json(&event.data)?;
                if !json {
                    self.state(&job);
                }
                return Ok(Some(job).filter(|job| job.state.is_final()));
            }
            "progress" if !json => self.line.show(&words::progress(&read_json::<Progress>(&event.data)?)),
            "output" if !json => self.output(&read_json(&event.data)?)?,
            // What later versions may add.
            _ => {}
        }
        Ok(None)
    }

    /// That a job runs is seen by what it does; that it waits is not.
    fn state(&mut self, job: &Job) {
        if job.state == JobState::Running || job.state.is_final() {
            self.line.clear();
        } else {
            self.line.show(job.state.name());
        }
    }

    fn output(&mut self, chunk: &Chunk) -> anyhow::Result<()> {
        let writer = if chunk.stream == "stderr" { &mut self.stderr } else { &mut self.stdout };
        let Some(writer) = writer else { return Ok(()) };
        let bytes = match chunk.dropped {
            Some(dropped) => format!("\n[procession: {dropped} bytes dropped]\n").into_bytes(),
            None => BASE64_STANDARD.decode(&chunk.data).context("the server's answer is not understood")?,
        };
        self.line.hide();
        writer.write(self.screen, &bytes)?;
        self.line.after(&bytes);
        Ok(())
    }
}

fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_of_json() {
        let event = Event { name: "progress".into(), data: r#"{"fraction":0.4,"message":"x"}"#.into() };
        let line = r#"{"event":"progress","data":{"fraction":0.4,"message":"x"}}"#;
        assert_eq!(as_json(&event).expect("JSON"), line);
    }
}

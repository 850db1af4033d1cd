//! `GET /v1/jobs/{id}/events`: what happens to a job, as server-sent events: `state` (the
//! Job), `progress`, `output` (base64, with stream and offset). The id of an event is the
//! whole position, so `Last-Event-ID` goes on exactly where a client was cut off.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, Stream as Events};
use procession_core::api::{Job, Progress};
use procession_core::id::JobId;
use procession_core::state::JobState;
use serde_json::json;

use super::output::LOOK;
use super::problem::Answer;
use super::{Context, job_id};
use crate::board::Watcher;
use crate::data::Stream;
use crate::tail::Found;

/// A comment is sent this often, so that nothing between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows one job until it is over.
pub async fn job(State(context): State<Context>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let id = job_id(&id)?;
    context.record(id).await?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let position = last.and_then(|text| text.parse().ok()).unwrap_or_default();
    let follower = Follower {
        watcher: context.board.watch(id),
        context,
        id,
        position,
        ready: VecDeque::new(),
        over: false,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(follower)).keep_alive(keep_alive).into_response())
}

/// How far a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Position {
    /// The last state it was told: attempt and place in [`JobState::ALL`], from 1.
    state: (u32, usize),
    stdout: u64,
    stderr: u64,
    /// The last fraction it was told, in millionths, plus 1.
    progress: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}.{}", self.state.0, self.state.1, self.stdout, self.stderr, self.progress)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|number| number.parse::<u64>().map_err(|_| ()));
        let mut next = || numbers.next().unwrap_or(Err(()));
        Ok(Self {
            state: (next()? as u32, next()? as usize),
            stdout: next()?,
            stderr: next()?,
            progress: next()? as u32,
        })
    }
}

struct Follower {
    context: Context,
    id: JobId,
    watcher: Watcher,
    position: Position,
    ready: VecDeque<Event>,
    over: bool,
}

fn events(follower: Follower) -> impl Events<Item = Result<Event, Infallible>> {
    stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(event) = follower.ready.pop_front() {
                return Some((Ok(event), follower));
            }
            if follower.over || follower.look().await.is_err() {
                return None;
            }
            if follower.ready.is_empty() && !follower.over {
                tokio::select! {
                    () = follower.watcher.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                    // Its client goes on at the next server, behind the last event.
                    () = follower.context.handover.released() => return None,
                    () = follower.context.background.stopping().cancelled() => return None,
                }
            }
        }
    })
}

impl Follower {
    /// Makes events of what is new: output comes before the state that ends it.
    async fn look(&mut self) -> Answer<()> {
        let job = self.context.job(self.id).await?;
        if job.attempt != self.position.state.0 {
            // Another attempt writes from its own beginning.
            self.position = Position { state: (job.attempt, 0), ..Position::default() };
        }
        if !job.state.is_final() {
            self.state(&job);
        }
        self.progress(job.progress.as_ref());
        let more = self.output(Stream::Stdout).await? | self.output(Stream::Stderr).await?;
        if job.state.is_final() && !more {
            self.state(&job);
            self.over = true;
        }
        Ok(())
    }

    fn state(&mut self, job: &Job) {
        let place = JobState::ALL.iter().position(|state| *state == job.state).map_or(0, |n| n + 1);
        if self.position.state != (job.attempt, place) {
            self.position.state = (job.attempt, place);
            self.push("state", &serde_json::to_string(job).unwrap_or_default());
        }
    }

    fn progress(&mut self, progress: Option<&Progress>) {
        let Some(progress) = progress else { return };
        let told = (progress.fraction * 1e6) as u32 + 1;
        if self.position.progress != told {
            self.position.progress = told;
            self.push("progress", &serde_json::to_string(progress).unwrap_or_default());
        }
    }

    /// At most one chunk of a stream; whether there may be more.
    async fn output(&mut self, stream: Stream) -> Answer<bool> {
        let tail = self.context.tail(self.id, None, stream).await?;
        let offset = *self.place(stream);
        let read = self.context.background.blocking(move || tail.read(offset)).await;
        match read.map_err(super::Failure::internal)? {
            Found::End => Ok(false),
            Found::Dropped(len) => {
                *self.place(stream) += len;
                let data = json!({"stream": stream.name(), "offset": offset, "dropped": len, "data": ""});
                self.push("output", &data.to_string());
                Ok(true)
            }
            Found::Bytes(bytes) => {
                *self.place(stream) += bytes.len() as u64;
                let data = json!({"stream": stream.name(), "offset": offset, "data": STANDARD.encode(bytes)});
                self.push("output", &data.to_string());
                Ok(true)
            }
        }
    }

    fn place(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::Stdout => &mut self.position.stdout,
            Stream::Stderr => &mut self.position.stderr,
        }
    }

    fn push(&mut self, name: &str, data: &str) {
        let event = Event::default().event(name).id(self.position.to_string()).data(data);
        self.ready.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_round_trips() {
        let position = Position { state: (1, 3), stdout: 1 << 40, stderr: 7, progress: 400_001 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "1", "1.2.3.4", "a.b.c.d.e"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}

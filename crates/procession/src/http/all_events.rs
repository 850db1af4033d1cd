//! `GET /v1/events`: every job's changes of state from now on, as server-sent events. A
//! client that is too slow is told how many it missed (`missed`); what it needs whole, it
//! asks of `/v1/jobs/{id}/events`.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream as Events};
use procession_core::id::JobId;
use procession_core::state::JobState;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Context;
use super::problem::Answer;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// As many ends as there can be news on their way.
const REMEMBERED: usize = 4096;

/// Follows all jobs until the client or the server goes.
pub async fn stream(State(context): State<Context>) -> Answer {
    let watcher =
        Watcher { news: context.board.watch_all(), context, told: HashMap::new(), over: VecDeque::new() };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(watcher)).keep_alive(keep_alive).into_response())
}

struct Watcher {
    context: Context,
    news: Receiver<JobId>,
    /// The last state told of each job that is not over, or in `over`.
    told: HashMap<JobId, (u32, JobState)>,
    /// Jobs whose end was told lately: news of their start may come after it, and is none.
    over: VecDeque<JobId>,
}

fn events(watcher: Watcher) -> impl Events<Item = Result<Event, Infallible>> {
    stream::unfold(watcher, |mut watcher| async move {
        loop {
            let context = watcher.context.clone();
            let news = tokio::select! {
                news = watcher.news.recv() => news,
                // The next server has all news from here on.
                () = context.handover.released() => return None,
                () = context.background.stopping().cancelled() => return None,
            };
            let event = match news {
                Ok(job) => watcher.state_of(job).await,
                Err(RecvError::Lagged(count)) => Some(named("missed", &json!({"count": count}).to_string())),
                Err(RecvError::Closed) => return None,
            };
            if let Some(event) = event {
                return Some((Ok(event), watcher));
            }
        }
    })
}

impl Watcher {
    /// The job, if its state is another than was told.
    async fn state_of(&mut self, id: JobId) -> Option<Event> {
        let job = self.context.job(id).await.ok()?;
        let now = (job.attempt, job.state);
        if self.told.insert(id, now) == Some(now) {
            return None;
        }
        if job.state.is_final() {
            self.over.push_back(id);
        }
        if self.over.len() > REMEMBERED
            && let Some(oldest) = self.over.pop_front()
        {
            self.told.remove(&oldest);
        }
        Some(named("state", &serde_json::to_string(&job).ok()?))
    }
}

fn named(name: &str, data: &str) -> Event {
    Event::default().event(name).data(data)
}

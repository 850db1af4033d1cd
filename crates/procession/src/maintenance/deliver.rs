//! Does what is to follow the ends of jobs: sends callbacks, submits the tasks of `then`. What is
//! due stands in the store, and what came of a try goes there, so that the server after this one
//! goes on with it; what was under way when this one ended is tried once more.
//!
//! Few at once, and fewer to one host: who is slow holds up nobody else.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use procession_core::api::Job;
use procession_core::delivery::{self, Answer, Next, retry_after};
use procession_core::id::TaskName;
use procession_core::job::What;
use procession_core::outbox::{Delivery, DeliveryId, Tried, host, shown};
use procession_core::target::{BadTarget, Target};
use procession_keeper::fault;
use procession_store::{Due, StoreError};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::callback::{Failure, Messenger, Post, Reach, Reply};
use crate::config::read_secret;
use crate::random;
use crate::scheduler::Scheduler;
use crate::submit::{Door, SubmitError};

/// Under way at once.
const MOST: usize = 16;

/// Of these, to one host.
const PER_HOST: usize = 4;

/// The longest between two looks: clocks are set.
const LOOK: Duration = Duration::from_secs(60);

/// After the store, or the server itself, could not.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until the server stops, or another one does this.
pub async fn deliver(scheduler: Arc<Scheduler>, door: Arc<Door>) {
    let messenger = Messenger::new(scheduler.background.clone());
    let courier = Courier { scheduler, door, messenger };
    let mut under_way = UnderWay::default();
    let mut tries: FuturesUnordered<BoxFuture<'_, DeliveryId>> = FuturesUnordered::new();
    let background = &courier.scheduler.background;
    while !background.is_put_down() {
        let look = match courier.due(&mut under_way).await {
            Ok((due, look)) => {
                tries.extend(
                    due.into_iter().map(|delivery| -> BoxFuture<'_, _> { Box::pin(courier.once(delivery)) }),
                );
                look
            }
            Err(error) => {
                tracing::error!(%error, "what follows ends of jobs cannot be read");
                AGAIN
            }
        };
        let at = Instant::now() + look;
        tokio::select! {
            Some(over) = tries.next(), if !tries.is_empty() => under_way.over(over),
            () = courier.scheduler.deliver.notified() => {}
            () = sleep_until(at) => {}
            () = background.put_down() => {}
        }
    }
}

/// What is being tried.
#[derive(Default)]
struct UnderWay {
    hosts: HashMap<DeliveryId, String>,
    /// The host served last.
    last: Option<String>,
}

impl UnderWay {
    /// Of what is due, what may begin now; notes that it does.
    fn begin(&mut self, due: Vec<Delivery>) -> Vec<Delivery> {
        let mut begun = Vec::new();
        for delivery in due {
            let host = host(&delivery.what);
            let busy = self.hosts.values().filter(|other| **other == host).count();
            if self.hosts.len() < MOST && busy < PER_HOST && !self.hosts.contains_key(&delivery.id) {
                self.hosts.insert(delivery.id, host.clone());
                self.last = Some(host);
                begun.push(delivery);
            }
        }
        begun
    }

    fn over(&mut self, delivery: DeliveryId) {
        self.hosts.remove(&delivery);
    }
}

/// Does it.
struct Courier {
    scheduler: Arc<Scheduler>,
    door: Arc<Door>,
    messenger: Messenger,
}

/// The body of a callback: the same at each try, as the job does not change any more.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Option<Timestamp>,
    data: &'a Job,
}

/// Nothing came of a try that would be worth recording: it is made again soon.
struct NotNow(String);

impl From<StoreError> for NotNow {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl Courier {
    /// What is due and may begin, and when to look again though nobody calls.
    async fn due(&self, under_way: &mut UnderWay) -> Result<(Vec<Delivery>, Duration), StoreError> {
        if under_way.hosts.len() >= MOST {
            return Ok((Vec::new(), LOOK));
        }
        let (now, store) = (Timestamp::now(), &self.scheduler.store);
        let ask = Due { now, after: under_way.last.clone(), per_host: PER_HOST, hosts: MOST };
        let due = store.take_deliveries(ask).await?;
        let next = store.next_delivery_due(now).await?;
        // Last: what is noted as begun and is not would never be over.
        let begun = under_way.begin(due);
        let until = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        Ok((begun, until.map_or(LOOK, |until| until.min(LOOK))))
    }

    /// One try, and its record.
    async fn once(&self, delivery: Delivery) -> DeliveryId {
        let id = delivery.id;
        let done = match &delivery.what {
            What::Callback { url, fixed } => self.call(&delivery, url, *fixed).await,
            What::Then(task) => self.follow(&delivery, task).await,
        };
        if let Err(NotNow(why)) = done {
            tracing::error!(delivery = %id, why, "what follows a job cannot be done yet");
            self.scheduler.background.goes_on_after(AGAIN).await;
        }
        id
    }

    /// Sends a callback.
    async fn call(&self, delivery: &Delivery, url: &str, fixed: bool) -> Result<(), NotNow> {
        let Some(job) = self.job(delivery).await? else { return Ok(()) };
        let event = Event { kind: "job.finished", timestamp: job.finished_at, data: &job };
        let body = serde_json::to_vec(&event).expect("plain data becomes JSON").into();
        let (answer, status, error) = match self.post(delivery, url, fixed, body).await {
            Ok(post) => {
                fault::point("deliver.before_send");
                let sent = self.messenger.post(post).await;
                fault::point("deliver.before_ack");
                judge(sent)
            }
            Err(Unready(why)) => (Answer::None, None, Some(why)),
        };
        self.decide(delivery, &answer, status, error).await;
        Ok(())
    }

    /// What is sent, signed with what the secret's file holds now.
    async fn post(&self, delivery: &Delivery, url: &str, fixed: bool, body: Bytes) -> Result<Post, Unready> {
        let target: Target = url.parse().map_err(|bad: BadTarget| Unready(bad.to_string()))?;
        let task = self.scheduler.tasks.get(&delivery.task);
        let Some(callback) = task.and_then(|task| task.callback.as_ref()) else {
            let task = &delivery.task;
            return Err(Unready(format!("the config names no callback for the task `{task}` any more")));
        };
        if !fixed {
            // The list may have changed since the job was taken.
            callback.judge(&target).map_err(|bad| Unready(bad.to_string()))?;
        }
        let (id, timestamp) = (format!("msg_{}", delivery.id), Timestamp::now().as_second());
        let signature = match callback.secret_file.clone() {
            None => None,
            Some(file) => Some(self.sign(file, &id, timestamp, &body).await?),
        };
        let reach = if fixed { Reach::Anywhere } else { Reach::Public };
        Ok(Post { target, reach, id, timestamp, signature, body })
    }

    async fn sign(&self, file: PathBuf, id: &str, timestamp: i64, body: &[u8]) -> Result<String, Unready> {
        let shown = file.display().to_string();
        let secret = self.scheduler.background.blocking(move || read_secret(&file)).await;
        let secret = secret.map_err(|error| Unready(format!("no secret in {shown}: {error}")))?;
        Ok(secret.sign(id, timestamp, body))
    }

    /// Submits the task that follows.
    async fn follow(&self, delivery: &Delivery, name: &TaskName) -> Result<(), NotNow> {
        let Some(task) = self.scheduler.tasks.get(name) else {
            let why = format!("the config has no task `{name}` any more");
            self.decide(delivery, &Answer::None, None, Some(why)).await;
            return Ok(());
        };
        let Some(job) = self.job(delivery).await? else { return Ok(()) };
        let body = serde_json::to_vec(&job).expect("plain data becomes JSON").into();
        match self.door.follow(delivery, task, body).await {
            Ok(followed) => {
                tracing::debug!(delivery = %delivery.id, job = ?followed, "a task follows");
                Ok(())
            }
            // The store gave it up itself.
            Err(SubmitError::Conflict(_) | SubmitError::Busy { .. }) => Ok(()),
            Err(error @ (SubmitError::Json(_) | SubmitError::Rejected(_))) => {
                self.give_up(delivery, reason(&error)).await;
                Ok(())
            }
            // The next server submits it.
            Err(SubmitError::Draining) => {
                self.scheduler.background.goes_on_after(AGAIN).await;
                Ok(())
            }
            Err(error @ (SubmitError::Store(_) | SubmitError::Body(_))) => Err(NotNow(error.to_string())),
        }
    }

    /// Records a try by what core makes of it.
    async fn decide(&self, delivery: &Delivery, answer: &Answer, status: Option<u16>, error: Option<String>) {
        let at = Timestamp::now();
        let age = Duration::try_from(at.duration_since(delivery.since())).unwrap_or_default();
        let salt = u64::from_be_bytes(random::bytes());
        let next = delivery::after(delivery.tries.saturating_add(1), answer, age, salt);
        self.record(delivery, Tried { next, at, status, error }).await;
    }

    async fn give_up(&self, delivery: &Delivery, why: String) {
        let tried = Tried { next: Next::GivenUp, at: Timestamp::now(), status: None, error: Some(why) };
        self.record(delivery, tried).await;
    }

    /// The job that ended; `None`: it was removed, and what was to follow with it.
    async fn job(&self, delivery: &Delivery) -> Result<Option<Job>, StoreError> {
        Ok(self.scheduler.store.get(delivery.id.job).await?.map(Job::of))
    }

    async fn record(&self, delivery: &Delivery, tried: Tried) {
        let (id, target) = (delivery.id, show(&delivery.what));
        let error = tried.error.as_deref();
        match tried.next {
            Next::Delivered => tracing::debug!(delivery = %id, target, "a callback arrived"),
            Next::Again(wait) => {
                tracing::info!(delivery = %id, target, error, ?wait, "a callback waits for another try")
            }
            Next::Gone => tracing::warn!(delivery = %id, target, "the receiver wants no more callbacks"),
            Next::GivenUp => tracing::warn!(delivery = %id, target, error, "what follows a job was given up"),
        }
        let write = || self.scheduler.store.ack_delivery(delivery, tried.clone());
        // Else another server does it again.
        let _ = self.scheduler.until_stored(write).await;
    }
}

/// A callback cannot be sent, until somebody mends this.
struct Unready(String);

/// What came back, for the decision and for people.
fn judge(sent: Result<Reply, Failure>) -> (Answer, Option<u16>, Option<String>) {
    match sent {
        Ok(Reply { status, retry_after: asked }) => {
            let asked = asked.and_then(|text| retry_after(&text, Timestamp::now()));
            let why = match status {
                200..=299 => None,
                300..=399 => Some(format!("the receiver answered {status}: redirects are not followed")),
                _ => Some(format!("the receiver answered {status}")),
            };
            (Answer::Status { code: status, retry_after: asked }, Some(status), why)
        }
        Err(failure @ Failure::Forbidden { .. }) => (Answer::Forbidden, None, Some(failure.to_string())),
        Err(failure) => (Answer::None, None, Some(failure.to_string())),
    }
}

/// Without what a URL may keep secret.
fn show(what: &What) -> String {
    match what {
        What::Then(task) => task.to_string(),
        What::Callback { url, .. } => shown(url),
    }
}

/// With the places in the body, where there are some.
fn reason(error: &SubmitError) -> String {
    use procession_core::validate::Rejection::{Argument, Payload};
    let mut text = error.to_string();
    if let SubmitError::Rejected(Payload(complaints) | Argument(complaints)) = error {
        for complaint in complaints.iter().take(3) {
            text.push_str(&format!("; {}: {}", complaint.pointer, complaint.detail));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use procession_core::id::JobId;

    use super::*;

    fn delivery(n: u8, host: &str) -> Delivery {
        let id = DeliveryId { job: JobId::from_bytes([n; 16]), ordinal: 0 };
        Delivery::for_testing(id, What::Callback { url: format!("http://{host}/"), fixed: true })
    }

    #[test]
    fn f37_a_slow_host_takes_few_places_and_none_twice() {
        let mut under_way = UnderWay::default();
        let slow: Vec<Delivery> = (0..10).map(|n| delivery(n, "slow")).collect();
        assert_eq!(under_way.begin(slow.clone()).len(), PER_HOST);
        assert_eq!(under_way.begin(slow.clone()).len(), 0, "they are under way");
        let others: Vec<Delivery> = (10..40).map(|n| delivery(n, &format!("h{n}"))).collect();
        assert_eq!(under_way.begin(others).len(), MOST - PER_HOST);
        assert_eq!(under_way.last.as_deref(), Some("h21"));
        under_way.over(slow[1].id);
        let next = under_way.begin(slow);
        assert_eq!(
            next.iter().map(|one| one.id.job.as_bytes()[0]).collect::<Vec<_>>(),
            [1],
            "it is due again"
        );
    }
}

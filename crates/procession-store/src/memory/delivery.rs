//! What is to follow the ends of jobs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use procession_core::delivery::Next;
use procession_core::id::{JobId, TaskName};
use procession_core::job::{FollowUp, NewJob, What};
use procession_core::outbox::{
    Delivery, DeliveryId, DeliveryState, FULL, MOST_PENDING, REMEMBERED, Tried, WANTS_NO_MORE, host,
};
use procession_core::outcome::Outcome;

use super::queue::Queue;
use super::submit;
use crate::error::StoreError;
use crate::store::{Applied, DeliveryQuery, Due, Submitted};

/// All deliveries, in the order they were written, and who wants no more of them.
#[derive(Default)]
pub(super) struct Outbox {
    all: Vec<Delivery>,
    gone: BTreeMap<String, Timestamp>,
}

impl Outbox {
    /// Writes what this end brings about; whether that is anything.
    pub(super) fn write(
        &mut self,
        (job, task): (JobId, &TaskName),
        follow_ups: &[FollowUp],
        outcome: &Outcome,
        at: Timestamp,
    ) -> bool {
        let mut any = false;
        let mut pending = self.pending().count() as u64;
        for (ordinal, FollowUp { on, what }) in (0..).zip(follow_ups) {
            if !on.iter().any(|condition| condition.matches(outcome)) {
                continue;
            }
            let (state, error) = self.first_state(what, pending);
            pending += u64::from(state == DeliveryState::Pending);
            self.all.push(Delivery {
                id: DeliveryId { job, ordinal },
                number: self.all.last().map_or(1, |last| last.number + 1),
                task: task.clone(),
                what: what.clone(),
                state,
                tries: 0,
                created_at: at,
                repeated_at: None,
                due_at: at,
                status: None,
                error: error.map(str::to_owned),
                followed_by: None,
            });
            any = true;
        }
        any
    }

    fn first_state(&self, what: &What, pending: u64) -> (DeliveryState, Option<&'static str>) {
        match what {
            What::Callback { url, .. } if self.gone.contains_key(url) => {
                (DeliveryState::Gone, Some(WANTS_NO_MORE))
            }
            _ if pending >= MOST_PENDING => (DeliveryState::GivenUp, Some(FULL)),
            _ => (DeliveryState::Pending, None),
        }
    }

    fn pending(&self) -> impl Iterator<Item = &Delivery> {
        self.all.iter().filter(|one| one.state == DeliveryState::Pending)
    }

    /// Whether something that is to follow the end of a job is on its way.
    pub(super) fn awaits(&self, job: JobId) -> bool {
        self.pending().any(|one| one.id.job == job)
    }

    /// Those of a job go with it.
    pub(super) fn remove(&mut self, job: JobId) {
        self.all.retain(|one| one.id.job != job);
    }

    fn find(&mut self, id: DeliveryId) -> Option<&mut Delivery> {
        self.all.iter_mut().find(|one| one.id == id)
    }

    /// Writes what came of a try. `false`: it is not this delivery's last.
    fn mark(&mut self, taken: &Delivery, tried: &Tried) -> bool {
        let same = |one: &&mut Delivery| {
            one.state == DeliveryState::Pending && (one.tries, one.since()) == (taken.tries, taken.since())
        };
        let Some(one) = self.find(taken.id).filter(same) else { return false };
        one.state = match tried.next {
            Next::Delivered => DeliveryState::Delivered,
            Next::Again(wait) => {
                one.due_at = tried.at.checked_add(wait).unwrap_or(Timestamp::MAX);
                DeliveryState::Pending
            }
            Next::Gone => DeliveryState::Gone,
            Next::GivenUp => DeliveryState::GivenUp,
        };
        one.tries += 1;
        (one.status, one.error) = (tried.status, tried.error.clone());
        true
    }
}

pub(super) fn take(queue: &Queue, ask: &Due) -> Vec<Delivery> {
    let due = || queue.outbox.pending().filter(|one| one.due_at <= ask.now);
    let hosts: BTreeSet<String> = due().map(|one| host(&one.what)).collect();
    let last = ask.after.clone().unwrap_or_default();
    let (before, behind): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| *host <= last);
    let mut found = Vec::new();
    for turn in behind.into_iter().chain(before).take(ask.hosts) {
        let mut of_host: Vec<&Delivery> = due().filter(|one| host(&one.what) == turn).collect();
        of_host.sort_by_key(|one| (one.due_at, one.number));
        found.extend(of_host.into_iter().take(ask.per_host).cloned());
    }
    found
}

pub(super) fn next_due(queue: &Queue, after: Timestamp) -> Option<Timestamp> {
    queue.outbox.pending().map(|one| one.due_at).filter(|due| *due > after).min()
}

pub(super) fn ack(queue: &mut Queue, delivery: &Delivery, tried: Tried) -> Applied {
    let outbox = &mut queue.outbox;
    if !outbox.mark(delivery, &tried) {
        return Applied::Stale;
    }
    if let What::Callback { url, .. } = &delivery.what {
        match tried.next {
            Next::Delivered => drop(outbox.gone.remove(url)),
            Next::Gone => {
                let forgotten = tried.at.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
                outbox.gone.retain(|_, since| *since >= forgotten);
                outbox.gone.entry(url.clone()).or_insert(tried.at);
                let others = outbox.all.iter_mut().filter(|one| one.state == DeliveryState::Pending);
                let same = others
                    .filter(|one| matches!(&one.what, What::Callback { url: other, .. } if other == url));
                for other in same {
                    other.state = DeliveryState::Gone;
                    other.error = Some(WANTS_NO_MORE.into());
                }
            }
            Next::Again(_) | Next::GivenUp => {}
        }
    }
    Applied::Applied
}

pub(super) fn follow(
    queue: &mut Queue,
    delivery: &Delivery,
    job: NewJob,
    at: Timestamp,
) -> Result<Option<Submitted>, StoreError> {
    let arrived = Tried { next: Next::Delivered, at, status: None, error: None };
    if !queue.outbox.mark(delivery, &arrived) {
        return Ok(None);
    }
    let id = job.id;
    let submitted = submit::submit(queue, job)?;
    if let Some(one) = queue.outbox.find(delivery.id) {
        one.followed_by = submitted.job(id).or(one.followed_by);
        if let Some(why) = submitted.refusal() {
            (one.state, one.error) = (DeliveryState::GivenUp, Some(why));
        }
    }
    Ok(Some(submitted))
}

pub(super) fn repeat(queue: &mut Queue, delivery: DeliveryId, at: Timestamp) -> bool {
    let Some(one) = queue.outbox.find(delivery) else { return false };
    (one.state, one.tries, one.due_at, one.repeated_at) = (DeliveryState::Pending, 0, at, Some(at));
    true
}

pub(super) fn one(queue: &Queue, delivery: DeliveryId) -> Option<Delivery> {
    queue.outbox.all.iter().find(|one| one.id == delivery).cloned()
}

pub(super) fn list(queue: &Queue, query: &DeliveryQuery) -> Vec<Delivery> {
    let wanted = |one: &&Delivery| {
        query.job.is_none_or(|job| one.id.job == job)
            && (query.states.is_empty() || query.states.contains(&one.state))
            && query.before.is_none_or(|before| one.number < before)
    };
    queue.outbox.all.iter().rev().filter(wanted).take(query.limit).cloned().collect()
}

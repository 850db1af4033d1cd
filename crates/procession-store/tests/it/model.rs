//! Random sequences of verbs on SQLite and on the model: every answer and everything that
//! can be seen afterwards has to be the same.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use procession_core::condition::Condition;
use procession_core::delivery::Next;
use procession_core::family::OnFailure;
use procession_core::id::{ClaimId, JobId};
use procession_core::job::{
    Admission, Family, FamilyEnd, Finished, FollowUp, Lease, NewJob, OnDuplicate, ResultSummary, Then,
    Unique, What,
};
use procession_core::limits::{Limit, TaskLimits};
use procession_core::outbox::{Delivery, DeliveryId, Tried};
use procession_core::outcome::{CancelledBy, LostReason, Outcome};
use procession_core::record::Containment;
use procession_store::{Claim, DeliveryQuery, Due, Query};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixture::*;

const TASKS: [&str; 3] = ["a", "b", "c"];

/// A verb; jobs and leases are named by how many came before them.
#[derive(Clone, Debug)]
enum Verb {
    Submit {
        task: usize,
        max_running: u64,
        max_queued: u64,
        priority: i32,
        run_in: i64,
        expires_in: i64,
        key: u8,
        kin: Kinds,
    },
    SubmitAgain(usize),
    Claim {
        free: usize,
        limits: [Option<u64>; 3],
        per_lane: u64,
    },
    Started(usize),
    Finish(usize, u8, Option<i64>),
    Gather(usize),
    Release(usize, Option<i64>),
    Cancel(usize),
    Expire,
    /// Which of what is due, what came of it, and whether the answer was lost and it is said again.
    Deliver(usize, u8, bool),
    Repeat(usize),
    Pause(usize, bool),
    Delete(usize),
    Prune {
        age: i64,
        most: usize,
    },
    Wait(i64),
}

/// What a submission has beside the usual, by what the numbers pick.
#[derive(Clone, Debug)]
struct Kinds {
    /// 0 to 2: a lane; 3 and more: none.
    lane: u8,
    /// 0 to 1: a unique value; more: none. And what a second one means.
    unique: u8,
    on_duplicate: OnDuplicate,
    rate: bool,
    follows: bool,
    /// Children of its own: none of a job that is no family, and how many of these are families.
    children: Option<(usize, usize)>,
    stops: bool,
    joins: bool,
    /// Children at once; 0: no limit.
    width: u64,
    timeout: u64,
}

fn kinds() -> impl Strategy<Value = Kinds> {
    let duplicate = prop_oneof![
        Just(OnDuplicate::Return),
        Just(OnDuplicate::ReplaceQueued),
        Just(OnDuplicate::CancelRunning)
    ];
    let family = (proptest::option::weighted(0.4, (0..4usize, 0..2usize)), any::<bool>(), any::<bool>());
    (0..6u8, 0..6u8, duplicate, proptest::bool::weighted(0.2), any::<bool>(), family, 0..3u64, 0..12u64)
        .prop_map(|(lane, unique, on_duplicate, rate, follows, (children, stops, joins), width, timeout)| {
            Kinds { lane, unique, on_duplicate, rate, follows, children, stops, joins, width, timeout }
        })
}

fn verb() -> impl Strategy<Value = Verb> {
    let submit = (0..3usize, 0..4u64, 0..6u64, -1..2i32, -2..6i64, -4..9i64, 0..12u8, kinds()).prop_map(
        |(task, max_running, max_queued, priority, run_in, expires_in, key, kin)| Verb::Submit {
            task,
            max_running,
            max_queued,
            priority,
            run_in,
            expires_in,
            key,
            kin,
        },
    );
    let limit = || proptest::option::weighted(0.8, 0..4u64);
    let claim = (0..5usize, [limit(), limit(), limit()], 0..3u64)
        .prop_map(|(free, limits, per_lane)| Verb::Claim { free, limits, per_lane });
    let again = || proptest::option::weighted(0.3, -1..4i64);
    prop_oneof![
        8 => submit,
        1 => any::<prop::sample::Index>().prop_map(|i| Verb::SubmitAgain(i.index(1 << 16))),
        5 => claim,
        2 => (0..1usize << 16).prop_map(Verb::Started),
        6 => (0..1usize << 16, 0..5u8, again()).prop_map(|(lease, how, at)| Verb::Finish(lease, how, at)),
        2 => (0..1usize << 16).prop_map(Verb::Gather),
        2 => (0..1usize << 16, proptest::option::of(-1..5i64)).prop_map(|(lease, at)| Verb::Release(lease, at)),
        2 => (0..1usize << 16).prop_map(Verb::Cancel),
        1 => Just(Verb::Expire),
        5 => (0..1usize << 16, 0..9u8, any::<bool>()).prop_map(|(n, how, again)| Verb::Deliver(n, how, again)),
        1 => (0..1usize << 16).prop_map(Verb::Repeat),
        1 => (0..4usize, any::<bool>()).prop_map(|(task, paused)| Verb::Pause(task, paused)),
        1 => (0..1usize << 16).prop_map(Verb::Delete),
        1 => (0..9i64, 0..3usize).prop_map(|(age, most)| Verb::Prune { age, most }),
        3 => (1..4i64).prop_map(Verb::Wait),
    ]
}

/// Both stores, and what was made so far.
struct Pair {
    real: Fixture,
    model: Fixture,
    now: i64,
    jobs: Vec<NewJob>,
    leases: Vec<Lease>,
}

/// Asks both stores the same and compares.
macro_rules! both {
    ($pair:expr, $verb:ident($($argument:expr),*)) => {{
        let real = $pair.real.store.$verb($($argument),*).await;
        let model = $pair.model.store.$verb($($argument),*).await;
        assert_eq!(real, model, "{}", stringify!($verb));
        real.expect("no error")
    }};
}

impl Pair {
    fn job(&self, n: usize) -> JobId {
        self.jobs.get(n % self.jobs.len().max(1)).map_or_else(|| id(0), |job| job.id)
    }

    fn lease(&self, n: usize) -> Option<Lease> {
        self.leases.get(n % self.leases.len().max(1)).copied()
    }

    async fn run(&mut self, verb: Verb) {
        let now = at(self.now);
        match verb {
            Verb::Submit { .. } => {
                let job = self.make(verb);
                both!(self, submit(job.clone()));
                self.jobs.push(job);
            }
            Verb::SubmitAgain(n) if !self.jobs.is_empty() => {
                both!(self, submit(self.jobs[n % self.jobs.len()].clone()));
            }
            Verb::SubmitAgain(_) => {}
            Verb::Claim { free, limits, per_lane } => {
                let claim = self.ask(free, limits, per_lane);
                let batch = both!(self, claim(claim.clone()));
                self.leases.extend(batch.jobs.into_iter().map(|job| job.lease));
            }
            Verb::Gather(n) => {
                let due = both!(self, to_gather(8));
                let job = due.get(n % due.len().max(1)).copied().unwrap_or_else(|| self.job(n));
                let result = ResultSummary::Inline { json: true, bytes: Bytes::from_static(b"[]") };
                both!(self, gather(FamilyEnd { job, result: result.clone(), bad_result: None, at: now }));
            }
            Verb::Cancel(n) => drop(both!(self, cancel(self.job(n), CancelledBy::Client, now))),
            Verb::Expire => drop(both!(self, expire(now))),
            Verb::Deliver(n, how, again) => {
                let after = (how % 2 == 0).then(|| "b.example".to_owned());
                let (per_host, hosts) = (1 + n % 2, 1 + n % 3);
                let due = both!(self, take_deliveries(Due { now, after: after.clone(), per_host, hosts }));
                for _ in 0..=usize::from(again) {
                    if let Some(delivery) = due.get(n % due.len().max(1)) {
                        self.deliver(delivery, how).await;
                    }
                }
            }
            Verb::Repeat(n) => {
                let all = both!(self, deliveries(every_delivery()));
                let id = all.get(n % all.len().max(1)).map(|one| one.id);
                let id = id.unwrap_or(DeliveryId { job: self.job(n), ordinal: 7 });
                both!(self, repeat_delivery(id, now));
            }
            Verb::Pause(n, paused) => drop(both!(self, pause(&task(["a", "b", "c", "d"][n]), paused))),
            Verb::Delete(n) => drop(both!(self, delete(self.job(n)))),
            Verb::Prune { age, most } => drop(both!(self, prune(at(self.now - age), most))),
            Verb::Wait(seconds) => self.now += seconds,
            Verb::Started(n) | Verb::Finish(n, ..) | Verb::Release(n, _) => {
                if let Some(lease) = self.lease(n) {
                    self.fenced(verb, lease).await;
                }
            }
        }
    }

    async fn deliver(&self, delivery: &Delivery, how: u8) {
        if let (What::Then(task), 0..6) = (&delivery.what, how) {
            let job = NewJob {
                id: delivery.following_job(),
                task: task.clone(),
                idempotency: (how == 0).then(|| key("then", how)).flatten(),
                ..job("c", self.now)
            };
            both!(self, follow(delivery, job.clone(), at(self.now)));
            return;
        }
        let (next, status) = match how {
            0..3 => (Next::Delivered, Some(204)),
            3..6 => (Next::Again(Duration::from_secs(u64::from(how) - 3)), Some(500)),
            6 => (Next::Gone, Some(410)),
            _ => (Next::GivenUp, None),
        };
        let error = status.is_none().then(|| "no answer".to_owned());
        let tried = Tried { next, at: at(self.now), status, error };
        both!(self, ack_delivery(delivery, tried.clone()));
    }

    async fn fenced(&self, verb: Verb, lease: Lease) {
        match verb {
            Verb::Finish(_, how, again) => {
                let then = match again {
                    Some(after) => {
                        Then::Retry { at: at(self.now + after), expires_at: Some(at(self.now + 5)) }
                    }
                    None => Then::End,
                };
                let outcome = match how {
                    0 => Outcome::Exited { code: 0 },
                    1 => Outcome::Exited { code: 1 },
                    2 => Outcome::cancelled(CancelledBy::Client),
                    3 => Outcome::cancelled(CancelledBy::Parent),
                    _ => Outcome::Lost { reason: LostReason::Reboot },
                };
                both!(self, finish(Finished { then, ..ended(lease, outcome.clone(), self.now) }));
            }
            Verb::Release(_, after) => {
                both!(self, release(lease, after.map(|after| at(self.now + after))));
            }
            _ => {
                both!(self, started(lease, at(self.now), Containment::Monitor));
            }
        }
    }

    fn make(&self, verb: Verb) -> NewJob {
        let Verb::Submit { task, max_running, max_queued, priority, run_in, expires_in, key: text, kin } =
            verb
        else {
            unreachable!("only submissions are made")
        };
        let max_running = if max_running == 0 { Limit::Unlimited } else { Limit::AtMost(max_running) };
        let limits = TaskLimits { max_running, per_lane: Limit::Unlimited, max_queued };
        let rate = kin.rate.then(|| "2/m".parse().expect("a rate"));
        NewJob {
            admission: Some(Admission { limits, rate, node_slots: 4 }),
            labels: labels(&[("key", &(text % 3).to_string())]),
            priority,
            run_at: (run_in != 0).then(|| at(self.now + run_in)),
            expires_at: (expires_in > 0).then(|| at(self.now + expires_in)),
            idempotency: if text < 6 { key(&(text % 3).to_string(), text / 3) } else { None },
            unique: (kin.unique < 2)
                .then(|| Unique { value: kin.unique.to_string(), on_duplicate: kin.on_duplicate }),
            ..self.shaped(task, &kin, 0)
        }
    }

    /// A job of this task with all below it; children run the tasks after it.
    fn shaped(&self, task: usize, kin: &Kinds, depth: usize) -> NewJob {
        let parent = kin.children.filter(|_| task + 1 < TASKS.len());
        let family = parent.map(|(many, families)| {
            let child = |n: usize| {
                let children = kin.children.filter(|_| n < families && depth == 0);
                self.shaped(task + 1, &Kinds { children, ..kin.clone() }, depth + 1)
            };
            Box::new(Family {
                max_running: if kin.width == 0 { Limit::Unlimited } else { Limit::AtMost(kin.width) },
                on_failure: if kin.stops { OnFailure::Stop } else { OnFailure::Finish },
                join: kin.joins,
                join_decides: kin.follows,
                timeout: (kin.timeout > 0).then(|| Duration::from_secs(kin.timeout)),
                children: (0..many).map(child).collect(),
            })
        });
        let on = vec![if kin.stops { Condition::Unsuccessful } else { Condition::Finished }];
        let url = ["http://127.0.0.1:9/done", "https://b.example/?x", "https://b.example/y"];
        let called = What::Callback { url: url[usize::from(kin.lane % 3)].into(), fixed: kin.stops };
        let follow_ups = vec![
            FollowUp { on: vec![Condition::Finished], what: What::Then("c".parse().expect("a name")) },
            FollowUp { on, what: called },
        ];
        NewJob {
            lane: (kin.lane < 3).then(|| kin.lane.to_string()),
            follow_ups: if kin.follows { follow_ups } else { vec![] },
            family,
            ..job(TASKS[task], self.now)
        }
    }

    fn ask(&self, free: usize, limits: [Option<u64>; 3], per_lane: u64) -> Claim {
        let limit = |most| if most == 3 { Limit::Unlimited } else { Limit::AtMost(most) };
        let tasks: Vec<_> =
            TASKS.iter().zip(limits).filter_map(|(name, most)| Some((*name, limit(most?)))).collect();
        let mut claim_id = [0; 16];
        claim_id[..8].copy_from_slice(&(self.leases.len() as u64).to_be_bytes());
        let mut claim = Claim { claim_id: ClaimId(claim_id), ..ask(free, &tasks, self.now) };
        let per_lane = if per_lane == 0 { Limit::Unlimited } else { Limit::AtMost(per_lane) };
        claim.tasks.values_mut().for_each(|room| room.per_lane = per_lane);
        claim
    }

    /// Everything a caller can see.
    async fn compare(&self) {
        let jobs = both!(self, list(everything()));
        both!(self, stats());
        both!(self, next_due());
        both!(self, claimed_by("n1"));
        both!(self, to_gather(99));
        let deliveries = both!(self, deliveries(every_delivery()));
        for one in &deliveries {
            both!(self, delivery(one.id));
            let of_job = DeliveryQuery { job: Some(one.id.job), states: vec![one.state], ..every_delivery() };
            both!(self, deliveries(of_job.clone()));
            let in_state = DeliveryQuery { states: vec![one.state], limit: 2, ..DeliveryQuery::default() };
            both!(self, deliveries(in_state.clone()));
            let before = DeliveryQuery { before: Some(one.number), limit: 2, ..DeliveryQuery::default() };
            both!(self, deliveries(before.clone()));
            both!(self, next_delivery_due(one.due_at));
        }
        for states in jobs.iter().map(|job| job.state.name()).collect::<BTreeSet<_>>() {
            let states = vec![states.parse().expect("a state")];
            both!(self, list(Query { states: states.clone(), limit: 3, ..Query::default() }));
        }
        let labels = labels(&[("key", "1")]);
        both!(self, list(Query { task: Some(task("a")), labels: labels.clone(), ..everything() }));
        both!(self, list(Query { before: jobs.first().map(|job| job.id), limit: 2, ..Query::default() }));
        let gone = self.jobs.iter().map(|job| job.id);
        for job in jobs.iter().map(|job| job.id).chain(gone) {
            both!(self, get(job));
            both!(self, attempts(job));
            both!(self, payload(job));
            both!(self, standing(job));
            both!(self, children(job, None, 2));
            both!(self, child_ends(job, jobs.get(1).map(|job| job.id), 2));
        }
    }
}

fn every_delivery() -> DeliveryQuery {
    DeliveryQuery { limit: 999, ..DeliveryQuery::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_is_as_the_model(verbs in vec(verb(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut pair = Pair { real: sqlite(), model: memory(), now: 0, jobs: vec![], leases: vec![] };
            for (n, verb) in verbs.into_iter().enumerate() {
                pair.run(verb).await;
                if n % 8 == 0 {
                    pair.compare().await;
                }
            }
            pair.compare().await;
        });
    }
}

//! A machine with a keeper, a server, processes and what each says to the other, as far as it
//! matters for what becomes of jobs. The keeper and the processes are a model of the real
//! ones; store, recovery, retries and the journal's bytes are the program's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use procession_core::frame::journal::{Entry, read};
use procession_core::id::{AttemptKey, AttemptNumber, ClaimId, JobId};
use procession_core::job::{Finished, Lease};
use procession_core::limits::Limit;
use procession_core::outcome::{CancelledBy, Outcome};
use procession_core::record::{Containment, Ending, ExitRecord, Phase, StopCause};
use procession_core::recovery::{Claimant, Known, Verdict, judge};
use procession_core::retry::deferral;
use procession_core::state::JobState;
use procession_store::{Cancelled, Claim, Store};

use super::disk::Disk;
use crate::fixture::{ask, at, job, put};

/// Something that happens. Processes and jobs are named by how many came before them.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit,
    Claim(usize),
    /// The server's next word goes onto the socket.
    Send,
    /// The keeper reads it; a SPAWN may find no process to be had.
    KeeperReads {
        no_process: bool,
    },
    /// The server notes that an attempt runs.
    Started(usize),
    /// A process ends with this wait status.
    Exit(usize, i32),
    /// The keeper reaps one and writes its record; torn: it dies while it writes.
    Record {
        torn: bool,
    },
    /// The keeper tells the server of an end.
    Tell,
    /// The server commits it and says so.
    Finish,
    Cancel(usize),
    Die(Death),
    /// What is dead starts: the keeper, then its server, which may die again while it
    /// recovers, after so many rows.
    Start {
        dies_after: Option<usize>,
    },
    Wait(i64),
}

/// Who dies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    Server,
    /// And its server with it.
    Keeper,
    Machine {
        unsynced_survives: bool,
    },
}

/// What the server says to the keeper.
#[derive(Clone, Debug)]
enum Word {
    Ready,
    Spawn(Lease),
    Stop(AttemptKey),
    Ack(AttemptKey),
}

#[derive(Default)]
struct Server {
    outbox: VecDeque<Word>,
    /// Leases of what it launched or adopted.
    leases: Vec<Lease>,
    /// Ends it was told of and has not committed.
    ends: VecDeque<ExitRecord>,
}

#[derive(Default)]
struct Keeper {
    settled: bool,
    ever_ready: bool,
    running: BTreeSet<AttemptKey>,
    over: BTreeMap<AttemptKey, ExitRecord>,
    /// Ends its server was told of.
    told: BTreeSet<AttemptKey>,
}

#[derive(Clone)]
struct Process {
    lease: Lease,
    asked: bool,
    wait_status: Option<i32>,
}

pub(super) struct Machine {
    disk: Disk,
    boot: u8,
    now: i64,
    keeper: Option<Keeper>,
    server: Option<Server>,
    /// From server to keeper, on the socket.
    wire: VecDeque<Word>,
    journal: Vec<u8>,
    journal_boot: u8,
    processes: BTreeMap<AttemptKey, Process>,
    // What an observer of everything knows.
    acknowledged: Vec<JobId>,
    executions: BTreeMap<JobId, u32>,
    real_ends: BTreeMap<AttemptKey, Outcome>,
    recorded: BTreeMap<AttemptKey, Outcome>,
    claims: u64,
}

impl Machine {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            boot: 1,
            now: 0,
            keeper: None,
            server: None,
            wire: VecDeque::new(),
            journal: Vec::new(),
            journal_boot: 1,
            processes: BTreeMap::new(),
            acknowledged: Vec::new(),
            executions: BTreeMap::new(),
            real_ends: BTreeMap::new(),
            recorded: BTreeMap::new(),
            claims: 0,
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.disk.store()
    }

    pub(super) async fn take(&mut self, step: Step) {
        match step {
            Step::Submit if self.server.is_some() => {
                let id = put(&*self.store(), job("a", self.now)).await;
                self.disk.synced();
                self.acknowledged.push(id);
            }
            Step::Claim(free) => self.claim(free).await,
            Step::Send => {
                let word = self.server.as_mut().and_then(|server| server.outbox.pop_front());
                self.wire.extend(word);
            }
            Step::KeeperReads { no_process } => self.keeper_reads(no_process),
            Step::Started(n) => self.started(n).await,
            Step::Exit(n, wait_status) => self.exit(n, wait_status),
            Step::Record { torn } => self.record(torn),
            Step::Tell => self.tell(),
            Step::Finish => self.finish().await,
            Step::Cancel(n) => self.cancel(n).await,
            Step::Die(death) => self.die(death),
            Step::Start { dies_after } => self.start(dies_after).await,
            Step::Wait(seconds) => self.now += seconds,
            Step::Submit => {}
        }
    }

    async fn claim(&mut self, free: usize) {
        if self.server.is_none() {
            return;
        }
        self.claims += 1;
        let mut claim_id = [0; 16];
        claim_id[..8].copy_from_slice(&self.claims.to_be_bytes());
        let claim = Claim {
            claim_id: ClaimId(claim_id),
            boot_id: [self.boot; 16],
            ..ask(free, &[("a", Limit::Unlimited)], self.now)
        };
        let batch = self.store().claim(claim).await.expect("claims");
        self.disk.synced();
        let Some(server) = &mut self.server else { return };
        for claimed in batch.jobs {
            server.leases.push(claimed.lease);
            server.outbox.push_back(Word::Spawn(claimed.lease));
        }
    }

    fn keeper_reads(&mut self, no_process: bool) {
        let Some(keeper) = &mut self.keeper else { return };
        match self.wire.pop_front() {
            None => {}
            Some(Word::Ready) => keeper.ever_ready = true,
            Some(Word::Spawn(lease)) if no_process => {
                let message = "fork: EAGAIN".into();
                let ending = Ending::NotStarted { phase: Phase::Fork, errno: 11, message };
                self.over(lease, ending, false);
            }
            Some(Word::Spawn(lease)) => {
                keeper.running.insert(lease.key());
                *self.executions.entry(lease.job).or_default() += 1;
                let process = Process { lease, asked: false, wait_status: None };
                assert!(self.processes.insert(lease.key(), process).is_none(), "{lease:?} was given twice");
            }
            Some(Word::Stop(key)) => {
                if let Some(process) = self.processes.get_mut(&key).filter(|p| p.wait_status.is_none()) {
                    (process.asked, process.wait_status) = (true, Some(15));
                    self.note_end(key);
                }
            }
            Some(Word::Ack(key)) if keeper.over.remove(&key).is_some() => {
                Entry::Ack(key).encode(&mut self.journal);
            }
            Some(Word::Ack(_)) => {}
        }
    }

    async fn started(&mut self, n: usize) {
        let Some(server) = &self.server else { return };
        let runs: Vec<Lease> =
            server.leases.iter().filter(|lease| self.processes.contains_key(&lease.key())).copied().collect();
        let Some(lease) = runs.get(n % runs.len().max(1)) else { return };
        self.disk.before_unsynced();
        self.store().started(*lease, at(self.now), Containment::Cgroup).await.expect("noted");
    }

    fn exit(&mut self, n: usize, wait_status: i32) {
        let alive: Vec<AttemptKey> =
            self.processes.iter().filter(|(_, p)| p.wait_status.is_none()).map(|(key, _)| *key).collect();
        let Some(key) = alive.get(n % alive.len().max(1)) else { return };
        if let Some(process) = self.processes.get_mut(key) {
            process.wait_status = Some(wait_status);
        }
        self.note_end(*key);
    }

    /// How a process really ended, whoever hears of it.
    fn note_end(&mut self, key: AttemptKey) {
        let process = &self.processes[&key];
        let record = ExitRecord { ending: process.ending(), ..record_of(process.lease) };
        self.real_ends.insert(key, Outcome::of(&record));
    }

    fn record(&mut self, torn: bool) {
        let Some(keeper) = &mut self.keeper else { return };
        let ended = |key: &&AttemptKey| self.processes[key].wait_status.is_some();
        let Some(key) = keeper.running.iter().find(ended).copied() else { return };
        keeper.running.remove(&key);
        let process = self.processes.remove(&key).expect("it is the keeper's");
        self.over(process.lease, process.ending(), torn);
    }

    fn over(&mut self, lease: Lease, ending: Ending, torn: bool) {
        let Some(keeper) = &mut self.keeper else { return };
        let record = ExitRecord { ending, ..record_of(lease) };
        let whole = self.journal.len();
        Entry::Record(Box::new(record.clone())).encode(&mut self.journal);
        keeper.over.insert(lease.key(), record);
        if torn {
            self.journal.truncate((whole + self.journal.len()) / 2);
            self.die(Death::Keeper);
        }
    }

    fn tell(&mut self) {
        let (Some(keeper), Some(server)) = (&mut self.keeper, &mut self.server) else { return };
        let told = &mut keeper.told;
        if let Some((key, record)) = keeper.over.iter().find(|(key, _)| !told.contains(key)) {
            told.insert(*key);
            server.ends.push_back(record.clone());
        }
    }

    async fn finish(&mut self) {
        let Some(record) = self.server.as_mut().and_then(|server| server.ends.pop_front()) else { return };
        let lease = lease_of(&record);
        let store = self.store();
        match deferral(&record, 0, self.claims) {
            Some(_) => {
                store.release(lease, Some(at(self.now + 1))).await.expect("deferred");
            }
            None => {
                store.finish(end(lease, Outcome::of(&record), self.now)).await.expect("recorded");
            }
        }
        self.disk.synced();
        let Some(server) = &mut self.server else { return };
        server.leases.retain(|held| *held != lease);
        server.outbox.push_back(Word::Ack(record.key));
    }

    async fn cancel(&mut self, n: usize) {
        let Some(id) = self.acknowledged.get(n % self.acknowledged.len().max(1)).copied() else { return };
        if self.server.is_none() {
            return;
        }
        let met = self.store().cancel(id, CancelledBy::Client, at(self.now)).await.expect("cancelled");
        self.disk.synced();
        if let (Cancelled::Asked(effects), Some(server)) = (met, &mut self.server) {
            server.outbox.extend(effects.stops.iter().map(|(lease, _)| Word::Stop(lease.key())));
        }
    }

    fn die(&mut self, death: Death) {
        let keeper_ends = self.keeper.as_ref().is_some_and(|keeper| !keeper.ever_ready);
        if self.server.take().is_some() {
            self.disk.process_died();
        }
        // What it still said is thrown away.
        self.wire.clear();
        if let Some(keeper) = &mut self.keeper {
            keeper.told.clear();
        }
        match death {
            // A keeper whose first server never served ends with it.
            Death::Server if keeper_ends => self.keeper = None,
            Death::Server => {}
            Death::Keeper => self.keeper = None,
            Death::Machine { unsynced_survives } => {
                self.keeper = None;
                self.processes.clear();
                self.journal.clear();
                self.boot += 1;
                self.disk.power_cut(unsynced_survives);
            }
        }
    }

    async fn start(&mut self, dies_after: Option<usize>) {
        if self.server.is_some() {
            return;
        }
        if self.keeper.is_none() {
            self.start_keeper();
        }
        let Some(keeper) = &mut self.keeper else { return };
        self.server = Some(Server::default());
        let settled = keeper.settled;
        if self.recover(settled, dies_after.unwrap_or(usize::MAX)).await {
            let Some(server) = &mut self.server else { return };
            server.outbox.push_front(Word::Ready);
        } else {
            self.die(Death::Server);
        }
    }

    /// Ends what another keeper left, reads what it wrote.
    fn start_keeper(&mut self) {
        self.processes.clear();
        let mut keeper = Keeper::default();
        if self.journal_boot == self.boot {
            let (entries, whole) = read(Bytes::from(self.journal.clone()));
            self.journal.truncate(whole);
            for entry in entries {
                match entry {
                    Entry::Record(record) => drop(keeper.over.insert(record.key, *record)),
                    Entry::Ack(key) => drop(keeper.over.remove(&key)),
                }
            }
        } else {
            self.journal.clear();
            self.journal_boot = self.boot;
        }
        self.keeper = Some(keeper);
    }

    /// As `scheduler/recover.rs`; `false`: it died on the way.
    async fn recover(&mut self, settled: bool, rows: usize) -> bool {
        let (store, now) = (self.store(), self.now);
        let (Some(keeper), Some(server)) = (&self.keeper, &mut self.server) else { return false };
        let mut unrecorded = BTreeSet::new();
        for (row, (claimed, boot)) in store.claimed_by("n1").await.expect("read").into_iter().enumerate() {
            if row >= rows {
                return false;
            }
            let (lease, key) = (claimed.lease, claimed.lease.key());
            let known = match keeper.running.contains(&key) {
                true => Known::Runs,
                false if keeper.over.contains_key(&key) => Known::Over,
                false => Known::Nothing,
            };
            let claimant = match settled {
                _ if boot != [self.boot; 16] => Claimant::BootBefore,
                true => Claimant::OurKeepers,
                false => Claimant::KeeperBefore,
            };
            match judge(known, claimant) {
                Verdict::Adopt => {
                    server.leases.push(lease);
                    if claimed.cancel_requested.is_some() {
                        server.outbox.push_back(Word::Stop(key));
                    }
                }
                Verdict::Record => {
                    unrecorded.insert(key);
                }
                Verdict::NeverSeen => {
                    store.release(lease, None).await.expect("released");
                }
                Verdict::Lost(reason) => {
                    store.finish(end(lease, Outcome::Lost { reason }, now)).await.expect("recorded");
                }
            }
            self.disk.synced();
        }
        let Some(keeper) = &mut self.keeper else { return false };
        keeper.settled = true;
        for (key, record) in &keeper.over {
            keeper.told.insert(*key);
            match unrecorded.contains(key) {
                true => server.ends.push_back(record.clone()),
                false => server.outbox.push_back(Word::Ack(*key)),
            }
        }
        true
    }

    /// Lets everything happen that still can, without another death.
    pub(super) async fn settle(&mut self) {
        for round in 0..200 {
            self.take(Step::Start { dies_after: None }).await;
            self.now += 10;
            self.claim(4).await;
            for _ in 0..8 {
                self.take(Step::Send).await;
                self.keeper_reads(false);
                self.take(Step::Started(round)).await;
                self.exit(round, (round as i32 % 7) << 8);
                self.record(false);
                self.tell();
                self.finish().await;
            }
            self.check().await;
            let stats = self.store().stats().await.expect("read");
            let unfinished = stats.values().any(|counts| counts.running + counts.queued > 0);
            let quiet = self.wire.is_empty() && self.server.as_ref().is_some_and(|s| s.outbox.is_empty());
            if !unfinished && quiet {
                return;
            }
        }
        panic!("some jobs never end");
    }

    /// What must hold at every moment.
    pub(super) async fn check(&mut self) {
        let store = self.store();
        for id in &self.acknowledged {
            assert!(store.get(*id).await.expect("loads").is_some(), "{id} was acknowledged");
            let attempts = store.attempts(*id).await.expect("loads");
            let ended = attempts.iter().filter_map(|attempt| Some((attempt.fence, attempt.outcome.clone()?)));
            let ended: BTreeMap<AttemptKey, Outcome> =
                ended.map(|(fence, outcome)| (AttemptKey { job: *id, fence }, outcome)).collect();
            let before = self.recorded.iter().filter(|(key, _)| key.job == *id);
            for (key, outcome) in before {
                assert_eq!(ended.get(key), Some(outcome), "an end changed: {key:?}");
            }
            for (key, outcome) in ended {
                let real = self.real_ends.get(&key);
                let is_lost = matches!(outcome, Outcome::Lost { .. });
                assert!(is_lost || Some(&outcome) == real, "{key:?}: {outcome:?} was really {real:?}");
                self.recorded.insert(key, outcome);
            }
            let executions = self.executions.get(id).copied().unwrap_or(0);
            assert!(executions <= 1, "{id} was run {executions} times");
        }
        if self.server.is_some() {
            self.check_what_runs(&*store).await;
        }
    }

    /// Once a server has recovered, what runs has a row that says so.
    async fn check_what_runs(&self, store: &dyn Store) {
        let claimed: BTreeSet<AttemptKey> =
            store.claimed_by("n1").await.expect("read").into_iter().map(|(job, _)| job.lease.key()).collect();
        for (key, process) in &self.processes {
            let alive = process.wait_status.is_none();
            assert!(!alive || claimed.contains(key), "{key:?} runs and no row says so");
        }
    }

    /// What must hold when nothing can happen any more.
    pub(super) async fn check_settled(&mut self) {
        let store = self.store();
        for id in &self.acknowledged {
            let job = store.get(*id).await.expect("loads").expect("acknowledged");
            assert!(job.state.is_final(), "{id} is {}", job.state);
            if job.state != JobState::Cancelled {
                let attempts = store.attempts(*id).await.expect("loads");
                assert_eq!(attempts.len(), 1, "one attempt, with one end: {attempts:?}");
            }
        }
        assert!(self.processes.values().all(|process| process.wait_status.is_some()), "something still runs");
        let left = self.keeper.as_ref().map_or(0, |keeper| keeper.over.len());
        assert_eq!(left, 0, "every end was acknowledged");
        let (entries, whole) = read(Bytes::from(self.journal.clone()));
        assert_eq!(whole, self.journal.len(), "{entries:?}");
    }

    /// How many attempts have their real end on record, and how many are lost.
    pub(super) fn ends(&self) -> (usize, usize) {
        let lost = self.recorded.values().filter(|outcome| matches!(outcome, Outcome::Lost { .. })).count();
        (self.recorded.len() - lost, lost)
    }
}

impl Process {
    fn ending(&self) -> Ending {
        let stopped = self.asked.then_some(StopCause::Cancelled { by: CancelledBy::Client });
        Ending::Ended { wait_status: self.wait_status.unwrap_or(0), stopped }
    }
}

/// The lease travels in the launch's own note, as it does for the real server.
fn record_of(lease: Lease) -> ExitRecord {
    let note = [lease.attempt.0.to_be_bytes().as_slice(), &lease.claim_id.0].concat();
    ExitRecord { key: lease.key(), cookie: note.into(), ..ExitRecord::for_testing() }
}

fn lease_of(record: &ExitRecord) -> Lease {
    let (attempt, claim_id) = record.cookie.split_at(4);
    Lease {
        job: record.key.job,
        attempt: AttemptNumber(u32::from_be_bytes(attempt.try_into().expect("four bytes"))),
        fence: record.key.fence,
        claim_id: ClaimId(claim_id.try_into().expect("sixteen bytes")),
    }
}

fn end(lease: Lease, outcome: Outcome, now: i64) -> Finished {
    Finished::unseen(lease, outcome, at(now), "r1")
}

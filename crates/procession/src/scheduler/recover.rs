//! At the start of a server: what the store says runs here against what the keeper owns.
//! The keeper's word decides; time never does (`core/recovery.rs`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use procession_core::frame::{Hello, Started, ToKeeper, ToServer};
use procession_core::id::AttemptKey;
use procession_core::job::{Claimed, Finished};
use procession_core::outcome::{LostReason, Outcome};
use procession_core::record::ExitRecord;
use procession_core::recovery::{Known, Verdict, judge};
use procession_keeper::fault;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::Scheduler;
use super::finish::{Recorded, Terms};
use super::note::Note;
use super::runner::time_left;
use super::running::{Live, Stop};
use super::scratch::Left;

/// What the keeper owns, as it says when asked.
#[derive(Debug, Default)]
pub struct Owned {
    running: HashMap<AttemptKey, Started>,
    over: Vec<ExitRecord>,
}

impl Owned {
    /// Asks the keeper, which has nothing else to say before it is answered.
    ///
    /// # Errors
    /// The keeper is gone before it has said all: to take the rest for never started could
    /// run a job twice.
    pub async fn ask(
        keeper: &crate::keeper::KeeperLink,
        inbox: &mut UnboundedReceiver<ToServer>,
    ) -> anyhow::Result<Self> {
        keeper.send(&ToKeeper::List);
        let mut owned = Self::default();
        while let Some(frame) = inbox.recv().await {
            match frame {
                ToServer::Attempts { running, over, more } => {
                    owned.running.extend(running.into_iter().map(|started| (started.key, started)));
                    owned.over.extend(over);
                    if !more {
                        return Ok(owned);
                    }
                }
                // An attempt that ends while it is being asked about stands in the answer too.
                // Not shown: frames hold what programs wrote.
                _ => tracing::debug!("the keeper said something before its answer"),
            }
        }
        anyhow::bail!("the keeper went away before it said what it owns")
    }

    /// Scratch folders that must not be cleared.
    pub fn scratch(&self) -> BTreeSet<u32> {
        self.scratch_of(self.over.iter())
    }

    /// Those of what runs, and of `over`.
    fn scratch_of<'a>(&'a self, over: impl Iterator<Item = &'a ExitRecord>) -> BTreeSet<u32> {
        let cookies = self.running.values().map(|started| &started.cookie);
        let cookies = cookies.chain(over.map(|record| &record.cookie));
        cookies.filter_map(|cookie| Note::from_bytes(cookie)).map(|note| note.scratch).collect()
    }
}

/// Rows of a keeper before that are lost and not recorded as that yet. Until they are, whoever
/// serves next must not take them for claims of our own that were never sent.
#[derive(Debug, Default)]
pub struct Losses(watch::Sender<usize>);

impl Losses {
    fn met(&self) {
        self.0.send_modify(|left| *left += 1);
    }

    fn recorded(&self) {
        self.0.send_modify(|left| *left -= 1);
    }

    /// Returns once there are none.
    pub async fn are_recorded(&self) {
        // The sender is part of `self`, which outlives the wait.
        let _ = self.0.subscribe().wait_for(|left| *left == 0).await;
    }
}

/// Brings `scheduler` and the store in line with the keeper.
pub async fn recover(scheduler: &Arc<Scheduler>, owned: Owned, hello: &Hello) -> anyhow::Result<()> {
    let over: BTreeSet<AttemptKey> = owned.over.iter().map(|record| record.key).collect();
    let mut unrecorded = BTreeSet::new();
    for (claimed, boot_id) in scheduler.store.claimed_by(&scheduler.node).await? {
        let key = claimed.lease.key();
        let known = match owned.running.contains_key(&key) {
            true => Known::Runs,
            false if over.contains(&key) => Known::Over,
            false => Known::Nothing,
        };
        match judge(known, hello.claimant(boot_id)) {
            Verdict::Adopt => adopt(scheduler, &claimed, &owned.running[&key]),
            Verdict::Record => {
                unrecorded.insert(key);
            }
            // Errands: a store that takes nothing now must not keep a server from answering. All at
            // once: a thousand rows are a few commits, not a thousand.
            Verdict::NeverSeen => {
                let scheduler_too = scheduler.clone();
                let lease = claimed.lease;
                scheduler.background.errand(async move { scheduler_too.give_back_claim(lease).await });
            }
            Verdict::Lost(reason) => {
                scheduler.losses.met();
                scheduler.background.errand(record_loss(scheduler.clone(), claimed, reason));
            }
        }
        fault::point("recover.between_rows");
    }
    // Recorded before, only not acknowledged: their folders may be other attempts' by now.
    let still_used = |record: &ExitRecord| {
        Note::from_bytes(&record.cookie).is_some_and(|note| note.left_something_running(record.leaked))
    };
    let needed = |record: &&ExitRecord| unrecorded.contains(&record.key) || still_used(record);
    let in_use = owned.scratch_of(owned.over.iter().filter(needed));
    for number in owned.scratch().difference(&in_use) {
        scheduler.give_back(*number, Left::Something);
    }
    for record in owned.over {
        if unrecorded.contains(&record.key) {
            scheduler.background.errand(scheduler.clone().attempt_over(record));
        } else {
            scheduler.keeper.send(&ToKeeper::Ack { key: record.key });
        }
    }
    Ok(())
}

async fn record_loss(scheduler: Arc<Scheduler>, claimed: Claimed, reason: LostReason) {
    let lease = claimed.lease;
    tracing::warn!(job = %lease.job, ?reason, "an attempt is lost");
    let (outcome, now) = (Outcome::Lost { reason }, Timestamp::now());
    let end = Finished::unseen(lease, outcome, now, &scheduler.revision);
    let terms = scheduler.tasks.get(&claimed.task).map(|task| Terms::of(task, claimed.history));
    if scheduler.record_end(end, terms.unwrap_or_default()).await == Recorded::Yes {
        scheduler.losses.recorded();
    }
}

fn adopt(scheduler: &Scheduler, claimed: &Claimed, started: &Started) {
    let Some(note) = Note::from_bytes(&started.cookie) else { return };
    let start = Timestamp::from_microsecond(started.started_us).unwrap_or_else(|_| Timestamp::now());
    let timeout = time_left(note.timeout_ms.map(std::time::Duration::from_millis), claimed, start);
    scheduler.progress.watch(&scheduler.scratch.named(note.scratch));
    scheduler.running.insert(Live::new(claimed.lease, note.output_limit, timeout));
    scheduler.running.lent(claimed.lease.key(), note.scratch);
    scheduler.running.launched(claimed.lease.key());
    scheduler.running.started(started);
    if let Some(by) = claimed.cancel_requested {
        scheduler.stop_attempt(claimed.lease, Stop { by, now: false });
    }
}

//! The one thread that writes. It takes everything that waits, runs it in one transaction,
//! commits with one fsync and then answers: a hundred callers pay for one sync. It also owns
//! the checkpoints: no other connection writes, so nothing else may move the log.
//!
//! A batch runs without savepoints first, because nearly none of them fails. If a verb does,
//! all is rolled back and runs again with a savepoint for each, so that the failing one hurts
//! nobody else. Verbs are functions of the database and may therefore run twice.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::ledger::Ledger;
use super::log::{self, Log};
use super::watch::Watch;
use crate::error::StoreError;

/// The most verbs of one transaction.
const BATCH: usize = 1024;

/// Without work for so long, the writer tidies up.
const IDLE: Duration = Duration::from_millis(500);

/// What a verb sees: the transaction, and the tasks as they stand in it.
pub(super) struct Tx<'a> {
    pub conn: &'a Connection,
    pub ledger: &'a mut Ledger,
}

/// Whether an answer waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// The verb is on the disk when it returns.
    Full,
    /// The verb is in the log when it returns; the next full commit takes it to the disk.
    /// It survives the process, not the machine.
    Lazy,
}

/// A verb on its way through the thread.
trait Work: Send {
    fn sync(&self) -> Sync;
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    /// Keeps an error as the verb's own answer.
    fn fail(&mut self, error: StoreError);
    /// Answers with what `run` or `fail` left, or with the failure of the whole batch.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Call<T, F> {
    sync: Sync,
    verb: F,
    outcome: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send> Work for Call<T, F> {
    fn sync(&self) -> Sync {
        self.sync
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.outcome = Ok((self.verb)(tx)?);
        Ok(())
    }

    fn fail(&mut self, error: StoreError) {
        self.outcome = Err(error);
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        // Nobody waits any more: the caller was dropped, the write stands.
        let _ = self.reply.send(committed.and(self.outcome));
    }
}

/// The way to the thread.
pub(super) struct Writer {
    /// None once it is stopped.
    sender: RwLock<Option<Sender<Box<dyn Work>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread on a connection that is ready to write to the file at `path`.
    pub(super) fn start(conn: Connection, path: &Path) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let mut hand = Hand::new(conn, path)?;
        let thread = std::thread::Builder::new()
            .name("store-write".into())
            .spawn(move || hand.serve(&receiver))
            .map_err(|error| StoreError::Database(format!("no thread to write: {error}")))?;
        Ok(Self { sender: RwLock::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs a verb; returns when its transaction is committed.
    pub(super) async fn write<T, F>(&self, sync: Sync, verb: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call { sync, verb, outcome: Err(StoreError::Closed), reply };
        self.send(Box::new(call))?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn send(&self, work: Box<dyn Work>) -> Result<(), StoreError> {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().ok_or(StoreError::Closed)?.send(work).map_err(|_| StoreError::Closed)
    }

    /// Ends the thread: what was sent before is committed and answered, what comes later is
    /// `Closed`. Blocks until its connection is closed.
    pub(super) fn stop(&self) {
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in the thread was told to its callers as `Closed`.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's own things.
struct Hand {
    conn: Connection,
    ledger: Ledger,
    watch: Watch,
    log: Log,
    synced: Sync,
    untidy: bool,
    /// Set for good by the first failure of the disk: nothing is acknowledged after it.
    failed: Option<StoreError>,
}

impl Hand {
    fn new(mut conn: Connection, path: &Path) -> Result<Self, StoreError> {
        let log = Log::new(&mut conn)?;
        let ledger = Ledger::open(&conn)?;
        let watch = Watch::new(path)?;
        Ok(Self { conn, ledger, watch, log, synced: Sync::Full, untidy: true, failed: None })
    }

    fn serve(&mut self, receiver: &Receiver<Box<dyn Work>>) {
        loop {
            match receiver.recv_timeout(IDLE) {
                Ok(first) => self.batch(first, receiver),
                Err(RecvTimeoutError::Timeout) => self.tidy(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn batch(&mut self, first: Box<dyn Work>, receiver: &Receiver<Box<dyn Work>>) {
        let mut works = vec![first];
        works.extend(receiver.try_iter().take(BATCH - 1));
        let committed = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.commit(&mut works),
        };
        self.note(&committed);
        for work in works {
            work.answer(committed.clone());
        }
        self.untidy = true;
        // A log that begins anew needs no room on a disk that is full.
        if self.log.is_due() || committed == Err(StoreError::Full) {
            self.copy_log();
        }
    }

    fn commit(&mut self, works: &mut [Box<dyn Work>]) -> Result<(), StoreError> {
        let lazy = works.iter().all(|work| work.sync() == Sync::Lazy);
        self.set_sync(if lazy { Sync::Lazy } else { Sync::Full })?;
        let outcome = match self.transaction(|conn, ledger| together(conn, ledger, works)) {
            // The disk's own failures are everybody's; the rest is that of one verb.
            Err(error) if !matches!(error, StoreError::Full | StoreError::Disk(_)) => {
                tracing::warn!(%error, "a write failed: its batch runs again one by one");
                self.transaction(|conn, ledger| apart(conn, ledger, works))
            }
            outcome => outcome,
        };
        outcome.and_then(|()| self.watch.check())
    }

    fn transaction(
        &mut self,
        run: impl FnOnce(&Connection, &mut Ledger) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Self { conn, ledger, .. } = self;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let outcome = run(conn, ledger)
            .and_then(|()| ledger.write(conn))
            .and_then(|()| Ok(conn.prepare_cached("COMMIT")?.execute([])?));
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => {
                undo(conn, ledger)?;
                Err(error)
            }
        }
    }

    /// Without FULL a commit only appends to the log; the next FULL one syncs all of it.
    fn set_sync(&mut self, sync: Sync) -> Result<(), StoreError> {
        if self.synced != sync {
            let level = if sync == Sync::Full { "FULL" } else { "NORMAL" };
            self.conn.pragma_update(None, "synchronous", level)?;
            self.synced = sync;
        }
        Ok(())
    }

    fn tidy(&mut self) {
        if !self.untidy || self.failed.is_some() {
            return;
        }
        let given = log::give_back(&self.conn);
        self.untidy = given == Ok(true);
        self.note(&given.map(drop));
        self.copy_log();
    }

    fn copy_log(&mut self) {
        if self.failed.is_none() {
            let copied = self.set_sync(Sync::Full).and_then(|()| self.log.copy(&self.conn));
            self.note(&copied);
        }
    }

    /// What a failure means for everything after it: that of the disk is the end, of the
    /// others nothing was changed, and the next attempt may succeed.
    fn note(&mut self, outcome: &Result<(), StoreError>) {
        match outcome {
            Err(error @ StoreError::Disk(_)) if self.failed.is_none() => {
                tracing::error!(%error, "nothing more is acknowledged");
                self.failed = Some(error.clone());
            }
            // Each caller is told, and there may be many.
            Err(StoreError::Full) | Ok(()) => {}
            Err(error) => tracing::warn!(%error, "a write failed"),
        }
    }
}

/// Back to what is committed. Where even that fails nothing is known any more, and the
/// store stops like after any other failure of its disk.
fn undo(conn: &Connection, ledger: &mut Ledger) -> Result<(), StoreError> {
    // Some failures have rolled back by themselves.
    let rolled_back = if conn.is_autocommit() { Ok(()) } else { conn.execute_batch("ROLLBACK") };
    rolled_back
        .map_err(StoreError::from)
        .and_then(|()| ledger.reload(conn))
        .map_err(|error| StoreError::Disk(format!("a failed write could not be undone: {error}")))
}

fn together(conn: &Connection, ledger: &mut Ledger, works: &mut [Box<dyn Work>]) -> Result<(), StoreError> {
    let mut tx = Tx { conn, ledger };
    works.iter_mut().try_for_each(|work| work.run(&mut tx))
}

fn apart(conn: &Connection, ledger: &mut Ledger, works: &mut [Box<dyn Work>]) -> Result<(), StoreError> {
    for work in works {
        let before = ledger.clone();
        conn.prepare_cached("SAVEPOINT verb")?.execute([])?;
        match work.run(&mut Tx { conn, ledger }) {
            Ok(()) => {}
            Err(error @ (StoreError::Full | StoreError::Disk(_))) => return Err(error),
            Err(error) => {
                conn.prepare_cached("ROLLBACK TO verb")?.execute([])?;
                *ledger = before;
                work.fail(error);
            }
        }
        conn.prepare_cached("RELEASE verb")?.execute([])?;
    }
    Ok(())
}

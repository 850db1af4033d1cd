//! The one place where the server starts concurrent work, so that all of it is counted,
//! stopped together, and a service that panics ends the process instead of leaving a
//! server that looks alive: the keeper starts a new one and no job notices.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::Log;

/// Exit status after a bug (sysexits' `EX_SOFTWARE`).
pub const EXIT_BUG: i32 = 70;

/// Exit status of a server that cannot give its place away in time (sysexits' `EX_TEMPFAIL`).
pub const EXIT_STUCK: i32 = 75;

/// Exit status after a disk that did not keep what it was given (sysexits' `EX_IOERR`).
pub const EXIT_DISK: i32 = 74;

/// Exit status where the config, or the place or the store it names, cannot be used (sysexits'
/// `EX_CONFIG`): only a person can change that.
pub const EXIT_CONFIG: u8 = 78;

/// A handle to all concurrent work; cheap to clone.
#[derive(Clone, Debug)]
pub struct Background {
    log: Log,
    services: TaskTracker,
    connections: TaskTracker,
    errands: TaskTracker,
    chores: TaskTracker,
    stop: CancellationToken,
    /// Fires with `stop`, or before it.
    put_down: CancellationToken,
}

impl Background {
    /// Nothing runs yet.
    pub fn new(log: Log) -> Self {
        let stop = CancellationToken::new();
        Self {
            log,
            services: TaskTracker::new(),
            connections: TaskTracker::new(),
            errands: TaskTracker::new(),
            chores: TaskTracker::new(),
            put_down: stop.child_token(),
            stop,
        }
    }

    /// What this process logs to.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Work the server cannot do without: ends when [`Background::stopping`] fires, never
    /// by panic.
    pub fn service(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.services.spawn(or_exit(name, work, self.log.clone()));
    }

    /// Work for one client, whose panic is its own.
    pub fn connection(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn(work);
    }

    /// Something short that must be done, though nobody waits for it here.
    pub fn errand(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.errands.spawn(or_exit("errand", work, self.log.clone()));
    }

    /// Something that may take long and that no request and no other server waits for. The end of
    /// the process does, for as long as it waits at all: what is left then the next server does.
    pub fn chore(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.chores.spawn(or_exit("chore", work, self.log.clone()));
    }

    /// Ends the process because nothing it says could be believed any more; the keeper starts
    /// another, which reads what really reached the disk.
    pub fn give_up(&self, error: &dyn std::error::Error) -> ! {
        tracing::error!(error = %error, "the server ends");
        self.log.exit(EXIT_DISK)
    }

    /// Blocking file work, off the threads that answer requests.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Waits; `false` at once when work is to be put down.
    pub async fn goes_on_after(&self, wait: Duration) -> bool {
        self.put_down.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }

    /// Ends all work that nobody here waits for: another server does it from now on. Clients
    /// are served on.
    pub fn put_down_work(&self) {
        self.put_down.cancel();
    }

    /// Fires once work is put down.
    pub async fn put_down(&self) {
        self.put_down.cancelled().await;
    }

    /// Whether work is put down.
    pub fn is_put_down(&self) -> bool {
        self.put_down.is_cancelled()
    }

    /// Waits at most `bound` until all errands are done; whether they are. No new ones may come.
    pub async fn errands_done(&self, bound: Duration) -> bool {
        self.errands.close();
        tokio::time::timeout(bound, self.errands.wait()).await.is_ok()
    }

    /// Returns once no connection is open and no request worked on. No new ones may come.
    pub async fn connections_gone(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    /// Fires when everything is to end.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// How many connections are open and requests being worked on.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Ends all: asks, waits at most `bound`, then leaves the rest to the end of the process.
    pub async fn end(&self, bound: Duration) {
        self.stop.cancel();
        let kinds = [&self.connections, &self.errands, &self.services, &self.chores];
        let all = async {
            for kind in kinds {
                kind.close();
                kind.wait().await;
            }
        };
        if tokio::time::timeout(bound, all).await.is_err() {
            let [connections, errands, services, chores] = kinds.map(TaskTracker::len);
            tracing::warn!(connections, errands, services, chores, "not all work ended in time");
        }
    }
}

/// A panic here would leave bookkeeping half done: a slot held for ever, an end not recorded.
async fn or_exit(name: &'static str, work: impl Future<Output = ()>, log: Log) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        tracing::error!(name, "a service panicked; the server ends and the keeper starts another");
        log.exit(EXIT_BUG);
    }
}

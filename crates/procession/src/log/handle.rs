//! The log as the rest of the server has it, and its threads.
//!
//! They are threads of the system, not work of the runtime: what is logged last, by a panic
//! or on the way to `exit`, is logged when the runtime no longer runs anything.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::archive::{put_stderr_aside, tidy};
use super::disk::{Disk, Local};
use super::queue::Queue;
use super::subscriber::{self, Levels};
use super::writer::Writer;
use crate::config::Logging;

/// A thread that nobody wakes looks around all the same.
const IDLE: Duration = Duration::from_secs(60);

/// The same where there is something to tell as soon as it can be written.
const SOON: Duration = Duration::from_secs(1);

/// Between two looks at what is over.
const ARCHIVE: Duration = Duration::from_secs(600);

/// How long the end of the process waits for its last lines: a disk that hangs must not
/// keep a server from ending.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A handle to this process's log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: Arc<Queue>,
    people: Arc<Queue>,
    levels: Levels,
    /// Nobody listens on stderr once the server is ready.
    daemon: bool,
    orders: Mutex<Orders>,
}

/// What the threads are to do.
#[derive(Debug, Default)]
struct Orders {
    rules: Logging,
    /// Rotates, compresses, removes: one process at a time.
    in_charge: bool,
    /// Wakes the archive; there once the log is open.
    archive: Option<SyncSender<()>>,
}

impl Log {
    /// Takes what this process logs from now on. What goes to the file waits until it is
    /// [open](Log::open). `daemon`: stderr is heard until the server is ready.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(daemon: bool) -> io::Result<Self> {
        let (file, people) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        let levels = subscriber::install(file.clone(), people.clone(), daemon);
        let log = Self(Arc::new(Shared { file, people, levels, daemon, orders: Mutex::default() }));
        let shared = log.0.clone();
        thread::Builder::new().name("stderr".into()).spawn(move || shared.speak())?;
        Ok(log)
    }

    /// Writes to the log in `folder` from now on, by `rules`.
    ///
    /// # Errors
    /// No thread can be had. That the file cannot be written is none: lines are counted.
    pub fn open(&self, folder: &Path, rules: &Logging) -> io::Result<()> {
        self.0.orders().rules = rules.clone();
        // Fails only where there is no subscriber any more.
        let _ = self.0.levels.reload(subscriber::filter(&rules.level));
        if subscriber::variable_is_wrong() {
            tracing::warn!("PROCESSION_LOG is no filter; the config's level counts");
        }
        let (wake, woken) = mpsc::sync_channel(1);
        self.0.orders().archive = Some(wake);
        let (shared, writer) = (self.0.clone(), Writer::new(Local, folder));
        thread::Builder::new().name("log".into()).spawn(move || shared.write(writer))?;
        let (shared, folder) = (self.0.clone(), folder.to_owned());
        thread::Builder::new()
            .name("log archive".into())
            .spawn(move || shared.archive(&Local, &folder, &woken))?;
        Ok(())
    }

    /// This process rotates from now on.
    pub fn take_charge(&self) {
        self.0.orders().in_charge = true;
        self.0.wake_archive();
    }

    /// Another process rotates from now on; this one only writes, to the file that has the name.
    pub fn retire(&self) {
        self.0.orders().in_charge = false;
    }

    /// Opens the file anew: whoever rotates logs has moved it away.
    pub fn reopen(&self) {
        self.0.file.reopen();
    }

    /// Says a line to people, while they listen. Nobody reading is fine.
    pub fn say(&self, text: &str) {
        self.0.people.put(format!("{text}\n").as_bytes());
    }

    /// The server answers: a daemon is silent on stderr from now on.
    pub fn ready(&self) {
        if self.0.daemon {
            self.0.people.close();
        }
    }

    /// Returns when all that was logged is written, or it takes too long.
    pub fn flush(&self) {
        if self.0.orders().archive.is_some() {
            self.0.file.flush(Instant::now() + LAST_LINES);
        }
        self.0.people.flush(Instant::now() + LAST_LINES);
    }

    /// Ends the process at once; what was logged before is written.
    pub fn exit(&self, status: i32) -> ! {
        self.flush();
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        std::process::exit(status)
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread for people: a terminal that is held up, or a pipe nobody reads, holds up
    /// this one only.
    fn speak(&self) {
        loop {
            let taken = self.people.take(IDLE);
            let _ = io::stderr().write_all(&taken.lines);
            self.people.done(&taken);
        }
    }

    /// The thread for the file.
    fn write(&self, mut writer: Writer<impl Disk>) {
        loop {
            let taken = self.file.take(if writer.owes() { SOON } else { IDLE });
            if taken.reopen {
                writer.reopen(Timestamp::now());
            }
            let rules = self.rules();
            let done = writer.write(&taken.lines, taken.lost, rules.as_ref(), Timestamp::now());
            self.file.done(&taken);
            for name in &done.rotated {
                tracing::info!(file = name, "the log was rotated");
                self.wake_archive();
            }
            if let Some(error) = done.unrotated {
                tracing::warn!(%error, "the log cannot be rotated; it grows until it can");
            }
            if let Some(error) = done.failed {
                tracing::warn!(%error, "the log cannot be written; lines are counted until it can");
            }
        }
    }

    /// Where this process rotates.
    fn rules(&self) -> Option<Logging> {
        let orders = self.orders();
        orders.in_charge.then(|| orders.rules.clone())
    }

    fn wake_archive(&self) {
        if let Some(archive) = &self.orders().archive {
            // One wake that waits stands for all.
            let _ = archive.try_send(());
        }
    }

    /// The thread for what is over.
    fn archive(&self, disk: &impl Disk, folder: &Path, woken: &Receiver<()>) {
        let mut begun = false;
        let mut pause = ARCHIVE;
        loop {
            // The sender is part of `self`.
            let _ = woken.recv_timeout(pause);
            pause = ARCHIVE;
            let Some(rules) = self.rules() else { continue };
            if !std::mem::replace(&mut begun, true)
                && let Err(error) = put_stderr_aside(disk, folder, Timestamp::now())
            {
                tracing::warn!(%error, "stderr.log cannot be rotated");
            }
            match tidy(disk, folder, &rules, Timestamp::now()) {
                Ok(tidied) => {
                    for (file, error) in tidied.failed {
                        tracing::warn!(file, %error, "an old log can be neither compressed nor removed now");
                    }
                    if tidied.busy > 0 {
                        pause = SOON;
                    }
                }
                Err(error) => tracing::warn!(%error, "old logs cannot be found"),
            }
        }
    }
}

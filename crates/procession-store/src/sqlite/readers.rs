//! A few threads that read, each with its own connection. They see what is committed and
//! never wait for the writer, nor the writer for them.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::open;
use crate::error::StoreError;

/// How many read at once.
const READERS: usize = 3;

type Work = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the threads.
pub(super) struct Readers {
    sender: Option<Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut readers = Self { sender: Some(sender), threads: Vec::new() };
        for n in 1..=READERS {
            let conn = open::readable(path)?;
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{n}"))
                .spawn(move || serve(&conn, &receiver))
                .map_err(|error| StoreError::Database(format!("no thread to read: {error}")))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs `read` on one snapshot of the store.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |conn| {
            // Nobody waits any more where sending fails.
            let _ = reply.send(snapshot(conn, read));
        });
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        sender.send(work).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.drain(..) {
            // A panic in the thread was told to its caller as `Closed`.
            let _ = thread.join();
        }
    }
}

fn serve(conn: &Connection, receiver: &Mutex<Receiver<Work>>) {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(conn),
            Err(_) => return,
        }
    }
}

/// All statements of one question see the same moment: a job on its way from `live` to
/// `done` is in exactly one of them.
fn snapshot<T>(
    conn: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let found = read(conn);
    let ended = conn.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    if ended.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    found
}

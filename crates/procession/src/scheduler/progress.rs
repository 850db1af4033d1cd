//! Watches the progress files of all scratch folders with one inotify descriptor: a folder
//! is watched once, when it is made, and costs nothing for the attempts that never write.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::collect::last_progress;
use super::running::Running;
use super::scratch::Scratch;
use crate::background::Background;

/// Between two looks at what was written.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The watched folders, by inotify's number for them.
pub struct ProgressWatch {
    inotify: AsyncFd<OwnedFd>,
    folders: Mutex<HashMap<i32, (u32, PathBuf)>>,
}

impl ProgressWatch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "the other constructor is unsafe; this descriptor is ours and outlives its place"
        )]
        let inotify = AsyncFd::new(fd)?;
        Ok(Self { inotify, folders: Mutex::default() })
    }

    /// Watches a folder for as long as it exists. Where the kernel has no watch to give,
    /// progress is read at the job's end only.
    pub fn watch(&self, scratch: &Scratch) {
        let events =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, &scratch.path, events) {
            Ok(number) => {
                let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
                folders.insert(number, (scratch.number, scratch.progress()));
            }
            Err(error) => tracing::warn!(%error, "a scratch folder cannot be watched for progress"),
        }
    }

    /// Tells `running` what is written, until the server stops.
    pub async fn run(&self, running: &Running, background: &Background) -> io::Result<()> {
        loop {
            let mut ready = tokio::select! {
                ready = self.inotify.readable() => ready?,
                () = background.stopping().cancelled() => return Ok(()),
            };
            for (scratch, path) in self.changed()? {
                if let Some(progress) = last_progress(&path) {
                    running.progress(scratch, progress);
                }
            }
            ready.clear_ready();
            // A program that writes a line a millisecond is read ten times a second.
            if !background.goes_on_after(PAUSE).await {
                return Ok(());
            }
        }
    }

    /// The progress files written since the last call, each once.
    fn changed(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = HashMap::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(changed.into_iter().collect()),
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(inotify::ReadFlags::IGNORED) {
                folders.remove(&event.wd());
            } else if event.file_name().is_some_and(|name| name.to_bytes() == b"progress")
                && let Some((scratch, path)) = folders.get(&event.wd())
            {
                changed.insert(*scratch, path.clone());
            }
        }
    }
}

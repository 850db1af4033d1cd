//! The keeper is dead, and we are not: what ran is brought to its end, as far as it can be
//! known. Reads and submits are answered meanwhile; nothing is started.
//!
//! What the keeper recorded itself is taken as it is. Each other attempt that is held ends as the
//! kernel says, or is lost; what is not held (it had hardly begun) is ended with its cgroup, and
//! the next server calls it lost. What becomes of this process after that is `succession`'s
//! business.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use procession_core::id::AttemptKey;
use procession_core::record::ExitRecord;
use procession_keeper::heir::{self, Orphan};

use super::Scheduler;
use super::note::Note;
use crate::data::Stream;

/// What has not ended by itself by then is ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Recording an end may take this much longer: a disk may be slow.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);

impl Scheduler {
    /// Returns when nothing of the dead keeper's jobs is left. `cgroups`: the folder of its
    /// cgroups, if it had one.
    pub async fn settle(self: &Arc<Self>, cgroups: Option<PathBuf>) {
        let recorded = heir::recorded(&self.data.keeper()).unwrap_or_else(|error| {
            tracing::error!(%error, "the dead keeper's journal cannot be read");
            Vec::new()
        });
        let held = self.keeper.held.take().into_iter();
        let known: HashSet<AttemptKey> = recorded.iter().map(|record| record.key).collect();
        let orphans: Vec<Orphan> = held
            .filter(|(held, _)| !known.contains(&held.key))
            .filter_map(|(held, fds)| self.orphan(held, fds))
            .collect();
        let (jobs, held) = (self.running.len(), orphans.len());
        tracing::error!(jobs, held, recorded = recorded.len(), "the keeper is dead");
        let (sender, mut records) = tokio::sync::mpsc::unbounded_channel::<ExitRecord>();
        let end = self.background.blocking(move || {
            recorded.into_iter().for_each(|record| drop(sender.send(record)));
            heir::inherit(orphans, PATIENCE, |record| drop(sender.send(record)));
            if let Some(folder) = cgroups {
                heir::end_all(&folder);
            }
        });
        let record = async {
            while let Some(record) = records.recv().await {
                self.background.errand(self.clone().attempt_over(record));
            }
        };
        tokio::join!(end, record);
        // Their rows are final before whoever comes next looks at them.
        if !self.background.errands_done(RECORDED_WITHIN).await {
            tracing::error!("some ends could not be recorded");
        }
    }

    fn orphan(&self, held: procession_core::frame::Held, fds: Vec<std::os::fd::OwnedFd>) -> Option<Orphan> {
        let note = Note::from_bytes(&held.cookie)?;
        let file = |stream| self.data.output(held.key.job, note.attempt.0, stream);
        Some(Orphan {
            files: [file(Stream::Stdout), file(Stream::Stderr)],
            held,
            descriptors: fds,
            limit: note.output_limit,
            leave_children: note.leave_children,
        })
    }
}

/// The folder of cgroups that the keeper named.
pub fn cgroups_of(hello: &procession_core::frame::Hello) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(&hello.cgroups));
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

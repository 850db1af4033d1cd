//! Keeps what finished jobs left below `[retention] output`: where it is more, the oldest
//! finished jobs go, rows first, then files; those of whose end somebody is still to be told go
//! last. What belongs to a job that is not over, or to none, neither counts nor goes: no finished
//! job may be deleted for it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use procession_core::id::JobId;
use procession_core::outbox::DeliveryState;
use procession_store::{Deleted, DeliveryQuery, StoreError};

use crate::data::DataDir;
use crate::scheduler::Scheduler;

/// Between two looks: each reads the sizes of all files kept.
const LOOK: Duration = Duration::from_secs(60);

/// Runs until the server stops.
pub async fn bound(scheduler: Arc<Scheduler>, most: Option<u64>) {
    let Some(most) = most else { return };
    let mut over = HashSet::new();
    loop {
        if let Err(error) = shrink(&scheduler, most, &mut over).await {
            tracing::error!(%error, "the output of finished jobs cannot be bounded");
        }
        if !scheduler.background.goes_on_after(LOOK).await {
            return;
        }
    }
}

/// `over`: jobs that are known to be over, so that each is asked about only once.
async fn shrink(scheduler: &Scheduler, most: u64, over: &mut HashSet<JobId>) -> anyhow::Result<()> {
    let data = scheduler.data.clone();
    let mut kept = scheduler.background.blocking(move || sizes(&data)).await?;
    if total(&kept) <= most {
        return Ok(());
    }
    let there: HashSet<JobId> = kept.iter().map(|(job, _)| *job).collect();
    over.retain(|job| there.contains(job));
    for job in there {
        if scheduler.background.is_put_down() {
            return Ok(());
        }
        if !over.contains(&job) && is_over(scheduler, job).await? {
            over.insert(job);
        }
    }
    kept.retain(|(job, _)| over.contains(job));
    // Ids sort by age.
    kept.sort_unstable();
    let mut total = total(&kept);
    // The disk is bounded, whoever does not listen.
    for spares in [true, false] {
        let mut spared = Vec::new();
        for (job, size) in kept {
            if total <= most {
                return Ok(());
            }
            if spares && is_awaited(scheduler, job).await? {
                spared.push((job, size));
                continue;
            }
            over.remove(&job);
            // Else its time was over, a client removed it, or its family goes on.
            if let Some(removed) = delete(scheduler, job).await? {
                let data = scheduler.data.clone();
                scheduler.background.blocking(move || data.remove_jobs(removed)).await;
                total -= size;
            }
        }
        kept = spared;
    }
    Ok(())
}

/// Whether something that is to follow its end is on its way.
async fn is_awaited(scheduler: &Scheduler, job: JobId) -> Result<bool, StoreError> {
    let pending = DeliveryQuery {
        job: Some(job),
        states: vec![DeliveryState::Pending],
        limit: 1,
        ..DeliveryQuery::default()
    };
    Ok(!scheduler.store.deliveries(pending).await?.is_empty())
}

/// Removes a job, with the family it is part of.
async fn delete(scheduler: &Scheduler, job: JobId) -> Result<Option<Vec<JobId>>, StoreError> {
    let mut met = scheduler.store.delete(job).await?;
    if let Deleted::OfFamily(root) = met {
        met = scheduler.store.delete(root).await?;
    }
    Ok(match met {
        Deleted::Deleted(removed) => Some(removed),
        Deleted::Unknown => Some(Vec::new()),
        Deleted::Unfinished | Deleted::OfFamily(_) => None,
    })
}

fn total(kept: &[(JobId, u64)]) -> u64 {
    kept.iter().map(|(_, size)| size).sum()
}

async fn is_over(scheduler: &Scheduler, job: JobId) -> Result<bool, StoreError> {
    Ok(scheduler.store.get(job).await?.is_some_and(|job| job.state.is_final()))
}

/// What each job's folder holds, in bytes.
fn sizes(data: &DataDir) -> io::Result<Vec<(JobId, u64)>> {
    Ok(data.job_folders()?.into_iter().map(|(job, folder)| (job, size_of(&folder, 0))).collect())
}

/// Folders in folders whose files are counted.
const DEPTH: usize = 64;

/// What cannot be read, or goes away meanwhile, counts nothing.
fn size_of(folder: &Path, depth: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() && depth < DEPTH => size_of(&entry.path(), depth + 1),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_of_whole_folders() {
        let root = tempfile::tempdir().expect("a folder");
        let job = JobId::new(1, [7; 10]);
        let data = DataDir::create(root.path()).expect("made");
        let deep = data.artifacts(job, 1);
        fs::create_dir_all(&deep).expect("made");
        fs::write(deep.join("a"), [0; 100]).expect("written");
        fs::write(data.payload(job), [0; 11]).expect("written");
        fs::create_dir(data.jobs().join("no-job")).expect("made");
        assert_eq!(sizes(&data).expect("read"), [(job, 111)]);
    }
}

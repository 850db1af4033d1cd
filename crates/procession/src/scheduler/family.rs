//! What a family needs of its parent and its children: the parent's payload as a file for each
//! child, what the children left for the join, and a result where no program joins them.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use procession_core::family::ChildEnd;
use procession_core::id::JobId;
use procession_core::job::{Claimed, FamilyEnd, ResultSummary, StoredPayload};
use procession_core::limits::INLINE_RESULT;
use procession_core::task::Task;
use procession_store::{Effects, StoreError};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Scheduler;
use super::running::Stop;
use crate::data::DataDir;

/// Families whose children's results are read at once: each may be large.
pub const GATHERING: usize = 4;

/// What all children of a family may leave together for their parent.
const MOST: usize = 64 << 20;

/// Children read at once.
const PAGE: usize = 500;

/// What an attempt is told of its family.
#[derive(Clone, Debug, Default)]
pub(super) struct Kin {
    /// A child's: its parent's payload.
    pub parent_payload: Option<PathBuf>,
    /// A join's: what it reads.
    pub children: Option<Bytes>,
}

/// Why a family cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoKin {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Files(#[from] io::Error),
    #[error("what the children left is more than {MOST} bytes together")]
    TooMuch,
}

/// A child as its join reads it.
#[derive(Serialize)]
struct Child<'a> {
    index: u32,
    id: JobId,
    state: &'static str,
    exit_code: Option<u8>,
    result: Option<&'a RawValue>,
}

/// A family as its join reads it.
#[derive(Serialize)]
struct Family<'a> {
    payload: Option<&'a RawValue>,
    children: Vec<&'a RawValue>,
}

impl Scheduler {
    /// Does what a change in the store brought about beside itself.
    pub fn follow(self: &Arc<Self>, effects: Effects, now: bool) {
        for (lease, by) in effects.stops {
            self.stop_attempt(lease, Stop { by, now });
        }
        effects.moved.iter().for_each(|job| self.board.tell(*job));
        effects.gather.into_iter().for_each(|parent| self.gather(parent));
        if effects.tells {
            self.deliver.notify_one();
        }
        self.wake.notify_one();
    }

    /// Families that a server before left without their result.
    pub(super) async fn gather_all(self: &Arc<Self>) {
        let left = self.until_stored(|| self.store.to_gather(usize::MAX)).await;
        left.into_iter().flatten().for_each(|parent| self.gather(parent));
    }

    /// Makes a result of what the children of a family left, and ends the family.
    pub(super) fn gather(self: &Arc<Self>, parent: JobId) {
        let scheduler = self.clone();
        self.background.errand(async move {
            let ended = scheduler.until_stored(|| scheduler.end_of(parent)).await;
            let change = match ended {
                Some(end) => scheduler.until_stored(|| scheduler.store.gather(end.clone())).await,
                None => None,
            };
            if let Some(change) = change {
                scheduler.board.tell(parent);
                scheduler.follow(change.effects, false);
            }
        });
    }

    async fn end_of(&self, parent: JobId) -> Result<FamilyEnd, StoreError> {
        let _turn = self.gathering.acquire().await;
        let at = Timestamp::now();
        let (result, bad_result) = match self.list_of_results(parent).await {
            Ok(result) => (result, None),
            Err(NoKin::Store(error)) => return Err(error),
            Err(error) => (ResultSummary::None, Some(error.to_string())),
        };
        Ok(FamilyEnd { job: parent, result, bad_result, at })
    }

    async fn list_of_results(&self, parent: JobId) -> Result<ResultSummary, NoKin> {
        let results = self.of_children(parent, |_, result| json(&result)).await?;
        let list = json(&results);
        let len = list.get().len();
        if len <= INLINE_RESULT {
            return Ok(ResultSummary::Inline {
                json: true,
                bytes: Bytes::copy_from_slice(list.get().as_bytes()),
            });
        }
        let path = self.data.result(parent, 1);
        let write = move || -> io::Result<()> {
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            crate::data::replace(&path, list.get())
        };
        self.background.blocking(write).await?;
        Ok(ResultSummary::File { json: true, len: len as u64 })
    }

    /// What an attempt is told of its family; nothing, where it is in none.
    pub(super) async fn kin(&self, task: &Task, claimed: &Claimed) -> Result<Kin, NoKin> {
        let parent_payload = match claimed.parent {
            Some(parent) => Some(self.payload_file(parent).await?),
            None => None,
        };
        let children = match task.fan_out {
            Some(_) => Some(self.for_the_join(claimed).await?),
            None => None,
        };
        Ok(Kin { parent_payload, children })
    }

    /// The payload of a job as a file, made by the first of its children that runs.
    async fn payload_file(&self, job: JobId) -> Result<PathBuf, NoKin> {
        // One at a time: the others of a family find what the first has made.
        let _turn = self.payloads.lock().await;
        let (large, path) = (self.data.payload(job), self.data.parent_payload(job, self.boot_id));
        for there in [&large, &path] {
            if there.exists() {
                return Ok(there.clone());
            }
        }
        let Some((StoredPayload::Inline(bytes), _)) = self.store.payload(job).await? else {
            return Ok(large);
        };
        let (whole, folder) = (path.clone(), self.data.job(job));
        let write = move || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            let half = folder.join("payload.half");
            fs::write(&half, &bytes)?;
            fs::rename(half, whole)
        };
        self.background.blocking(write).await?;
        Ok(path)
    }

    async fn for_the_join(&self, claimed: &Claimed) -> Result<Bytes, NoKin> {
        let _turn = self.gathering.acquire().await;
        let payload = match &claimed.payload {
            StoredPayload::Inline(bytes) => bytes.clone(),
            StoredPayload::File { .. } => {
                let path = self.data.payload(claimed.lease.job);
                self.background.blocking(move || fs::read(path)).await?.into()
            }
        };
        let children = self
            .of_children(claimed.lease.job, |end, result| {
                json(&Child {
                    index: end.index,
                    id: end.id,
                    state: end.outcome.state().name(),
                    exit_code: end.outcome.exit_code(),
                    result: result.as_deref(),
                })
            })
            .await?;
        let children = children.iter().map(AsRef::as_ref).collect();
        let family = Family { payload: serde_json::from_slice(&payload).ok(), children };
        Ok(serde_json::to_vec(&family).map_err(io::Error::other)?.into())
    }

    /// What is made of each child, in order.
    async fn of_children(
        &self,
        parent: JobId,
        make: impl Fn(&ChildEnd, Option<Box<RawValue>>) -> Box<RawValue> + Send + Sync,
    ) -> Result<Vec<Box<RawValue>>, NoKin> {
        let (mut made, mut size, mut after) = (Vec::new(), 0, None);
        loop {
            let page = self.store.child_ends(parent, after, PAGE).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|end| end.id);
            for end in page {
                let (data, copy) = (self.data.clone(), end.clone());
                let result = match &end.result {
                    ResultSummary::File { .. } => {
                        self.background.blocking(move || result_of(&data, &copy)).await?
                    }
                    _ => result_of(&data, &copy)?,
                };
                let one = make(&end, result);
                size += one.get().len();
                if size > MOST {
                    return Err(NoKin::TooMuch);
                }
                made.push(one);
            }
            if last {
                return Ok(made);
            }
        }
    }
}

/// A child's result as JSON: what is none is text, and what is no text is left out.
fn result_of(data: &DataDir, end: &ChildEnd) -> io::Result<Option<Box<RawValue>>> {
    let (is_json, bytes) = match &end.result {
        ResultSummary::None => return Ok(None),
        ResultSummary::Inline { json, bytes } => (*json, bytes.clone()),
        ResultSummary::File { json, len } => {
            let mut bytes = Vec::new();
            let file = fs::File::open(data.result(end.id, end.attempt))?;
            file.take((*len).min(MOST as u64 + 1)).read_to_end(&mut bytes)?;
            (*json, bytes.into())
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(None) };
    match is_json {
        true => Ok(RawValue::from_string(text.trim().to_owned()).ok()),
        false => Ok(Some(json(&text))),
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("plain data has a JSON form")
}

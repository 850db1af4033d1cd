//! What goes over HTTP: the JSON shapes, shared by server and command line. Times are
//! RFC 3339 in UTC, durations milliseconds, sizes bytes; absent facts are `null`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::family::Counts;
use crate::id::{JobId, TaskName};
pub use crate::job::Progress;
use crate::job::{Artifact, AttemptRecord, JobRecord, OutputSummary, ResultSummary, StreamSummary};
use crate::outcome::Outcome;
use crate::output::Layout;
use crate::record;
use crate::schedule::{CatchUp, Overlap, ScheduleName};
use crate::state::JobState;
use crate::validate::Complaint;

mod delivery;

pub use self::delivery::{Delivery, DeliveryPage, Kind};

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// UUIDv7.
    pub id: JobId,
    /// Its task.
    pub task: TaskName,
    /// Where it stands.
    pub state: JobState,
    /// Attempts begun.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// 0-255 where the program exited.
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// When it was taken.
    pub submitted_at: Timestamp,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// When the program began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// From submission (or `run_at`) to the start.
    pub queued_ms: Option<u64>,
    /// From start to end.
    pub run_ms: Option<u64>,
    /// When a client asked for its end.
    pub cancel_requested_at: Option<Timestamp>,
    /// What it last said of itself.
    pub progress: Option<Progress>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Sizes and tails of its output.
    pub output: Option<Output>,
    /// Its result, where that is JSON of at most 64 KiB; else see `/result`.
    pub result: Option<Value>,
    /// Its parent.
    pub parent: Option<JobId>,
    /// Counts of its children by state.
    pub children: Option<Counts>,
    /// The job it repeats.
    pub retry_of: Option<JobId>,
    /// Its lane.
    pub lane: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// -100 to 100, higher sooner.
    pub priority: i32,
    /// `token:NAME` or `anonymous`.
    pub submitted_by: String,
    /// Where it ran.
    pub node: Option<String>,
    /// The config of its last attempt, else of its submission.
    pub config_revision: String,
    /// `cgroup` or `monitor`.
    pub containment: Option<String>,
    /// Processes found alive beside its leader, and ended.
    pub leaked_processes: u32,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in the program.
    pub user_ms: u64,
    /// Processor time in the kernel.
    pub system_ms: u64,
    /// Largest resident set; at least the keeper's own, which the kernel counts along.
    pub max_rss_bytes: u64,
}

/// Sizes and tails of both streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Bytes written to stdout.
    pub stdout_bytes: u64,
    /// Bytes written to stderr.
    pub stderr_bytes: u64,
    /// Of these, dropped.
    pub stdout_dropped: u64,
    /// Of these, dropped.
    pub stderr_dropped: u64,
    /// The last 16 KiB as text; what is not UTF-8 is replaced. Exact bytes: `/stdout`.
    pub stdout_tail: String,
    /// The same of stderr.
    pub stderr_tail: String,
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first.
    pub attempt: u32,
    /// How it ended; null while it runs.
    pub outcome: Option<Outcome>,
    /// 0-255 where the program exited.
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// When the program began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// From start to end.
    pub run_ms: Option<u64>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Sizes and tails of its output.
    pub output: Option<Output>,
    /// `cgroup` or `monitor`.
    pub containment: Option<String>,
    /// Processes found alive beside its leader, and ended.
    pub leaked_processes: u32,
    /// Where it ran.
    pub node: String,
    /// The config it ran under.
    pub config_revision: String,
}

/// Many of something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Items<T> {
    /// They.
    pub items: Vec<T>,
}

/// A page of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// Newest first; without tails and results.
    pub items: Vec<Job>,
    /// Opaque; null on the last page.
    pub next_cursor: Option<String>,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its name.
    pub name: TaskName,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Slots held.
    pub running: u64,
    /// Jobs waiting.
    pub queued: u64,
    /// Families that have begun; absent of a task that does not fan out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub families: Option<u64>,
    /// Over, since the store was made.
    pub finished: u64,
    /// Of these, not succeeded.
    pub failed: u64,
    /// Claims are stopped.
    pub paused: bool,
    /// Its limits.
    pub limits: TaskLimits,
    /// How fast it goes.
    pub rates: Rates,
}

/// Limits as JSON; null is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLimits {
    /// Attempts at once; of a task that fans out, families.
    pub max_running: Option<u64>,
    /// Of these, in one lane; absent without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_per_lane: Option<u64>,
    /// Jobs that may wait.
    pub max_queued: u64,
}

/// Measured over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Jobs taken a second.
    pub submitted_per_second: f64,
    /// Jobs ended a second.
    pub finished_per_second: f64,
}

/// The server as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Its version.
    pub version: String,
    /// When it began to serve.
    pub started_at: Timestamp,
    /// The config in force.
    pub config_revision: String,
    /// When it was read: at the start, or by the last reload.
    pub config_loaded_at: Timestamp,
    /// `cgroup` or `monitor`.
    pub containment: String,
    /// The keeper's process id.
    pub keeper_pid: u32,
    /// This process's id.
    pub server_pid: u32,
    /// Slots held.
    pub running: u64,
    /// Slots in all.
    pub max_running: u64,
    /// Jobs waiting, of all tasks.
    pub queued: u64,
    /// Jobs over.
    pub finished: u64,
    /// Of these, not succeeded.
    pub failed: u64,
    /// Open connections, and requests being worked on.
    pub connections: u64,
}

/// An error (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the `code` says more.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// For people: what is wrong and what to do.
    pub detail: String,
    /// Places in the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Complaint>,
}

/// What a job waits for, does, or came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// One sentence for people.
    pub summary: String,
    /// Jobs of its lane and family ahead of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// What it waits for: `node_slot`, `task_limit`, `lane_limit`, `family_limit`, `family`,
    /// `children`, `task_paused`, `task_removed`, `run_at`, `retry`, `dispatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Ends waiting then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The leader's process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Ends then by time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// When it last wrote something, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_output_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When a client asked for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<Timestamp>,
}

/// A list of files.
pub type Artifacts = Items<Artifact>;

impl Job {
    /// The whole job, as it is stored.
    pub fn of(record: JobRecord) -> Self {
        let due = record.run_at.map_or(record.submitted_at, |at| at.max(record.submitted_at));
        let result = match &record.result {
            ResultSummary::Inline { json: true, bytes } => serde_json::from_slice(bytes).ok(),
            _ => None,
        };
        Job {
            id: record.id,
            exit_code: record.outcome.as_ref().and_then(Outcome::exit_code),
            signal: record.outcome.as_ref().and_then(Outcome::signal),
            queued_ms: record.started_at.map(|at| ms_between(due, at)),
            run_ms: record.run_ms,
            usage: record.usage.map(Usage::of),
            output: record.output.as_ref().map(Output::of),
            result,
            task: record.task,
            state: record.state,
            attempt: record.attempt,
            max_attempts: record.max_attempts,
            outcome: record.outcome,
            submitted_at: record.submitted_at,
            run_at: record.run_at,
            started_at: record.started_at,
            finished_at: record.finished_at,
            cancel_requested_at: record.cancel_requested_at,
            progress: record.progress.or_else(|| progress_of(record.state, record.children.as_ref())),
            parent: record.parent,
            children: record.children,
            retry_of: record.retry_of,
            lane: record.lane,
            labels: record.labels,
            priority: record.priority,
            submitted_by: record.submitted_by,
            node: record.node,
            config_revision: record.config_revision,
            containment: record.containment.map(|level| level.name().to_owned()),
            leaked_processes: record.leaked,
        }
    }
}

/// How far a family is: its children that are over.
fn progress_of(state: JobState, children: Option<&Counts>) -> Option<Progress> {
    let children = children.filter(|_| state == JobState::Waiting)?;
    let all: u64 = children.values().sum();
    let over: u64 = children.iter().filter(|(state, _)| state.is_final()).map(|(_, many)| many).sum();
    let fraction = if all == 0 { 1.0 } else { over as f64 / all as f64 };
    Some(Progress { fraction, message: format!("{over} of {all} children are over") })
}

impl Attempt {
    /// One attempt, as it is stored.
    pub fn of(record: AttemptRecord) -> Self {
        Attempt {
            attempt: record.attempt,
            exit_code: record.outcome.as_ref().and_then(Outcome::exit_code),
            signal: record.outcome.as_ref().and_then(Outcome::signal),
            outcome: record.outcome,
            started_at: record.started_at,
            finished_at: record.finished_at,
            run_ms: record.run_ms,
            usage: record.usage.map(Usage::of),
            output: record.output.as_ref().map(Output::of),
            containment: record.containment.map(|level| level.name().to_owned()),
            leaked_processes: record.leaked,
            node: record.node,
            config_revision: record.config_revision,
        }
    }
}

impl Usage {
    fn of(usage: record::Usage) -> Self {
        Usage {
            user_ms: usage.user_us / 1000,
            system_ms: usage.system_us / 1000,
            max_rss_bytes: usage.max_rss_bytes,
        }
    }
}

impl Output {
    fn of(summary: &OutputSummary) -> Self {
        let dropped = |stream: &StreamSummary| {
            let middle = Layout::new(summary.limit).dropped(stream.written).map_or(0, |(_, len)| len);
            middle + (stream.total - stream.written)
        };
        let text = |stream: &StreamSummary| String::from_utf8_lossy(&stream.tail).into_owned();
        Output {
            stdout_bytes: summary.stdout.total,
            stderr_bytes: summary.stderr.total,
            stdout_dropped: dropped(&summary.stdout),
            stderr_dropped: dropped(&summary.stderr),
            stdout_tail: text(&summary.stdout),
            stderr_tail: text(&summary.stderr),
        }
    }
}

/// Milliseconds from one instant to a later one; 0 where a clock was set back between.
pub fn ms_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

/// A schedule, as the config has it and as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleInfo {
    /// Its name.
    pub name: ScheduleName,
    /// The task that runs.
    pub task: TaskName,
    /// When, as written.
    pub cron: String,
    /// By the clock of this time zone.
    pub timezone: String,
    /// What happens while its job before is not over.
    pub overlap: Overlap,
    /// What happens when nobody looked in time.
    pub catch_up: CatchUp,
    /// It runs nothing.
    pub paused: bool,
    /// The next moment; null while it is paused.
    pub next_run_at: Option<Timestamp>,
    /// When it last submitted a job, by the clock or by hand.
    pub last_run_at: Option<Timestamp>,
    /// That job. Its time may be over.
    pub last_job: Option<JobId>,
}

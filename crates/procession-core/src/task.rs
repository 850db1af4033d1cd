//! A task: a named program in the config that requests can run. Resolved once, from
//! there on only read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::family::FanOut;
use crate::id::TaskName;
use crate::job::{FollowUp, OnDuplicate};
use crate::launch::OutputMode;
use crate::limits::{Limit, TaskLimits};
use crate::placeholder::Template;
use crate::rate::Rate;
use crate::retry::RetryPolicy;
use crate::state::JobState;
use crate::validate::Schema;

/// Everything the config says of one task, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, unique in the config.
    pub name: TaskName,
    /// For people.
    pub description: Option<String>,
    /// A route of its own beside `/v1/tasks/{name}/jobs`.
    pub route: Option<Route>,
    /// `argv`; each element fills exactly one argument. Never a shell's string. Of a task that fans
    /// out, the join: empty without one.
    pub command: Vec<Template>,
    /// How it divides its requests.
    pub fan_out: Option<FanOut>,
    /// Absolute working directory.
    pub directory: PathBuf,
    /// What requests may send and where it goes.
    pub input: Input,
    /// Admission.
    pub limits: TaskLimits,
    /// How often a job is taken.
    pub rate: Option<Rate>,
    /// Divides its queue: jobs of one value take their turn.
    pub lane: Option<Template>,
    /// At most one unfinished job has the same value.
    pub unique: Option<Template>,
    /// What a second one means.
    pub on_duplicate: OnDuplicate,
    /// When another attempt follows.
    pub retry: RetryPolicy,
    /// Tasks that follow its jobs.
    pub then: Vec<FollowUp>,
    /// Who is told of their ends.
    pub callback: Option<Callback>,
    /// Ends an attempt; `None`: never.
    pub timeout: Option<Duration>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// Waiting longer ends the job as expired; `None`: never.
    pub queue_timeout: Option<Duration>,
    /// Output streams.
    pub output: Output,
    /// The result file or stdout.
    pub result: ResultRule,
    /// Leaves processes alone that outlive the leader.
    pub leave_children: bool,
    /// Variables set for the child beside the fixed ones; placeholders allowed.
    pub env: BTreeMap<String, Template>,
    /// Names (or `PREFIX_*`) taken over from the server's own environment.
    pub env_inherit: Vec<String>,
    /// Files copied into the scratch folder; the child gets `NAME_FILE`.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Labels of each job; placeholders allowed.
    pub labels: BTreeMap<String, Template>,
    /// The key of each job, where clients send none.
    pub idempotency_key: Option<Template>,
    /// Placeholders may fill an argument with a value that begins with `-`.
    pub allow_leading_dash: bool,
}

/// Who is told of a job's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// Where.
    pub url: Template,
    /// Signs what is sent; read at each delivery.
    pub secret_file: Option<PathBuf>,
    /// After which ends.
    pub on: Vec<Condition>,
}

/// Where requests of a task come in beside `/v1`, and how they are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// An absolute path without parameters.
    pub path: String,
    /// The shape of the answer.
    pub reply: Reply,
    /// No token is asked for.
    pub anonymous: bool,
}

/// Methods a route may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads only in name: it needs `wait`.
    Get,
    /// The usual one.
    Post,
}

/// How a route answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The body.
    pub format: ReplyFormat,
    /// Every answer has status 200; the envelope's `code` tells.
    pub always_200: bool,
    /// Answers only when the job is over, or this has passed.
    pub wait: Option<Duration>,
    /// Statuses for ends other than success.
    pub status: Vec<(JobState, u16)>,
}

/// The body of a route's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyFormat {
    /// The Job, as `/v1` answers.
    Job,
    /// `{"code":200,"message":"success"}`.
    Envelope,
    /// A line of text, from a template over `{{exit_code}}`, `{{state}}`, `{{job.id}}`, …
    Text {
        /// The template's text.
        template: String,
    },
    /// What the program wrote, byte for byte.
    Stdout,
}

/// What a request may carry and where its body goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// What a body is.
    pub body: Body,
    /// Where it goes.
    pub channel: Channel,
    /// Accepted content types; empty: JSON for JSON bodies, any for bytes.
    pub content_types: Vec<String>,
    /// The largest body, bytes.
    pub max_body: u64,
    /// What a JSON body must look like.
    pub schema: Option<Schema>,
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// One JSON value.
    #[default]
    Json,
    /// Bytes of any kind, stored as they arrive.
    Bytes,
}

/// Where a request's body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The program reads it.
    #[default]
    Stdin,
    /// A file named by `PROCESSION_PAYLOAD`.
    File,
    /// Only where the command's placeholders put it.
    Argv,
    /// The variable `PROCESSION_PAYLOAD` holds the text itself.
    Env,
    /// Nowhere.
    None,
}

/// What becomes of the output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// How they are caught.
    pub mode: OutputMode,
    /// Kept bytes of each stream and attempt.
    pub limit: u64,
}

/// Where a result is found and what it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRule {
    /// Where.
    pub source: ResultSource,
    /// Exit 0 without a result is a failure.
    pub required: bool,
    /// What it must look like.
    pub schema: Option<Schema>,
}

/// Where a result is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultSource {
    /// The file named by `PROCESSION_RESULT`.
    #[default]
    File,
    /// Standard output.
    Stdout,
}

impl Task {
    /// Every template a request fills.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.command
            .iter()
            .chain(self.env.values())
            .chain(self.labels.values())
            .chain(self.idempotency_key.as_ref())
            .chain(self.lane.as_ref())
            .chain(self.unique.as_ref())
            .chain(self.callback.as_ref().map(|callback| &callback.url))
    }

    /// A task with the defaults of the contract, running `command`.
    pub fn new(name: TaskName, command: Vec<Template>, directory: PathBuf) -> Self {
        Self {
            name,
            description: None,
            route: None,
            command,
            fan_out: None,
            directory,
            input: Input::default(),
            limits: TaskLimits {
                max_running: Limit::Unlimited,
                per_lane: Limit::Unlimited,
                max_queued: 1000,
            },
            rate: None,
            lane: None,
            unique: None,
            on_duplicate: OnDuplicate::default(),
            retry: RetryPolicy::default(),
            then: Vec::new(),
            callback: None,
            timeout: Some(Duration::from_secs(3600)),
            grace: Duration::from_secs(10),
            queue_timeout: None,
            output: Output::default(),
            result: ResultRule { source: ResultSource::File, required: false, schema: None },
            leave_children: false,
            env: BTreeMap::new(),
            env_inherit: Vec::new(),
            secrets: BTreeMap::new(),
            labels: BTreeMap::new(),
            idempotency_key: None,
            allow_leading_dash: false,
        }
    }

    /// [`Task::new`] from texts.
    ///
    /// # Panics
    /// On a bad name or template.
    pub fn for_testing(name: &str, command: &[&str]) -> Self {
        let command = command.iter().map(|text| Template::parse(text).expect("a template")).collect();
        Self::new(name.parse().expect("a task name"), command, PathBuf::from("/"))
    }
}

impl Default for Input {
    fn default() -> Self {
        Self {
            body: Body::Json,
            channel: Channel::Stdin,
            content_types: Vec::new(),
            max_body: 1 << 20,
            schema: None,
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self { mode: OutputMode::Separate, limit: 100 << 20 }
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self { format: ReplyFormat::Job, always_200: false, wait: None, status: Vec::new() }
    }
}

//! Whether a request is a job of its task. All complaints come together, each with the
//! place in the body it is about. What passes is a [`ValidJob`], which only this module
//! makes: nothing unchecked reaches the store.

mod brood;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::command::{self, Surroundings, TooLarge};
use crate::id::TaskName;
use crate::limits::{MAX_LANE, MAX_UNIQUE};
use crate::payload::Payload;
use crate::placeholder::{FillError, JobFacts, LeadingDash, RequestValues, Source, Template, Values};
use crate::task::Task;
use brood::Brood;

/// The most complaints about one request.
const MOST_COMPLAINTS: usize = 100;

/// A compiled JSON Schema. References outside itself are refused, its patterns match in
/// linear time.
#[derive(Clone)]
pub struct Schema {
    source: Arc<Value>,
    validator: Arc<jsonschema::Validator>,
}

/// One thing wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// The schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a usable JSON Schema: {0}")]
pub struct BadSchema(String);

/// What a client sent, read but not yet judged.
#[derive(Clone, Debug)]
pub enum RequestBody {
    /// One JSON value.
    Json(Payload),
    /// Bytes of any kind, already in a file.
    Bytes,
}

/// A job that may be admitted, and those below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidJob {
    labels: BTreeMap<String, String>,
    idempotency_key: Option<String>,
    lane: Option<String>,
    unique: Option<String>,
    callback: Option<String>,
    request: RequestValues,
    children: Vec<ValidChild>,
}

/// A job below another.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidChild {
    /// What it runs.
    pub task: Arc<Task>,
    /// Its own: the exact bytes of its element.
    pub payload: Bytes,
    /// What its task makes of it.
    pub job: ValidJob,
}

impl ValidJob {
    /// Its labels, filled.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The key the task's `idempotency_key` makes of it.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// Its lane, as the task's `lane` makes it.
    pub fn lane(&self) -> Option<&str> {
        self.lane.as_deref()
    }

    /// What no other unfinished job of its task may have.
    pub fn unique(&self) -> Option<&str> {
        self.unique.as_deref()
    }

    /// Where its end is told.
    pub fn callback(&self) -> Option<&str> {
        self.callback.as_deref()
    }

    /// The query and header values its task names, to be kept with it.
    pub fn request(&self) -> &RequestValues {
        &self.request
    }

    /// The jobs below it, in order.
    pub fn into_children(self) -> Vec<ValidChild> {
        self.children
    }
}

/// Why a request is no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The body does not fit the schema: 422 `invalid_payload`.
    #[error("the payload does not fit the task's schema")]
    Payload(Vec<Complaint>),
    /// A value cannot be put where the task needs it: 422 `invalid_argument`.
    #[error("a value cannot be used in the task's command")]
    Argument(Vec<Complaint>),
    /// The kernel would refuse the arguments: 413 `argument_too_large`.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// The tasks of a config, by name.
pub type Tasks = BTreeMap<TaskName, Arc<Task>>;

/// Judges a request, and what its task makes of it. `surroundings` is what every job of this server
/// shares, `tasks` are those that families name.
pub fn validate(
    task: &Task,
    body: &RequestBody,
    request: &RequestValues,
    surroundings: &Surroundings,
    tasks: &Tasks,
) -> Result<ValidJob, Rejection> {
    let mut job = alone(task, body, request, surroundings)?;
    if let (Some(fan_out), RequestBody::Json(payload)) = (&task.fan_out, body) {
        job.children = Brood::new(request, surroundings, tasks).children(fan_out, payload)?;
    }
    Ok(job)
}

/// Without what is below it.
fn alone(
    task: &Task,
    body: &RequestBody,
    request: &RequestValues,
    surroundings: &Surroundings,
) -> Result<ValidJob, Rejection> {
    let null = Value::Null;
    let (payload, payload_text) = match body {
        RequestBody::Json(payload) => (payload.value(), payload.text()),
        RequestBody::Bytes => (&null, ""),
    };
    if let (RequestBody::Json(_), Some(schema)) = (body, &task.input.schema) {
        let complaints = schema.complaints(payload);
        if !complaints.is_empty() {
            return Err(Rejection::Payload(complaints));
        }
    }
    let facts = JobFacts::widest(&surroundings.job_folder);
    let request = named_by(task, request);
    let values = Values { payload, payload_text, request: &request, job: &facts };
    let mut complaints = Vec::new();
    let labels = fill_all(&task.labels, values, &mut complaints);
    let mut fill = |template: &Option<Template>| fill_one(template.as_ref()?, values, &mut complaints);
    let (idempotency_key, lane, unique) = (fill(&task.idempotency_key), fill(&task.lane), fill(&task.unique));
    for (key, text, most) in [("lane", &lane, MAX_LANE), ("unique", &unique, MAX_UNIQUE)] {
        if text.as_ref().is_some_and(|text| text.len() > most) {
            let detail = format!("the task's `{key}` becomes longer than {most} bytes");
            complaints.push(Complaint { pointer: String::new(), detail });
        }
    }
    let callback = task
        .callback
        .as_ref()
        .and_then(|callback| callback.url(values).map_err(|complaint| complaints.push(complaint)).ok());
    match command::assemble(task, values, surroundings) {
        Ok(command) if complaints.is_empty() => command.check_size()?,
        Ok(_) => {}
        Err(errors) => complaints.extend(errors.iter().map(complaint)),
    }
    if complaints.is_empty() {
        let children = Vec::new();
        Ok(ValidJob { labels, idempotency_key, lane, unique, callback, request, children })
    } else {
        complaints.dedup();
        Err(Rejection::Argument(complaints))
    }
}

/// Only what the task's templates name is kept: a header nobody asked for is not stored.
fn named_by(task: &Task, all: &RequestValues) -> RequestValues {
    let mut kept = RequestValues::default();
    keep(&all.headers, "traceparent", &mut kept.headers);
    for hole in task.templates().flat_map(Template::holes) {
        match &hole.from {
            Source::Query(name) => keep(&all.query, name, &mut kept.query),
            Source::Header(name) => keep(&all.headers, name, &mut kept.headers),
            Source::Payload(_) | Source::PayloadFile | Source::Job(_) => {}
        }
    }
    kept
}

fn keep(all: &BTreeMap<String, String>, name: &str, kept: &mut BTreeMap<String, String>) {
    if let Some(value) = all.get(name) {
        kept.insert(name.to_owned(), value.clone());
    }
}

fn fill_all(
    templates: &BTreeMap<String, Template>,
    values: Values<'_>,
    complaints: &mut Vec<Complaint>,
) -> BTreeMap<String, String> {
    let fill = |(name, template): (&String, &Template)| {
        fill_one(template, values, complaints).map(|text| (name.clone(), text))
    };
    templates.iter().filter_map(fill).collect()
}

fn fill_one(template: &Template, values: Values<'_>, complaints: &mut Vec<Complaint>) -> Option<String> {
    template.fill(values, LeadingDash::Allowed).map_err(|error| complaints.push(complaint(&error))).ok()
}

fn complaint(error: &FillError) -> Complaint {
    Complaint { pointer: error.pointer.clone(), detail: error.to_string() }
}

impl Schema {
    /// Compiles `source`, which must hold all it refers to.
    pub fn compile(source: Value) -> Result<Self, BadSchema> {
        let validator = jsonschema::options()
            .with_pattern_options(jsonschema::PatternOptions::regex().size_limit(1 << 20))
            .should_validate_formats(true)
            .offline()
            .build(&source)
            .map_err(|error| BadSchema(error.to_string()))?;
        Ok(Self { source: Arc::new(source), validator: Arc::new(validator) })
    }

    /// All that is wrong with `value`; empty where it fits.
    pub fn complaints(&self, value: &Value) -> Vec<Complaint> {
        let complaint = |error: jsonschema::ValidationError<'_>| Complaint {
            pointer: error.instance_path().to_string(),
            detail: shortened(&error.to_string()),
        };
        self.validator.iter_errors(value).take(MOST_COMPLAINTS).map(complaint).collect()
    }

    /// The schema as written.
    pub fn source(&self) -> &Value {
        &self.source
    }
}

/// A validator quotes the whole offending value; a client needs to recognise it, not get
/// a megabyte back.
fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    if text.chars().count() <= MOST {
        return text.into();
    }
    let head: String = text.chars().take(MOST / 2).collect();
    let tail: Vec<char> = text.chars().rev().take(MOST / 2).collect();
    format!("{head} … {}", tail.into_iter().rev().collect::<String>())
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.source).finish()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Schema::compile(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(task: &Task, payload: &Value) -> Result<ValidJob, Rejection> {
        let payload = Payload::parse(Bytes::from(payload.to_string())).expect("JSON");
        let request = RequestValues {
            headers: [("x-a".to_owned(), "1".to_owned()), ("cookie".to_owned(), "s".to_owned())].into(),
            ..Default::default()
        };
        validate(task, &RequestBody::Json(payload), &request, &Surroundings::for_testing(), &Tasks::new())
    }

    #[test]
    fn all_complaints_come_together() {
        let mut task = Task::for_testing("t", &["true"]);
        let schema = json!({"type": "object", "required": ["a", "b"],
            "properties": {"n": {"type": "integer"}}});
        task.input.schema = Some(Schema::compile(schema).expect("a schema"));
        let Err(Rejection::Payload(complaints)) = request(&task, &json!({"n": "x"})) else { panic!() };
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints.iter().any(|c| c.pointer == "/n"));
    }

    #[test]
    fn only_named_headers_are_kept() {
        let task = Task::for_testing("t", &["echo", "{{header.x-a}}"]);
        let job = request(&task, &json!(1)).expect("valid");
        assert_eq!(job.request().headers.keys().collect::<Vec<_>>(), ["x-a"]);
    }

    #[test]
    fn labels_and_arguments_complain_together() {
        let mut task = Task::for_testing("t", &["echo", "{{payload.a}}"]);
        task.labels.insert("who".into(), Template::parse("{{payload.b}}").expect("a template"));
        let Err(Rejection::Argument(complaints)) = request(&task, &json!({})) else { panic!() };
        let pointers: Vec<_> = complaints.iter().map(|c| c.pointer.as_str()).collect();
        assert_eq!(pointers, ["/b", "/a"]);
    }

    #[test]
    fn p29_an_argument_the_kernel_would_refuse_is_refused_before() {
        let task = Task::for_testing("t", &["echo", "{{payload.a}}"]);
        let fits = "x".repeat(127 * 1024);
        assert!(request(&task, &json!({"a": fits})).is_ok());
        let too_long = "x".repeat(200 * 1024);
        assert!(matches!(request(&task, &json!({"a": too_long})), Err(Rejection::TooLarge(_))));
        let many: Vec<String> = (0..30).map(|n| format!("{{{{payload.{n}}}}}")).collect();
        let words: Vec<&str> = std::iter::once("echo").chain(many.iter().map(String::as_str)).collect();
        let task = Task::for_testing("t", &words);
        let payload = json!(vec!["x".repeat(100 * 1024); 30]);
        assert!(matches!(request(&task, &payload), Err(Rejection::TooLarge(_))), "3 MB in all");
    }

    #[test]
    fn a_schema_reads_nothing_from_outside() {
        for reference in ["http://127.0.0.1:1/x", "file:///etc/passwd"] {
            assert!(Schema::compile(json!({"$ref": reference})).is_err(), "{reference}");
        }
        let evil = Schema::compile(json!({"pattern": "^(a+)+$"})).expect("linear");
        let long = format!("{}!", "a".repeat(100_000));
        assert_eq!(evil.complaints(&json!(long)).len(), 1);
    }
}

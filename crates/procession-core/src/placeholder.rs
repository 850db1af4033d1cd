//! `{{…}}` in a command, an environment value, a label: parsed once with the config,
//! filled once per job. One placeholder fills one argument or part of one; nothing a
//! client sends can make two arguments of one, reach a shell, or look like an option.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A text with places to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Written as it is.
    Text(String),
    /// Filled.
    Hole(Placeholder),
}

/// One `{{…}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// What fills it.
    pub from: Source,
    /// What stands there when the request has no such value.
    pub default: Option<String>,
}

/// Where a placeholder's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The body: all of it (an empty path), or one value in it.
    Payload(Vec<String>),
    /// A query parameter.
    Query(String),
    /// A header, by its lower-case name.
    Header(String),
    /// The path of the body as a file.
    PayloadFile,
    /// A fact of the job, known at its start.
    Job(JobFact),
}

/// What a command may ask of its own job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobFact {
    /// Its id.
    Id,
    /// The attempt's number.
    Attempt,
    /// Its place among its parent's children.
    Index,
    /// Its scratch folder.
    Dir,
    /// Where artifacts go.
    Artifacts,
    /// Where the result goes.
    Result,
}

impl JobFact {
    /// All, with the names they have in a template.
    pub const ALL: [(JobFact, &'static str); 6] = [
        (JobFact::Id, "id"),
        (JobFact::Attempt, "attempt"),
        (JobFact::Index, "index"),
        (JobFact::Dir, "dir"),
        (JobFact::Artifacts, "artifacts"),
        (JobFact::Result, "result"),
    ];
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// `{{` without `}}`.
    #[error("`{{{{` without `}}}}`")]
    Unclosed,
    /// A name that nothing fills.
    #[error(
        "nothing is called `{{{{{0}}}}}`; there are payload, payload.…, query.…, header.…, payload_file, job.id, job.attempt, job.index, job.dir, job.artifacts and job.result"
    )]
    Unknown(String),
}

/// What fills templates: the request's part is kept with the job, so that a job filled
/// hours later by another config still knows it.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The parsed body; `Null` for a body of bytes.
    pub payload: &'a Value,
    /// The body's exact text, for `{{payload}}`.
    pub payload_text: &'a str,
    /// Query and headers.
    pub request: &'a RequestValues,
    /// Facts of the job; before its start, what is not known yet has a stand-in of the
    /// greatest length (see [`JobFacts::widest`]).
    pub job: &'a JobFacts,
}

/// The query parameters and headers a task's templates name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestValues {
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// By lower-case name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// The job's own facts, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFacts {
    /// By fact.
    pub facts: BTreeMap<JobFact, String>,
    /// The body as a file.
    pub payload_file: String,
    /// A child's parent.
    pub parent: Option<ParentFacts>,
}

/// What a child is told of its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentFacts {
    /// Its id.
    pub id: String,
    /// Its body as a file.
    pub payload_file: String,
}

impl JobFacts {
    /// Stand-ins no real fact outgrows: sizes are checked with them before a job is taken.
    pub fn widest(folder: &str) -> Self {
        let path = format!("{folder}/{}", "x".repeat(80));
        let text = |fact| match fact {
            JobFact::Id => "x".repeat(36),
            JobFact::Attempt | JobFact::Index => "4294967295".into(),
            JobFact::Dir | JobFact::Artifacts | JobFact::Result => path.clone(),
        };
        Self {
            facts: JobFact::ALL.iter().map(|(fact, _)| (*fact, text(*fact))).collect(),
            payload_file: path.clone(),
            parent: Some(ParentFacts { id: "x".repeat(36), payload_file: path }),
        }
    }
}

/// A value could not be put in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FillError {
    /// JSON pointer into the body where the value would stand; empty for query and header.
    pub pointer: String,
    /// What is wrong.
    pub problem: FillProblem,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillProblem {
    /// There is none.
    #[error("`{0}` is required and missing")]
    Missing(String),
    /// It holds a NUL, which no argument can.
    #[error("`{0}` holds a NUL character")]
    Nul(String),
    /// It would be read as an option.
    #[error("`{0}` begins with `-`, where it would be read as an option")]
    LeadingDash(String),
}

impl Template {
    /// Reads `text`; `{{` always opens a placeholder.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            let inner = &rest[open + 2..];
            let close = inner.find("}}").ok_or(BadTemplate::Unclosed)?;
            parts.push(Part::Hole(Placeholder::parse(inner[..close].trim())?));
            rest = &inner[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { source: text.into(), parts })
    }

    /// The text as the config has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its stretches, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The placeholders in it.
    pub fn holes(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole(hole) => Some(hole),
            Part::Text(_) => None,
        })
    }

    /// Whether a client decides any of it.
    pub fn takes_client_text(&self) -> bool {
        self.holes()
            .any(|hole| matches!(hole.from, Source::Payload(_) | Source::Query(_) | Source::Header(_)))
    }

    /// The text with every place filled. `dash`: whether a value may begin with `-` where
    /// nothing stands before it.
    pub fn fill(&self, values: Values<'_>, dash: LeadingDash) -> Result<String, FillError> {
        let mut out = String::with_capacity(self.source.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Hole(hole) => {
                    let value = hole.value(values)?;
                    let client = !matches!(hole.from, Source::Job(_) | Source::PayloadFile);
                    if client && dash == LeadingDash::Refused && out.is_empty() && value.starts_with('-') {
                        return Err(hole.error(FillProblem::LeadingDash));
                    }
                    out.push_str(&value);
                }
            }
        }
        Ok(out)
    }
}

/// Whether a client's value may open an argument with `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadingDash {
    /// It would be read as an option.
    Refused,
    /// The task says so, or the place is no argument.
    Allowed,
}

impl Placeholder {
    fn parse(inner: &str) -> Result<Self, BadTemplate> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name.trim(), Some(default.to_owned())),
            None => (inner, None),
        };
        let from = Source::parse(name).ok_or_else(|| BadTemplate::Unknown(inner.into()))?;
        Ok(Self { from, default })
    }

    fn value(&self, values: Values<'_>) -> Result<String, FillError> {
        let found = match &self.from {
            Source::Payload(path) if path.is_empty() => Some(values.payload_text.to_owned()),
            Source::Payload(path) => {
                lookup(values.payload, path).and_then(|found| as_text(found, path, values))
            }
            Source::Query(name) => values.request.query.get(name).cloned(),
            Source::Header(name) => values.request.headers.get(name).cloned(),
            Source::PayloadFile => Some(values.job.payload_file.clone()),
            Source::Job(fact) => values.job.facts.get(fact).cloned(),
        };
        let text = found.or_else(|| self.default.clone()).ok_or_else(|| self.error(FillProblem::Missing))?;
        if text.contains('\0') {
            return Err(self.error(FillProblem::Nul));
        }
        Ok(text)
    }

    fn error(&self, problem: fn(String) -> FillProblem) -> FillError {
        FillError { pointer: self.from.pointer(), problem: problem(self.from.to_string()) }
    }
}

impl Source {
    fn parse(name: &str) -> Option<Self> {
        let (root, rest) = match name.split_once('.') {
            Some((root, rest)) => (root, Some(rest)),
            None => (name, None),
        };
        match (root, rest) {
            ("payload", None) => Some(Source::Payload(Vec::new())),
            ("payload", Some(path)) => {
                let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
                keys.iter().all(|key| !key.is_empty()).then_some(Source::Payload(keys))
            }
            ("payload_file", None) => Some(Source::PayloadFile),
            ("query", Some(name)) if !name.is_empty() => Some(Source::Query(name.into())),
            ("header", Some(name)) if !name.is_empty() => Some(Source::Header(name.to_ascii_lowercase())),
            ("job", Some(name)) => {
                JobFact::ALL.iter().find(|(_, known)| *known == name).map(|(fact, _)| Source::Job(*fact))
            }
            _ => None,
        }
    }

    fn pointer(&self) -> String {
        match self {
            Source::Payload(path) => crate::payload::pointer(path),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Payload(path) if path.is_empty() => f.write_str("payload"),
            Source::Payload(path) => write!(f, "payload.{}", path.join(".")),
            Source::Query(name) => write!(f, "query.{name}"),
            Source::Header(name) => write!(f, "header.{name}"),
            Source::PayloadFile => f.write_str("payload_file"),
            Source::Job(fact) => {
                let name = JobFact::ALL.iter().find(|(known, _)| known == fact).map_or("", |(_, name)| name);
                write!(f, "job.{name}")
            }
        }
    }
}

fn lookup<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, key| match at {
        Value::Object(fields) => fields.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Text as itself, everything else as JSON; null counts as missing, as it does for the
/// programs that ask `is None`. Numbers, and what holds some, stand as the client wrote them:
/// read as a binary fraction, a long one would be another.
fn as_text(value: &Value, path: &[String], values: Values<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(raw_at(values.payload_text, path).unwrap_or_else(|| value.to_string()))
        }
    }
}

/// The JSON text of the value at `path`.
fn raw_at(text: &str, path: &[String]) -> Option<String> {
    let mut at: &RawValue = serde_json::from_str(text).ok()?;
    for key in path {
        at = if at.get().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(at.get()).ok()?.get(key.parse::<usize>().ok()?)?
        } else {
            serde_json::from_str::<BTreeMap<String, &RawValue>>(at.get()).ok()?.get(key)?
        };
    }
    Some(at.get().to_owned())
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Template::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill_with(template: &str, payload: Value, dash: LeadingDash) -> Result<String, FillError> {
        let text = payload.to_string();
        let request = RequestValues {
            query: [("x".to_owned(), "-q".to_owned())].into(),
            headers: [("x-who".to_owned(), "me".to_owned())].into(),
        };
        let job = JobFacts::widest("/d");
        let values = Values { payload: &payload, payload_text: &text, request: &request, job: &job };
        Template::parse(template).expect(template).fill(values, dash)
    }

    fn fill(template: &str, payload: Value) -> Result<String, FillError> {
        fill_with(template, payload, LeadingDash::Refused)
    }

    #[test]
    fn fills() {
        let payload = json!({"a": {"b": [7, "x y; rm -rf /"]}, "t": true});
        for (template, expected) in [
            ("plain", "plain"),
            ("{{payload.a.b.0}}", "7"),
            ("--n={{payload.a.b.1}}!", "--n=x y; rm -rf /!"),
            ("{{payload.t}}{{header.X-Who}}", "trueme"),
            ("{{query.y:-fast}}", "fast"),
            ("{{ payload.a }}", r#"{"b":[7,"x y; rm -rf /"]}"#),
            ("{{query.y:-}}", ""),
        ] {
            assert_eq!(fill(template, payload.clone()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_number_stands_as_the_client_wrote_it() {
        let text = r#"{"a": {"n": [12345678901234567890123, 1.50, 1e3]}}"#;
        let payload: Value = serde_json::from_str(text).expect("JSON");
        let (request, job) = (RequestValues::default(), JobFacts::widest("/d"));
        let values = Values { payload: &payload, payload_text: text, request: &request, job: &job };
        let template =
            Template::parse("{{payload.a.n.0}} {{payload.a.n.1}} {{payload.a.n.2}} {{payload.a.n}}")
                .expect("a template");
        let filled = template.fill(values, LeadingDash::Refused);
        let expected = "12345678901234567890123 1.50 1e3 [12345678901234567890123, 1.50, 1e3]";
        assert_eq!(filled.as_deref(), Ok(expected));
    }

    #[test]
    fn p29_refuses_what_no_argument_can_hold() {
        let missing = fill("{{payload.a.0}}", json!({"a": []})).expect_err("nothing there");
        assert_eq!(missing.pointer, "/a/0");
        assert_eq!(missing.to_string(), "`payload.a.0` is required and missing");
        let null = fill("{{payload.a}}", json!({"a": null})).expect_err("null is missing");
        assert_eq!(null.problem, FillProblem::Missing("payload.a".into()));
        let nul = fill("x{{payload.a}}", json!({"a": "b\u{0}c"})).expect_err("a NUL");
        assert_eq!(nul.problem, FillProblem::Nul("payload.a".into()));
    }

    #[test]
    fn a_leading_dash_is_refused_only_where_it_makes_an_option() {
        assert!(fill("{{payload}}", json!("--x")).is_ok(), "JSON text begins with a quote");
        assert!(fill("{{payload.a}}", json!({"a": "-x"})).is_err());
        assert!(fill("{{query.x}}", json!(null)).is_err());
        assert!(fill("--opt={{payload.a}}", json!({"a": "-x"})).is_ok());
        assert!(fill("{{payload.b}}{{payload.a}}", json!({"a": "-x", "b": ""})).is_err());
        assert!(fill_with("{{payload.a}}", json!({"a": -5}), LeadingDash::Allowed).is_ok());
    }

    #[test]
    fn bad_templates() {
        assert_eq!(Template::parse("{{payload"), Err(BadTemplate::Unclosed));
        for bad in ["{{}}", "{{payloads}}", "{{job.x}}", "{{query.}}", "{{payload..a}}", "{{env.PATH}}"] {
            assert!(matches!(Template::parse(bad), Err(BadTemplate::Unknown(_))), "{bad}");
        }
    }
}

//! Query parameters and the headers that go with them, read by name; what cannot be read
//! is an error that names the parameter.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query as Pairs};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use jiff::Timestamp;
use procession_core::quantity::parse_duration;

use super::problem::{Answer, Failure};

/// The longest a request may wait for a job.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// The query of a request, in its order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Pairs(pairs) =
            Pairs::try_from_uri(&parts.uri).map_err(|_| Failure::query("?", "not readable"))?;
        Ok(Self(pairs))
    }
}

impl Query {
    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All parameters whose name begins so, without that beginning.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// A value of some type.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Answer<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        self.get(name).map(|text| text.parse().map_err(|problem| Failure::query(name, problem))).transpose()
    }

    /// `1`, `true` or nothing at all.
    pub fn flag(&self, name: &str) -> Answer<bool> {
        match self.get(name) {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(Failure::query(name, "write 1 or 0")),
        }
    }

    /// A duration, as seconds (`30`) or with its unit (`30s`).
    pub fn duration(&self, name: &str) -> Answer<Option<Duration>> {
        self.get(name).map(|text| duration(text).map_err(|problem| Failure::query(name, problem))).transpose()
    }

    /// `wait`, at most [`MAX_WAIT`].
    pub fn wait(&self) -> Answer<Option<Duration>> {
        Ok(self.duration("wait")?.map(|wait| wait.min(MAX_WAIT)))
    }

    /// An instant: RFC 3339, or so long ago (`1h`).
    pub fn since(&self, name: &str) -> Answer<Option<Timestamp>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if let Ok(ago) = parse_duration(text) {
            return Ok(Timestamp::now().checked_sub(ago).ok());
        }
        text.parse()
            .map(Some)
            .map_err(|_| Failure::query(name, "write a time like 2026-01-05T09:00:00Z, or 1h"))
    }

    /// Every parameter by name; the last of a name counts.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().cloned().collect()
    }
}

fn duration(text: &str) -> Result<Duration, procession_core::quantity::BadQuantity> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    }
}

/// `Prefer: wait=30` (RFC 7240), at most [`MAX_WAIT`].
pub fn prefer_wait(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|part| part.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .map(|(_, seconds)| seconds.trim().trim_matches('"'))
        .find(|seconds| !seconds.is_empty() && seconds.bytes().all(|c| c.is_ascii_digit()))
        // More digits than a number holds are still a long wait.
        .map(|seconds| Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)).min(MAX_WAIT))
}

/// All headers as text, by lower-case name; several of a name are joined.
pub fn header_map(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut map = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let Ok(text) = value.to_str() else { continue };
        map.entry(name.as_str().to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(text);
            })
            .or_insert_with(|| text.to_owned());
    }
    map
}

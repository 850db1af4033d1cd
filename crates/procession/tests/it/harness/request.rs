//! A request, as it goes over the wire.

use serde_json::Value;

/// What a client sends. `Host`, `Authorization` and `Content-Length` are added by the client
/// where the request does not say otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    left_out: Vec<String>,
}

impl Request {
    /// Any method, to any target.
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// `GET`.
    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    /// `POST`, without a body yet.
    pub fn post(target: impl Into<String>) -> Self {
        Self::new("POST", target)
    }

    /// A `POST` that submits a job.
    pub fn submit(task: &str, payload: &Value) -> Self {
        Self::post(format!("/v1/tasks/{task}/jobs")).json(payload)
    }

    /// With this header, besides others of its name.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Without a header the client would add.
    pub fn without(mut self, name: &str) -> Self {
        self.left_out.push(name.to_ascii_lowercase());
        self
    }

    /// With this JSON.
    pub fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// With these bytes.
    pub fn body(mut self, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self.header("Content-Type", content_type)
    }

    /// With these bytes and no content type.
    pub fn bare_body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// The bytes on the wire; `defaults` are headers to add unless they are there.
    pub(super) fn to_bytes(&self, defaults: &[(&str, String)]) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let there = |name: &str| {
            self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
                || self.left_out.contains(&name.to_ascii_lowercase())
        };
        let length = (!self.body.is_empty() || self.method == "POST")
            .then(|| ("Content-Length", self.body.len().to_string()));
        for (name, value) in defaults.iter().cloned().chain(length).filter(|(name, _)| !there(name)) {
            text += &format!("{name}: {value}\r\n");
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// An answer to a `HEAD` has no body, whatever its headers say.
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

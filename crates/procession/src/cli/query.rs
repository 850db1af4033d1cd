//! Paths with a query, percent-encoded.
//!
//! What stands in a path itself is a parsed task name or job id, so only parameters need it.

use std::fmt::Write as _;

/// A path to which parameters are added.
#[derive(Debug)]
pub(super) struct Query {
    text: String,
    next: char,
}

impl Query {
    /// `path` is sent as it is.
    pub(super) fn of(path: impl Into<String>) -> Self {
        Query { text: path.into(), next: '?' }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.text.push(self.next);
        encode(name, &mut self.text);
        self.text.push('=');
        encode(value, &mut self.text);
        self.next = '&';
        self
    }

    /// With the parameter, where there is a value.
    pub(super) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn end(self) -> String {
        self.text
    }
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte))
            }
            _ => write!(into, "%{byte:02X}").expect("a string takes everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_joined_and_encoded() {
        let query =
            Query::of("/v1/jobs").with("label.a b", "1&2=ü").maybe("task", None).maybe("limit", Some("3"));
        assert_eq!(query.end(), "/v1/jobs?label.a%20b=1%262%3D%C3%BC&limit=3");
    }
}

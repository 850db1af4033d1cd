//! Where the end of a job is told, as its task and its request say: a URL of the config's own,
//! or one that a client has part in, which leads to hosts of a list only.
//!
//! Addresses are judged when it is sent, by who sends it.

use crate::placeholder::{Source, Template, Values};
use crate::target::{BadTarget, Target};
use crate::task::Callback;
use crate::validate::Complaint;

impl Callback {
    /// Whether the config alone says where it goes.
    pub fn is_fixed(&self) -> bool {
        self.url.holes().next().is_none()
    }

    /// The URL for one request. A value that stands behind the host is encoded as one step of a
    /// path or one word of a query; one that stands before may be the whole URL.
    pub fn url(&self, values: Values<'_>) -> Result<String, Complaint> {
        let filled = self.url.fill_with(values, put);
        let url = filled
            .map_err(|error| Complaint { pointer: error.pointer.clone(), detail: error.to_string() })?;
        if !self.is_fixed() {
            let complain = |detail| Complaint { pointer: culprit(&self.url), detail };
            let target: Target =
                url.parse().map_err(|bad: BadTarget| complain(format!("no url for a callback: {bad}")))?;
            self.judge(&target).map_err(|bad| complain(bad.to_string()))?;
        }
        Ok(url)
    }

    /// Whether a URL that a client has part in may lead there.
    pub fn judge(&self, target: &Target) -> Result<(), NotListed> {
        let listed = self.hosts.iter().any(|pattern| pattern.matches(&target.host));
        if listed { Ok(()) } else { Err(NotListed(target.host.clone())) }
    }
}

/// The config lets nobody choose this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("callbacks do not go to `{0}`: it is not among `callback_hosts`")]
pub struct NotListed(String);

fn put(before: &mut String, value: &str) {
    if !is_behind_host(before) {
        return before.push_str(value);
    }
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => before.push(byte.into()),
            _ => before.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Whether what is added to `text` can be no part of the host.
pub fn is_behind_host(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']))
}

/// Of the values in it, the first from the body: where to look.
fn culprit(url: &Template) -> String {
    let of_body = |source: &Source| matches!(source, Source::Payload(_));
    url.holes().map(|hole| &hole.from).find(|from| of_body(from)).map_or_else(String::new, Source::pointer)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::placeholder::{JobFacts, RequestValues};

    fn url(template: &str, hosts: &[&str], payload: &Value) -> Result<String, Complaint> {
        let callback = Callback {
            url: Template::parse(template).expect("a template"),
            secret_file: None,
            on: Vec::new(),
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
        };
        let (text, job) = (payload.to_string(), JobFacts::widest("/d"));
        let request =
            RequestValues { query: [("q".to_owned(), "a b".to_owned())].into(), ..Default::default() };
        callback.url(Values { payload, payload_text: &text, request: &request, job: &job })
    }

    #[test]
    fn the_configs_own_goes_anywhere() {
        let fixed = url("http://127.0.0.1:9000/done", &[], &json!({}));
        assert_eq!(fixed.as_deref(), Ok("http://127.0.0.1:9000/done"));
    }

    #[test]
    fn f37_a_value_behind_the_host_stays_one_step_or_word() {
        for (value, expected) in [
            (json!("plain-1.2_~"), "https://h.example/plain-1.2_~/x?q=a%20b"),
            (json!("a/../b?c#d&e=f"), "https://h.example/a%2F..%2Fb%3Fc%23d%26e%3Df/x?q=a%20b"),
            (json!("ü\r\nHost: y"), "https://h.example/%C3%BC%0D%0AHost%3A%20y/x?q=a%20b"),
            (json!(7), "https://h.example/7/x?q=a%20b"),
        ] {
            let filled =
                url("https://h.example/{{payload.v}}/x?q={{query.q}}", &["h.example"], &json!({"v": value}));
            assert_eq!(filled.as_deref(), Ok(expected));
        }
    }

    #[test]
    fn f37_wherever_a_client_has_part_the_host_must_be_listed() {
        let hosts = ["hooks.example.org", "*.hooks.example.net"];
        for (template, value, good) in [
            ("{{payload.v}}", "https://hooks.example.org/x", true),
            ("{{payload.v}}", "http://HOOKS.example.org.:81/x", true),
            ("{{payload.v}}/done", "https://a.hooks.example.net", true),
            ("https://{{payload.v}}.hooks.example.net/", "b.c", true),
            ("{{payload.v}}", "https://evil.example/?https://hooks.example.org/", false),
            ("{{payload.v}}", "https://hooks.example.org@evil.example/", false),
            ("{{payload.v}}", "https://evil.example#hooks.example.org", false),
            ("{{payload.v}}", "https://evil.example\\@hooks.example.org/", false),
            ("{{payload.v}}", "https://hooks.example.net/", false),
            ("{{payload.v}}", "https://127.0.0.1/", false),
            ("{{payload.v}}", "//hooks.example.org/", false),
            ("{{payload.v}}", "gopher://hooks.example.org/", false),
            ("{{payload.v}}", "https://hooks.example.org/../x", false),
            ("https://{{payload.v}}.hooks.example.net/", "evil.example/", false),
            ("https://{{payload.v}}.hooks.example.net/", "evil.example?", false),
            ("https://{{payload.v}}.hooks.example.net/", "evil.example#", false),
            ("https://hooks.example.org{{payload.v}}", ".evil.example/", false),
            ("https://hooks.example.org{{payload.v}}", "@evil.example/", false),
            ("https://hooks.example.org/{{payload.v}}/done", "..", false),
            ("https://elsewhere.example/{{payload.v}}", "x", false),
        ] {
            let filled = url(template, &hosts, &json!({"v": value}));
            assert_eq!(filled.is_ok(), good, "{template} {value}: {filled:?}");
            if let Err(complaint) = filled {
                assert_eq!(complaint.pointer, "/v", "{template} {value}");
            }
        }
    }

    #[test]
    fn a_missing_value_is_complained_about_at_its_place() {
        let complaint = url("{{payload.a.v}}", &["h"], &json!({})).expect_err("missing");
        assert_eq!(complaint.pointer, "/a/v");
    }
}

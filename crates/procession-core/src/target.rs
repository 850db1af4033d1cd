//! Where a callback goes: an `http` or `https` URL, taken apart once, and the hosts a config
//! lets clients choose from. Two readings of one URL are how a check is got round, so what is
//! checked here is what is connected to, and whatever is doubtful is no URL.
//!
//! Names are not resolved here, and addresses not judged.

use core::net::Ipv6Addr;
use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest URL.
const LONGEST: usize = 2048;

/// One URL, without a user, a password or a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Encrypted, and the host proven by a certificate.
    pub tls: bool,
    /// A name in lower case, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// Written or implied.
    pub port: u16,
    /// Begins with `/`; ends before `?`.
    pub path: String,
    /// Behind `?`.
    pub query: Option<String>,
}

/// The text is no URL a callback can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Not a URL at all.
    #[error("it is no URL: write https://HOST/PATH, every other character than A-Z a-z 0-9 - . _ ~ encoded")]
    NoUrl,
    /// Neither `http` nor `https`.
    #[error("it begins with neither http:// nor https://")]
    Scheme,
    /// `user@` or `user:password@`.
    #[error("it holds a user or password")]
    User,
    /// What stands where the host should.
    #[error("its host is neither a name nor an address")]
    Host,
    /// `.` or `..` as a step of its path: what stands before it would not count.
    #[error("its path holds a step `.` or `..`")]
    Dots,
    /// Not 1 to 65535.
    #[error("its port is not 1 to 65535")]
    Port,
    /// More than anybody writes.
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        if text.len() > LONGEST {
            return Err(BadTarget::TooLong);
        }
        if !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(BadTarget::NoUrl);
        }
        let uri: Uri = text.parse().map_err(|_| BadTarget::NoUrl)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(BadTarget::Scheme),
        };
        let authority = uri.authority().ok_or(BadTarget::Host)?;
        if authority.as_str().contains('@') {
            return Err(BadTarget::User);
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => authority.port_u16().filter(|port| *port > 0).ok_or(BadTarget::Port)?,
        };
        if uri.path().split('/').any(is_dots) {
            return Err(BadTarget::Dots);
        }
        Ok(Self {
            tls,
            host: host(authority.host()).ok_or(BadTarget::Host)?,
            port,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }
}

/// `.` or `..`, also where its dots are encoded.
fn is_dots(step: &str) -> bool {
    matches!(step.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// As it is compared and resolved: lower case, without brackets and the root's dot.
fn host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    let fits = name.len() <= 253 && name.split('.').all(label);
    fits.then(|| name.to_ascii_lowercase())
}

impl Target {
    /// The host and, where it is not the scheme's own, the port: the `Host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// What is asked for: path and query.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

impl fmt::Display for Target {
    /// For people and logs: keys are often kept in a query, so it is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let hidden = if self.query.is_some() { "?…" } else { "" };
        write!(f, "{scheme}://{}{}{hidden}", self.authority(), self.path)
    }
}

/// Hosts that callbacks may go to whose URL a client has part in: a name or an address, or
/// `*.` and what it ends in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// Whether names below it are meant, and not itself.
    below: bool,
    name: String,
}

/// The text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no host: a name or an address, without scheme, port and path, or `*.` and a name")]
pub struct BadHost;

impl FromStr for HostPattern {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let address = name.parse::<Ipv6Addr>().ok().filter(|_| !below).map(|address| address.to_string());
        let name = address.or_else(|| host(name)).ok_or(BadHost)?;
        Ok(Self { below, name })
    }
}

impl HostPattern {
    /// Whether `host`, as a [`Target`] has it, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match host.strip_suffix(self.name.as_str()) {
            Some(rest) if self.below => rest.len() > 1 && rest.ends_with('.'),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|bad| panic!("{text}: {bad}"))
    }

    #[test]
    fn what_is_asked_of_whom() {
        for (text, host, authority, asked) in [
            ("http://127.0.0.1:9000/done", "127.0.0.1", "127.0.0.1:9000", "/done"),
            ("https://Hooks.Example.ORG", "hooks.example.org", "hooks.example.org", "/"),
            ("HTTPS://a.b:443/x?k=1#frag", "a.b", "a.b", "/x?k=1"),
            ("https://a.b:80?k", "a.b", "a.b:80", "/?k"),
            ("http://[::1]:9/", "::1", "[::1]:9", "/"),
            ("http://[::FFFF:127.0.0.1]", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]", "/"),
            ("http://2130706433/", "2130706433", "2130706433", "/"),
            ("http://localhost./", "localhost", "localhost", "/"),
            ("http://a_b/..x/%2e.%2e/", "a_b", "a_b", "/..x/%2e.%2e/"),
        ] {
            let target = target(text);
            let found = (target.host.as_str(), target.authority(), target.path_and_query());
            assert_eq!(found, (host, authority.to_owned(), asked.to_owned()), "{text}");
        }
        assert!(target("https://a").tls && !target("http://a").tls);
    }

    #[test]
    fn what_is_no_url() {
        use BadTarget::*;
        for (text, expected) in [
            ("", NoUrl),
            ("/done", Scheme),
            ("example.org", Scheme),
            ("ftp://a/", Scheme),
            ("file:///etc/passwd", NoUrl),
            ("http://u@a/", User),
            ("http://u:p@a/", User),
            ("http://a@b@c/", User),
            ("http://a\\@b/", NoUrl),
            ("http://a b/", NoUrl),
            ("http://a/b c", NoUrl),
            ("http://a/ä", NoUrl),
            ("http://a/x/../y", Dots),
            ("http://a/x/%2E.", Dots),
            ("http://a/./y", Dots),
            ("http://a/\r\nX: y", NoUrl),
            ("http://ä/", NoUrl),
            ("http:///x", NoUrl),
            ("http://./", Host),
            ("http://a..b/", Host),
            ("http://a;b/", Host),
            ("http://127.0.0.1%2f/", NoUrl),
            ("http://[::1%25lo]/", Host),
            ("http://[v1.x]/", Host),
            ("http://a:/", Port),
            ("http://a:0/", Port),
            ("http://a:65536/", Port),
            ("http://a:b/", Port),
        ] {
            assert_eq!(text.parse::<Target>(), Err(expected), "{text:?}");
        }
        assert_eq!(format!("http://a/{}", "x".repeat(LONGEST)).parse::<Target>(), Err(TooLong));
    }

    #[test]
    fn keys_in_a_query_are_not_shown() {
        assert_eq!(target("https://a.b/x?key=secret").to_string(), "https://a.b/x?…");
        assert_eq!(target("http://A.b:80").to_string(), "http://a.b/");
    }

    #[test]
    fn whom_a_pattern_means() {
        let pattern = |text: &str| text.parse::<HostPattern>().expect("a pattern");
        for (text, host, expected) in [
            ("hooks.example.org", "hooks.example.org", true),
            ("Hooks.Example.org.", "hooks.example.org", true),
            ("hooks.example.org", "x.hooks.example.org", false),
            ("hooks.example.org", "xhooks.example.org", false),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "evilexample.org", false),
            ("*.example.org", "a.example.org.evil.com", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("[2001:DB8::1]", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::1", true),
        ] {
            assert_eq!(pattern(text).matches(host), expected, "{text} {host}");
        }
        for bad in ["", "*", "*.", "a.*", "*.*.a", "http://a", "a:80", "a/b", "*.::1", "u@a", "."] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}

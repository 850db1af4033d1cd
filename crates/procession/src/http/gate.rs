//! Who may come in: the Host a request names, the site it comes from, the token it
//! carries, the size of its head. Every route passes here; what needs no token says so
//! where the router is built.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Context;
use super::problem::{Answer, Failure};

/// The most bytes of a request's head; more is 431.
const MAX_HEAD: usize = 16 * 1024;

/// Whose request it is, as jobs record it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(pub String);

impl Principal {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }
}

/// How the connection came in, and where another one would; set by the accept loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket: no browser can be tricked into one, so its Host says nothing.
    Unix(Arc<Path>),
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Gate {
    /// SHA-256 of the default token; `None`: none is asked for.
    token: Option<[u8; 32]>,
    hosts: BTreeSet<String>,
}

impl Gate {
    /// Answers to the listeners' own addresses and to `hosts`. `token`: what clients must show.
    pub fn new(token: Option<&str>, listeners: &[SocketAddr], hosts: &[String]) -> Self {
        let mut known: BTreeSet<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        for address in listeners {
            let ip = address.ip();
            if ip.is_loopback() || ip.is_unspecified() {
                known.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
            }
            known.insert(if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
        }
        Self { token: token.map(|token| Sha256::digest(token).into()), hosts: known }
    }

    fn check_host(&self, request: &Request) -> Answer<()> {
        if let Some(Transport::Unix(_)) = request.extensions().get() {
            return Ok(());
        }
        let from_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has `:authority`, an absolute-form target names its own.
        let authority = request.uri().authority().map(Authority::as_str).or(from_header);
        let host = authority.and_then(host_of).unwrap_or_default().to_ascii_lowercase();
        let several = request.headers().get_all(header::HOST).iter().nth(1).is_some();
        if !several && self.hosts.contains(&host) {
            return Ok(());
        }
        let shown: String = host.chars().take(100).collect();
        let detail = format!("this server does not answer to the host `{shown}`; add it to [server] hosts");
        Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", detail))
    }

    fn check_token(&self, headers: &HeaderMap) -> Answer<Principal> {
        let Some(expected) = self.token else { return Ok(Principal::anonymous()) };
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| <[u8; 32]>::from(Sha256::digest(token.trim())));
        match shown {
            Some(shown) if bool::from(shown.ct_eq(&expected)) => Ok(Principal("token:default".into())),
            shown => {
                let detail = if shown.is_some() {
                    "the token is not known here"
                } else {
                    "send `Authorization: Bearer TOKEN`; the token is in the data directory's file `token`"
                };
                let challenge = HeaderValue::from_static("Bearer");
                Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
                    .with_header(header::WWW_AUTHENTICATE, challenge))
            }
        }
    }
}

/// The host without its port; `None` where it is no plain `host` or `host:port`.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => (&authority[..colon], &authority[colon + 1..]),
        _ => (authority, ""),
    };
    (!host.contains('@') && port.bytes().all(|c| c.is_ascii_digit())).then_some(host)
}

/// Middleware for everything: head size and Host.
pub async fn guard(State(context): State<Context>, request: Request, next: Next) -> Response {
    match check_head(&request).and_then(|()| context.gate.check_host(&request)) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check_head(request: &Request) -> Answer<()> {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if fields.sum::<usize>() + target > MAX_HEAD {
        let detail = format!("the request's head is larger than {MAX_HEAD} bytes");
        return Err(Failure::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", detail));
    }
    if !is_text(request.uri().path()) {
        let detail = "the path, decoded, is not UTF-8";
        return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_path", detail));
    }
    Ok(())
}

/// Whether a percent-encoded path decodes to text.
fn is_text(path: &str) -> bool {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let digit = |c: Option<u8>| c.and_then(|c| char::from(c).to_digit(16));
        match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => decoded.push((high * 16 + low) as u8),
                _ => return false,
            },
            plain => decoded.push(plain),
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// Middleware for what changes something or tells something: token and site.
pub async fn authorize(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let checked = context.gate.check_token(request.headers());
    match checked.and_then(|principal| same_site(&request).map(|()| principal)) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// Middleware for routes that ask for no token.
pub async fn admit_anyone(mut request: Request, next: Next) -> Response {
    match same_site(&request) {
        Ok(()) => {
            request.extensions_mut().insert(Principal::anonymous());
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// A page of another site cannot make its visitor's browser change anything here.
fn same_site(request: &Request) -> Answer<()> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    refuse_cross_site(request.uri(), request.headers())
}

/// Also asked by GET routes, which start programs.
pub fn refuse_cross_site(target: &Uri, headers: &HeaderMap) -> Answer<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let host = target.authority().map(Authority::as_str).or(text("host")).unwrap_or_default();
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, theirs)| theirs.eq_ignore_ascii_case(host))
    });
    if site && origin {
        return Ok(());
    }
    let detail = "requests from pages of other sites are refused";
    Err(Failure::new(StatusCode::FORBIDDEN, "cross_site", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        for (authority, host) in [
            ("localhost", Some("localhost")),
            ("localhost:8080", Some("localhost")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("a@localhost", None),
            ("localhost:evil", None),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn a_gate_answers_to_its_listeners_and_its_config() {
        let gate = Gate::new(None, &["127.0.0.1:80".parse().expect("an address")], &["Jobs.example".into()]);
        let asks = |host: &str| {
            let request = Request::builder().header("host", host).body(axum::body::Body::empty());
            gate.check_host(&request.expect("a request")).is_ok()
        };
        for host in ["127.0.0.1:80", "localhost:80", "LOCALHOST", "jobs.example", "[::1]:80"] {
            assert!(asks(host), "{host}");
        }
        for host in ["evil.example", "", "127.0.0.1.evil", "10.0.0.1"] {
            assert!(!asks(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_compared_whole() {
        let gate = Gate::new(Some("secret"), &[], &[]);
        let shows = |value: &str| {
            let headers = [(header::AUTHORIZATION, value.parse().expect("a value"))].into_iter().collect();
            gate.check_token(&headers).is_ok()
        };
        assert!(shows("Bearer secret") && shows("bearer secret"));
        for value in ["Bearer secre", "Bearer secret2", "Basic secret", "secret", "Bearer "] {
            assert!(!shows(value), "{value}");
        }
        assert!(gate.check_token(&HeaderMap::new()).is_err());
    }
}

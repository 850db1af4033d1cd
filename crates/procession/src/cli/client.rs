//! A small HTTP/1.1 client over TCP and Unix sockets: one connection for each request.
//!
//! It spawns nothing: whoever reads a [`Reply`] drives its connection. Answers from 400
//! on are [`Failure::Refused`], with the server's problem in it. Trying again after a
//! broken connection is the caller's affair (`patience`), as only it knows what is safe.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use procession_core::api::Problem;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::endpoint::{Address, Endpoint, Token};

const CONNECT: Duration = Duration::from_secs(10);
/// For the head of an answer; longer than the longest wait a request may ask for.
const ANSWER: Duration = Duration::from_secs(90);
/// An answer that is read whole into memory.
const LARGEST: usize = 64 << 20;

/// What a request carries.
pub(super) type Upload = UnsyncBoxBody<Bytes, io::Error>;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody listens.
    #[error("no server answers at {address} (from {origin}): {error}; {remedy}")]
    Unreachable { address: String, origin: String, error: io::Error, remedy: &'static str },
    /// Somebody listened, and then did not answer, or not to the end.
    #[error("the connection to {address} broke: {what}")]
    Broken { address: String, what: String },
    /// The server said no.
    #[error("{}", .0.text())]
    Refused(Box<Refusal>),
    /// The server answered something this version does not understand.
    #[error("the server's answer is not understood: {0}")]
    Strange(#[from] serde_json::Error),
}

/// A refusal, for people and, unchanged, for programs.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What the server says of it.
    pub(super) problem: Problem,
    /// The same as it came.
    pub(super) json: Bytes,
    hint: Option<String>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    upload: Upload,
    patience: Option<Duration>,
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
}

/// An answer whose body is still to come.
pub(super) struct Reply {
    body: Incoming,
    driver: Driver,
    address: String,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(super) struct Answer(pub(super) Bytes);

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        let upload = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Call { method, path: path.into(), headers: HeaderMap::new(), upload, patience: Some(ANSWER) }
    }

    /// With a body. How long it takes to send is not bounded: that is the network's affair.
    pub(super) fn body(mut self, upload: Upload) -> Self {
        self.upload = upload;
        self.patience = None;
        self
    }

    /// With a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a header a person wrote; the error says that it cannot be one.
    pub(super) fn written(self, name: HeaderName, value: &str) -> anyhow::Result<Self> {
        let checked = value.parse().map_err(|_| anyhow::anyhow!("`{value}` cannot be sent as {name}"))?;
        Ok(self.header(name, checked))
    }
}

impl Client {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Client { endpoint }
    }

    /// The whole answer to `call`.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        self.open(call).await?.whole().await
    }

    /// The answer to `call`, its body unread.
    pub(super) async fn open(&self, call: Call) -> Result<Reply, Failure> {
        let (address, stream) = self.connect().await?;
        let broken = |what: String| Failure::Broken { address: address.to_string(), what };
        let patience = call.patience;
        let request = self.request(call, address).map_err(|error| broken(error.to_string()))?;
        let sent = async {
            match stream {
                Stream::Tcp(stream) => exchange(stream, request).await,
                Stream::Unix(stream) => exchange(stream, request).await,
            }
        };
        let response = match patience {
            Some(limit) => timeout(limit, sent).await.map_err(|_| broken("no answer in time".into()))?,
            None => sent.await,
        };
        let (response, driver) = response.map_err(|error| broken(chain(&error)))?;
        let (head, body) = response.into_parts();
        let reply = Reply { body, driver, address: address.to_string() };
        if head.status.as_u16() < 400 {
            return Ok(reply);
        }
        let answer =
            timeout(ANSWER, reply.whole()).await.map_err(|_| broken("no answer in time".into()))??;
        Err(Failure::Refused(Box::new(self.refusal(head.status, &head.headers, answer))))
    }

    async fn connect(&self) -> Result<(&Address, Stream), Failure> {
        let mut first = None;
        for address in &self.endpoint.addresses {
            match timeout(CONNECT, Stream::open(address)).await {
                Ok(Ok(stream)) => return Ok((address, stream)),
                Ok(Err(error)) => first.get_or_insert((address, error)),
                Err(_) => first.get_or_insert((address, io::ErrorKind::TimedOut.into())),
            };
        }
        let (address, error) = first.expect("an endpoint has an address");
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "the socket's `socket_mode` and `socket_group` say who may use it"
            }
            _ => "start it with `procession serve`",
        };
        let origin = self.endpoint.origin.clone();
        Err(Failure::Unreachable { address: address.to_string(), origin, error, remedy })
    }

    fn request(&self, call: Call, address: &Address) -> Result<Request<Upload>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(HOST, address.authority())
            .header(USER_AGENT, concat!("procession/", env!("CARGO_PKG_VERSION")));
        if let Token::Known(token) = &self.endpoint.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(call.upload)?;
        request.headers_mut().extend(call.headers);
        Ok(request)
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, answer: Answer) -> Refusal {
        let problem = serde_json::from_slice(&answer.0).unwrap_or_else(|_| unexplained(status));
        let hint = match (status, &self.endpoint.token) {
            (StatusCode::UNAUTHORIZED, Token::Missing { why }) => Some(format!("no token was sent: {why}")),
            _ => headers
                .get(RETRY_AFTER)
                .and_then(|after| after.to_str().ok())
                .map(|after| format!("try again in {after}s")),
        };
        Refusal { problem, json: answer.0, hint }
    }
}

/// For an answer that is no problem document: some proxy's, not Procession's.
fn unexplained(status: StatusCode) -> Problem {
    let title = status.canonical_reason().unwrap_or("refused").to_owned();
    Problem {
        kind: "about:blank".into(),
        detail: title.to_lowercase(),
        title,
        status: status.as_u16(),
        code: "unexplained".into(),
        errors: Vec::new(),
    }
}

impl Failure {
    /// Whether the same request may succeed a little later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Failure::Unreachable { .. } | Failure::Broken { .. } => true,
            Failure::Refused(refusal) => matches!(refusal.problem.status, 502..=504),
            Failure::Strange(_) => false,
        }
    }
}

impl Refusal {
    /// Detail, code, and a line for each complaint.
    fn text(&self) -> String {
        let Problem { detail, status, code, errors, .. } = &self.problem;
        let mut text = format!("{detail} ({status} {code})");
        for complaint in errors {
            let place = if complaint.pointer.is_empty() { "(the whole body)" } else { &complaint.pointer };
            text.push_str(&format!("\n  {place}: {}", complaint.detail));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n  {hint}"));
        }
        text
    }
}

impl Reply {
    /// The next piece of the body; nothing after the last.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = poll_fn(|cx| {
                self.driver.poll(cx);
                Pin::new(&mut self.body).poll_frame(cx)
            });
            match frame.await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(Failure::Broken { address: self.address.clone(), what: chain(&error) });
                }
            }
        }
    }

    /// That the body ended when it should not have.
    pub(super) fn broken(self, what: &str) -> Failure {
        Failure::Broken { address: self.address, what: what.into() }
    }

    /// All of the body that is still to come.
    pub(super) async fn whole(mut self) -> Result<Answer, Failure> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > LARGEST {
                return Err(self.broken("its answer never ends"));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(Answer(all.freeze()))
    }
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(serde_json::from_slice(&self.0)?)
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }
}

/// The connection's own work, done while somebody waits for what it brings.
struct Driver(Option<Pin<Box<dyn Future<Output = hyper::Result<()>>>>>);

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        // What ended it reaches the reader through the response or the body.
        if self.0.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
            self.0 = None;
        }
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Upload>,
) -> hyper::Result<(hyper::Response<Incoming>, Driver)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = Driver(Some(Box::pin(connection)));
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx: &mut Context<'_>| -> Poll<hyper::Result<_>> {
        driver.poll(cx);
        response.as_mut().poll(cx)
    })
    .await?;
    Ok((response, driver))
}

/// hyper's errors say what failed, their sources why.
fn chain(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use procession_core::validate::Complaint;

    use super::*;

    #[test]
    fn a_refusal_shows_every_complaint() {
        let mut problem = unexplained(StatusCode::UNPROCESSABLE_ENTITY);
        problem.detail = "the payload does not fit the task's schema".into();
        problem.code = "invalid_payload".into();
        problem.errors = vec![
            Complaint { pointer: "/a/0".into(), detail: "is not a string".into() },
            Complaint { pointer: String::new(), detail: "b is missing".into() },
        ];
        let refusal = Refusal { problem, json: Bytes::new(), hint: None };
        assert_eq!(
            refusal.text(),
            "the payload does not fit the task's schema (422 invalid_payload)\n  \
             /a/0: is not a string\n  (the whole body): b is missing"
        );
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let refused = |status| {
            let problem = unexplained(StatusCode::from_u16(status).expect("a status"));
            Failure::Refused(Box::new(Refusal { problem, json: Bytes::new(), hint: None }))
        };
        assert!(refused(503).passes());
        assert!(!refused(404).passes());
        assert!(Failure::Broken { address: String::new(), what: String::new() }.passes());
    }
}

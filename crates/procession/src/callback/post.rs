//! One callback, sent once: a connection, a request, the status of its answer.
//!
//! It spawns nothing, and every step has a bound. Once the status is known, it is the answer:
//! what follows is read so that the receiver can finish, and thrown away.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use procession_core::target::Target;
use procession_core::webhook;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::connect::{Reach, connect};
use super::tls::Tls;
use crate::background::Background;

/// How long a receiver has.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Until there is a connection, and, over TLS, its other side is proven.
    connect: Duration,
    /// Until all is over.
    whole: Duration,
}

/// Of an answer's body; whoever sends more is cut off.
const READ: usize = 64 << 10;

/// Sends callbacks.
pub struct Messenger {
    tls: Tls,
    bounds: Bounds,
    background: Background,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where.
    pub target: Target,
    /// Whom it may reach.
    pub reach: Reach,
    /// The same each time.
    pub id: String,
    /// Now, in seconds since the Unix epoch.
    pub timestamp: i64,
    /// See [`webhook::SIGNATURE`]; `None` where the config names no secret.
    pub signature: Option<String>,
    /// JSON.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The header, if it is text.
    pub retry_after: Option<String>,
}

/// Nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was sent: a client may not choose this address.
    #[error(
        "{host} is {address} ({what}): only public addresses are reached where a client has part in the url"
    )]
    Forbidden {
        /// Of the URL.
        host: String,
        /// What it stands for.
        address: IpAddr,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The name means nothing.
    #[error("{host} cannot be resolved: {error}")]
    Resolve {
        /// It.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// Nobody answers there.
    #[error("no connection to {address}: {error}")]
    Connect {
        /// The last that was tried.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// It is not known who answers.
    #[error("no TLS with {host}: {error}")]
    Tls {
        /// Who it should be.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// There is a connection, and nothing good on it.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing in time.
    #[error("no {what} within {} s", within.as_secs())]
    Late {
        /// What was waited for.
        what: &'static str,
        /// The bound.
        within: Duration,
    },
}

impl Messenger {
    /// `background` reads whom the system trusts.
    pub fn new(background: Background) -> Self {
        Self { tls: Tls::default(), bounds: Bounds::default(), background }
    }

    /// Sends it, once; within 10 s it is over.
    pub async fn post(&self, post: Post) -> Result<Reply, Failure> {
        let target = &post.target;
        let begun = Instant::now();
        let (connected, over) = (begun + self.bounds.connect, begun + self.bounds.whole);
        let stream = timeout_at(connected, connect(target, post.reach, connected));
        let stream = stream.await.map_err(late("connection", self.bounds.connect))??;
        if !target.tls {
            return self.exchange(stream, request(&post)?, over).await;
        }
        let wrapped = timeout_at(connected, self.tls.wrap(stream, &target.host, &self.background));
        let wrapped = wrapped.await.map_err(late("TLS", self.bounds.connect))?;
        let stream = wrapped.map_err(|error| Failure::Tls { host: target.host.clone(), error })?;
        self.exchange(stream, request(&post)?, over).await
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
        until: Instant,
    ) -> Result<Reply, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driven = async {
            // What ends it reaches the sender.
            let _ = connection.await;
            pending::<Infallible>().await
        };
        let talk = async {
            let answered = timeout_at(until, sender.send_request(request)).await;
            let response = answered.map_err(late("answer", self.bounds.whole))?.map_err(broken)?;
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.map(str::to_owned);
            let reply = Reply { status: response.status().as_u16(), retry_after };
            let _ = timeout_at(until, read_away(response)).await;
            Ok(reply)
        };
        tokio::select! {
            reply = talk => reply,
            never = driven => match never {},
        }
    }

    /// Trusts `tls` only, and has little patience.
    #[cfg(test)]
    pub(super) fn trusting(tls: Tls, background: Background) -> Self {
        let bounds = Bounds { connect: Duration::from_secs(1), whole: Duration::from_secs(2) };
        Self { tls, bounds, background }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), whole: Duration::from_secs(10) }
    }
}

fn late(what: &'static str, within: Duration) -> impl FnOnce(Elapsed) -> Failure {
    move |_| Failure::Late { what, within }
}

fn broken(error: hyper::Error) -> Failure {
    Failure::Broken(match error.source() {
        // hyper's errors say what failed, their sources why.
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

fn request(post: &Post) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::post(post.target.path_and_query())
        .header(HOST, post.target.authority())
        .header(USER_AGENT, concat!("procession/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .header(webhook::ID, &post.id)
        .header(webhook::TIMESTAMP, post.timestamp);
    if let Some(signature) = &post.signature {
        request = request.header(webhook::SIGNATURE, signature);
    }
    request.body(Full::new(post.body.clone())).map_err(|error| Failure::Broken(error.to_string()))
}

/// Reads what is left of an answer, up to [`READ`].
async fn read_away(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > READ {
            return;
        }
    }
}

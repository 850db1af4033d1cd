//! What reaches this server after another took over: carried there, over the listener it
//! came in by, and its answer carried back. So a client that keeps a connection open, or has
//! just sent something, does not notice; with `Connection: close` it goes there by itself the
//! next time.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Context;
use super::gate::Transport;
use super::problem::Failure;

/// What is about one connection and not about the request.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How often a Unix socket whose queue is full is tried again, and between the tries.
const TRIES: u32 = 500;
const AGAIN: Duration = Duration::from_millis(10);

/// Middleware: what comes after another server took over is that one's.
pub async fn give_place(State(context): State<Context>, request: Request, next: Next) -> Response {
    let closes = request.version() < Version::HTTP_2;
    let mut response = match context.handover.is_begun() {
        false => next.run(request).await,
        true => forward(&context, request).await,
    };
    // HTTP/2 is told by a frame of its own.
    if closes && context.handover.is_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The next server's answer; waits until there is one.
pub(super) async fn forward(context: &Context, request: Request) -> Response {
    context.handover.released().await;
    match carry(context, request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "a request could not be carried to the server that took over");
            let detail = "the server that took over went away before it answered; \
                whether it did what was asked is not known";
            Failure::new(StatusCode::BAD_GATEWAY, "no_answer", detail).into_response()
        }
    }
}

async fn carry(context: &Context, request: Request) -> io::Result<Response> {
    match request.extensions().get::<Transport>().cloned() {
        Some(Transport::Tcp(address)) => {
            exchange(context, TcpStream::connect(address).await?, request).await.map_err(io::Error::other)
        }
        Some(Transport::Unix(path)) => {
            exchange(context, connect(&path).await?, request).await.map_err(io::Error::other)
        }
        None => Err(io::Error::other("it came over no listener")),
    }
}

/// A Unix socket whose queue is full says so instead of letting one wait.
async fn connect(path: &std::path::Path) -> io::Result<UnixStream> {
    let mut tries = 1;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(AGAIN).await;
            }
            connected => return connected,
        }
    }
}

async fn exchange(
    context: &Context,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request,
) -> hyper::Result<Response> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    context.background.connection(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the server that took over ended badly");
        }
    });
    let mut response = sender.send_request(outgoing(request)).await?;
    strip(response.headers_mut());
    Ok(response.map(Body::new))
}

/// The same request as it goes over a connection of our own, in HTTP/1.1.
fn outgoing(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    // HTTP/2, and an absolute-form target, name the host in the target.
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    if let Some(target) = parts.uri.path_and_query() {
        parts.uri = Uri::from(target.clone());
    }
    parts.version = Version::HTTP_11;
    Request::from_parts(parts, body)
}

fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_all_that_is_its_own() {
        let request = Request::builder()
            .method("POST")
            .uri("http://jobs.example:80/v1/tasks/t/jobs?delay=1s")
            .version(Version::HTTP_2)
            .header("authorization", "Bearer x")
            .header("content-length", "2")
            .header("connection", "keep-alive")
            .header("te", "trailers")
            .body(Body::from("{}"))
            .expect("a request");
        let sent = outgoing(request);
        assert_eq!((sent.method().as_str(), sent.version()), ("POST", Version::HTTP_11));
        assert_eq!(sent.uri(), "/v1/tasks/t/jobs?delay=1s");
        let headers: Vec<_> = sent.headers().iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(
            headers,
            [
                ("authorization", &HeaderValue::from_static("Bearer x")),
                ("content-length", &HeaderValue::from_static("2")),
                ("host", &HeaderValue::from_static("jobs.example:80")),
            ]
        );
    }
}

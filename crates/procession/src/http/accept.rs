//! The accept loop. axum's own has no header time-out, no bound on connections, and sleeps
//! a second when descriptors run out; this one has the first two and keeps a descriptor in
//! reserve for the third.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Version;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustix::net::{AddressFamily, getsockname};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::gate::Transport;
use super::opening::Opening;
use super::{Context, router};

/// A request's head must be there by then; also how long an idle connection is kept.
const HEAD: Duration = Duration::from_secs(10);

/// What hyper reads of a head before it answers 431 itself; the gate refuses earlier.
const HEAD_BUFFER: usize = 64 * 1024;

/// HTTP/2 requests at once on one connection.
const STREAMS: u32 = 128;

/// A client that is turned away gets this long to take the answer.
const TURN_AWAY: Duration = Duration::from_secs(1);

/// A listening socket, as the keeper handed it over.
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener, SocketAddr),
    /// Over a Unix socket.
    Unix(UnixListener, Arc<Path>),
}

impl Listener {
    /// Takes over a socket that is bound already.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if getsockname(&socket)?.address_family() == AddressFamily::UNIX {
            let listener = UnixListener::from_std(socket.into())?;
            let path = listener.local_addr()?.as_pathname().map(Arc::from);
            return Ok(Self::Unix(listener, path.ok_or(io::ErrorKind::AddrNotAvailable)?));
        }
        let listener = TcpListener::from_std(socket.into())?;
        let address = reachable(listener.local_addr()?);
        Ok(Self::Tcp(listener, address))
    }

    fn transport(&self) -> Transport {
        match self {
            Listener::Tcp(_, address) => Transport::Tcp(*address),
            Listener::Unix(_, path) => Transport::Unix(path.clone()),
        }
    }

    async fn next(&self) -> io::Result<Connection> {
        match self {
            Listener::Tcp(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and whole; nothing is gained by holding them back.
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
            Listener::Unix(listener, _) => Ok(Connection::Unix(listener.accept().await?.0)),
        }
    }
}

/// Where this machine reaches a listener of all addresses.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Serves clients of `listener` until the server stops, or another takes over: who connects
/// from then on waits in the kernel for that one.
pub async fn accept(listener: Listener, context: Context, places: Arc<Semaphore>) {
    let mut spare = File::open("/dev/null").ok();
    let (router, transport) = (router(context.clone()), listener.transport());
    loop {
        let accepted = tokio::select! {
            accepted = listener.next() => accepted,
            () = context.handover.begun() => return,
            () = context.background.stopping().cancelled() => return,
        };
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok(connection), Ok(place)) => {
                let (router, transport) = (router.clone(), transport.clone());
                let serve = connection.serve(router, transport, place, context.clone());
                context.background.connection(serve);
            }
            (Ok(connection), Err(_)) => context.background.connection(connection.turn_away()),
            (Err(error), _) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                if is_exhaustion(&error) {
                    // One descriptor is freed to take the connection and close it, so that its
                    // client is not left in the dark and this loop does not spin.
                    drop(spare.take());
                    let _ = tokio::time::timeout(Duration::from_millis(10), listener.next()).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    spare = File::open("/dev/null").ok();
                }
            }
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Connection {
    async fn serve(
        self,
        router: Router,
        transport: Transport,
        place: OwnedSemaphorePermit,
        context: Context,
    ) {
        match self {
            Connection::Tcp(stream) => serve(stream, transport, router, context).await,
            Connection::Unix(stream) => serve(stream, transport, router, context).await,
        }
        drop(place);
    }

    /// All places are taken: says so at once.
    async fn turn_away(self) {
        const BODY: &str = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
            \"code\":\"too_many_connections\",\"detail\":\"try again in a second\"}";
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
             Content-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        let write = async {
            match self {
                Connection::Tcp(mut stream) => stream.write_all(answer.as_bytes()).await,
                Connection::Unix(mut stream) => stream.write_all(answer.as_bytes()).await,
            }
        };
        // A client that does not even take this has gone.
        let _ = tokio::time::timeout(TURN_AWAY, write).await;
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    transport: Transport,
    router: Router,
    context: Context,
) {
    let (asked, multiplexed) = (CancellationToken::new(), CancellationToken::new());
    let (begun, is_multiplexed) = (asked.clone(), multiplexed.clone());
    let service = router.map_request(move |mut request: Request<Incoming>| {
        begun.cancel();
        if request.version() == Version::HTTP_2 {
            is_multiplexed.cancel();
        }
        request.extensions_mut().insert(transport.clone());
        request.map(axum::body::Body::new)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BUFFER)
        // A client may close its side once it has asked.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BUFFER as u32)
        .keep_alive_interval(HEAD * 2)
        .keep_alive_timeout(HEAD);
    let connection =
        builder.serve_connection(TokioIo::new(Opening::new(stream, HEAD)), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silence(&asked) => return,
        () = to_be_left(&context, &multiplexed) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Returns when the connection is to begin no more requests: when the server stops, and, where
/// HTTP/2 has a word for it, when another takes over. An idle connection of HTTP/1 would be
/// closed by that, perhaps under a request that is on its way: it gets one more answer, with
/// `Connection: close`.
async fn to_be_left(context: &Context, multiplexed: &CancellationToken) {
    let taken_over = async {
        multiplexed.cancelled().await;
        context.handover.begun().await;
    };
    tokio::select! {
        () = context.background.stopping().cancelled() => {}
        () = taken_over => {}
    }
}

/// Returns when no request has come in time. hyper's own clock starts with the first bytes
/// that tell HTTP/1.1 from 2; who sends none would stay forever.
async fn silence(asked: &CancellationToken) {
    if tokio::time::timeout(HEAD, asked.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

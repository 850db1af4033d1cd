//! A messenger against receivers that do not behave.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procession_core::webhook;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

use super::tls::Tls;
use super::{Failure, Messenger, Post, Reach, Reply};
use crate::background::Background;
use crate::log::Log;

const CA: &[u8] = include_bytes!("../../tests/fixture/tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixture/tls/localhost.pem");
const KEY: &[u8] = include_bytes!("../../tests/fixture/tls/localhost.key");

fn roots(pem: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.expect("a certificate")).expect("a root");
    }
    roots
}

fn messenger() -> Messenger {
    trusting(CA, background())
}

fn background() -> Background {
    Background::new(Log::start(false).expect("a log"))
}

fn trusting(pem: &[u8], background: Background) -> Messenger {
    Messenger::trusting(Tls::trusting(roots(pem)), background)
}

fn post(url: &str) -> Post {
    Post {
        target: url.parse().expect("a URL"),
        reach: Reach::Anywhere,
        id: "msg_1".into(),
        timestamp: 1_614_265_330,
        signature: Some("v1,abc=".into()),
        body: Bytes::from_static(b"{}"),
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Reads one request, to the end of its body.
async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n{}") {
        let mut chunk = [0; 1024];
        let read = stream.read(&mut chunk).await.expect("a request");
        assert!(read > 0, "it ended within the request");
        heard.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8(heard).expect("text")
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
    stream.shutdown().await.expect("ended");
}

async fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().await.expect("a connection").0
}

#[tokio::test]
async fn what_is_sent_and_what_comes_back() {
    let (listener, port) = listener().await;
    let receiver = async {
        let mut stream = accept(&listener).await;
        let heard = hear(&mut stream).await;
        answer(&mut stream, "HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno").await;
        heard
    };
    let messenger = messenger();
    let url = format!("http://127.0.0.1:{port}/done?a=b#c");
    let (heard, reply) = tokio::join!(receiver, messenger.post(post(&url)));
    assert_eq!(reply.expect("an answer"), Reply { status: 503, retry_after: Some("7".into()) });
    let mut lines: Vec<&str> = heard.lines().collect();
    assert_eq!(lines.remove(0), "POST /done?a=b HTTP/1.1");
    lines.sort_unstable();
    let expected = [
        String::new(),
        "connection: close".into(),
        "content-length: 2".into(),
        "content-type: application/json".into(),
        format!("host: 127.0.0.1:{port}"),
        concat!("user-agent: procession/", env!("CARGO_PKG_VERSION")).into(),
        format!("{}: msg_1", webhook::ID),
        format!("{}: v1,abc=", webhook::SIGNATURE),
        format!("{}: 1614265330", webhook::TIMESTAMP),
        "{}".into(),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn f37_a_redirect_is_an_answer_and_is_not_followed() {
    let ((listener, port), (elsewhere, other)) = (listener().await, listener().await);
    let receiver = async {
        let mut stream = accept(&listener).await;
        hear(&mut stream).await;
        let to = format!("HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:{other}/\r\n\r\n");
        answer(&mut stream, &to).await;
    };
    let messenger = messenger();
    let ((), reply) = tokio::join!(receiver, messenger.post(post(&format!("http://127.0.0.1:{port}/"))));
    assert_eq!(reply.expect("an answer").status, 307);
    let none = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await;
    assert!(none.is_err(), "it was followed");
}

#[tokio::test]
async fn f37_where_a_client_has_part_this_machine_is_not_even_connected_to() {
    let (listener, port) = listener().await;
    let messenger = messenger();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let post = Post { reach: Reach::Public, ..post(&format!("http://{host}:{port}/")) };
        let failure = messenger.post(post).await.expect_err("refused");
        assert!(matches!(failure, Failure::Forbidden { .. }), "{host}: {failure}");
    }
    let none = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(none.is_err(), "it was connected to");
}

#[tokio::test]
async fn f37_a_receiver_that_never_answers_is_left_in_time() {
    let (listener, port) = listener().await;
    let messenger = messenger();
    let url = format!("http://127.0.0.1:{port}/");
    let silent = async {
        let mut stream = accept(&listener).await;
        hear(&mut stream).await;
        // Until it is left.
        let _ = stream.read(&mut [0; 16]).await;
    };
    let (failure, ()) = tokio::join!(messenger.post(post(&url)), silent);
    assert!(matches!(failure, Err(Failure::Late { what: "answer", .. })), "{failure:?}");

    let mute = async {
        let mut stream = accept(&listener).await;
        while !matches!(stream.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {}
    };
    let (failure, ()) = tokio::join!(messenger.post(post(&format!("https://localhost:{port}/"))), mute);
    assert!(matches!(failure, Err(Failure::Late { what: "TLS", .. })), "{failure:?}");
}

#[tokio::test]
async fn f37_a_receiver_that_answers_without_end_is_cut_off_and_counts() {
    let (listener, port) = listener().await;
    let messenger = messenger();
    let endless = async {
        let mut stream = accept(&listener).await;
        hear(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut written = 0;
        while stream.write_all(&[b'x'; 16 << 10]).await.is_ok() {
            written += 16 << 10;
        }
        written
    };
    let (reply, written) = tokio::join!(messenger.post(post(&format!("http://127.0.0.1:{port}/"))), endless);
    assert_eq!(reply.expect("an answer").status, 200);
    // What lies in the kernel's buffers was sent, and never read.
    assert!(written < 64 << 20, "{written} bytes were taken");
}

#[tokio::test]
async fn f37_a_receiver_that_hangs_up_or_talks_nonsense_or_is_not_there() {
    let (listener, port) = listener().await;
    let messenger = messenger();
    let url = format!("http://127.0.0.1:{port}/");
    for nonsense in ["", "HTTP/1.1 2", "SSH-2.0-OpenSSH_9.9\r\n"] {
        let receiver = async {
            let mut stream = accept(&listener).await;
            hear(&mut stream).await;
            answer(&mut stream, nonsense).await;
        };
        let (failure, ()) = tokio::join!(messenger.post(post(&url)), receiver);
        assert!(matches!(failure, Err(Failure::Broken(_))), "{nonsense:?}: {failure:?}");
    }
    drop(listener);
    let failure = messenger.post(post(&url)).await.expect_err("nobody there");
    assert!(matches!(failure, Failure::Connect { .. }), "{failure}");
    let failure = messenger.post(post("http://no.such.host.invalid/")).await.expect_err("no such name");
    assert!(matches!(failure, Failure::Resolve { .. } | Failure::Late { .. }), "{failure}");
}

fn acceptor() -> TlsAcceptor {
    let certificates = CertificateDer::pem_slice_iter(CERTIFICATE).map(|one| one.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(certificates.collect(), key)
        .expect("a certificate with its key");
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn over_tls_the_host_of_the_url_must_be_proven() {
    let (listener, port) = listener().await;
    let receiver = async || {
        let Ok(mut stream) = acceptor().accept(accept(&listener).await).await else { return };
        hear(&mut stream).await;
        answer(&mut stream, "HTTP/1.1 204 Taken\r\n\r\n").await;
    };
    let background = background();
    let known = trusting(CA, background.clone());
    let (reply, ()) = tokio::join!(known.post(post(&format!("https://localhost:{port}/"))), receiver());
    assert_eq!(reply.expect("an answer").status, 204);

    // The same address by another name.
    let (failure, ()) = tokio::join!(known.post(post(&format!("https://127.0.0.1:{port}/"))), receiver());
    assert!(matches!(failure, Err(Failure::Tls { .. })), "{failure:?}");

    let stranger = trusting(CERTIFICATE, background);
    let (failure, ()) = tokio::join!(stranger.post(post(&format!("https://localhost:{port}/"))), receiver());
    assert!(matches!(failure, Err(Failure::Tls { .. })), "{failure:?}");
}

//! Clients that hang up, close their half, say nothing, or say what they should not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::harness::{Address, BOUND, Request, Response, Server, at_once, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 8
[task.t]
command = ["cat"]
[task.slow]
command = ["sh", "-c", 'sleep 0.3; echo done']
[task.echo]
command = ["sh", "-c", 'printf "<%s>\n" "$@"', "sh", "{{payload.n}}", "--n={{payload.a.0}}", "{{payload.o}}"]
"#;

fn address(server: &Server) -> SocketAddr {
    match server.address {
        Address::Tcp(address) => address,
        Address::Unix(_) => unreachable!("these servers listen on a port"),
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(address(server)).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
}

/// Sends a submission and closes within the few milliseconds in which it becomes a job, every
/// other time as a crash would: by a reset.
fn send_and_vanish(server: &Server, n: usize, payload: &Value) {
    let mut stream = connect(server);
    // The server may be gone from this connection as soon as it has read enough.
    let _ = stream.write_all(&server.bytes(&Request::submit("t", payload)));
    let sent = Instant::now();
    while sent.elapsed() < Duration::from_micros(n as u64 % 25 * 150) {
        std::hint::spin_loop();
    }
    if n.is_multiple_of(2) {
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
    }
}

fn all_are_served(server: &Server) {
    wait_for("nobody else is being served", BOUND, || {
        server.get("/v1/stats").expect(200).json()["connections"].as_u64() == Some(1)
    });
}

#[test]
fn what_clients_leave_who_hang_up_at_once_starts_without_waiting_heavy() {
    let server = Server::start(TASKS);
    let mut taken = 0;
    for _ in 0..4 {
        at_once(5, |lane| {
            (0..10).for_each(|n| send_and_vanish(&server, lane * 10 + n, &json!(n)));
        });
        all_are_served(&server);
        // Nothing else is submitted that would wake the dispatcher.
        wait_for("none stays queued", Duration::from_secs(4), || {
            server.all_jobs("state=queued,running").is_empty()
        });
        let jobs = server.all_jobs("");
        for job in &jobs {
            assert_eq!(job["exit_code"], 0, "{job}");
            assert!(job["queued_ms"].as_u64().is_some_and(|queued| queued < 1_500), "{job}");
        }
        taken = jobs.len();
    }
    assert!(taken > 20, "hardly any was taken: {taken}");
}

#[test]
fn no_body_of_a_client_who_hung_up_stays_without_its_job_heavy() {
    let server = Server::start(TASKS);
    let large = json!("x".repeat(200_000));
    at_once(5, |lane| {
        (0..10).for_each(|n| send_and_vanish(&server, lane * 10 + n, &large));
    });
    all_are_served(&server);
    wait_for("none stays queued", BOUND, || server.all_jobs("state=queued,running").is_empty());
    let jobs = server.all_jobs("");
    let known: BTreeSet<&str> = jobs.iter().filter_map(|job| job["id"].as_str()).collect();
    assert!(!known.is_empty());
    for folder in fs::read_dir(server.data().join("jobs")).expect("readable").flatten() {
        let name = folder.file_name().into_string().expect("text");
        assert!(known.contains(name.as_str()), "{name} has no job");
    }
    for job in &jobs {
        assert_eq!(
            (&job["exit_code"], &job["output"]["stdout_bytes"]),
            (&json!(0), &json!(200_002)),
            "{job}"
        );
        assert!(job["queued_ms"].as_u64().is_some_and(|queued| queued < 1_500), "{job}");
    }
    assert_eq!(fs::read_dir(server.data().join("incoming")).expect("readable").count(), 0);
}

#[test]
fn a_client_that_closes_its_half_gets_its_answer() {
    let server = Server::start(TASKS);
    for request in [
        Request::get("/healthz"),
        Request::submit("t", &json!("x".repeat(200_000))),
        Request::submit("slow", &Value::Null).header("Prefer", "wait=20"),
    ] {
        let mut stream = connect(&server);
        stream.write_all(&server.bytes(&request)).expect("sent");
        stream.shutdown(Shutdown::Write).expect("closed");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer:?}");
        assert!(answer.contains("\r\n\r\n{") && answer.trim_end().ends_with('}'), "whole: {answer:?}");
    }
    wait_for("all are over", BOUND, || server.all_jobs("state=queued,running").is_empty());
    assert_eq!(server.all_jobs("state=succeeded").len(), 2);
}

#[test]
fn f22_who_never_says_what_it_wants_is_cut_off_heavy() {
    let server = Server::start(TASKS);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let says: [&[u8]; 6] = [b"", b"P", b"PRI * HTTP/2.0\r\n", PREFACE, b"GET /healthz HTTP/1.1\r\n", b"\r\n"];
    let took = at_once(says.len(), |n| {
        let mut stream = connect(&server);
        stream.write_all(says[n]).expect("sent");
        let began = Instant::now();
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{n}: {error}"),
        }
        began.elapsed()
    });
    for (took, said) in took.into_iter().zip(says) {
        assert!(took < Duration::from_secs(15), "{:?}: {took:?}", String::from_utf8_lossy(said));
    }
    all_are_served(&server);
}

#[test]
fn numbers_reach_the_command_as_they_were_written() {
    let server = Server::start(TASKS);
    for number in [
        "12345678901234567890123456789012345678901234567890",
        "-12345678901234567890123456789012345678901234567890",
        "9007199254740993",
        "18446744073709551616",
        "1.50",
        "0.1000000000000000055511151231257827021181583404541015625",
        "1E300",
        "-0",
    ] {
        // What begins with `-` needs text before it.
        let whole = if number.starts_with('-') { "0" } else { number };
        let body = format!("{{\"n\":{whole},\"a\":[{number}],\"o\":{{\"deep\":[{number}]}}}}");
        let job = server.run_bytes("echo", "application/json", body);
        let printed = String::from_utf8(server.stdout(job["id"].as_str().expect("an id"))).expect("text");
        let expected = format!("<{whole}>\n<--n={number}>\n<{{\"deep\":[{number}]}}>\n");
        assert_eq!(printed, expected);
    }
}

#[test]
fn requests_that_are_not_what_they_should_be_are_told_so() {
    let server = Server::start(TASKS);
    let submit = || Request::submit("t", &json!({}));
    let coded = server.send(&submit().header("Content-Encoding", "gzip"));
    assert_eq!(coded.problem(), (415, "unsupported_media_type".into()));
    let lane = server.send(&Request::post("/v1/tasks/t/jobs?lane=").json(&json!({})));
    assert_eq!(lane.problem(), (400, "invalid_query".into()));
    for target in ["/%ff", "/v1/jobs/%ff", "/v1/tasks/%ff", "/v1/jobs/x/artifacts/%ff", "/v1/jobs/%", "/%f"] {
        assert_eq!(server.get(target).problem().0, 400, "{target}");
    }
    assert_eq!(server.send(&Request::post("/v1/tasks/%c3%28/jobs").json(&json!({}))).problem().0, 400);
    let asks = |host: &str| -> Response { server.send(&Request::get("/healthz").header("Host", host)) };
    for host in [
        "127.0.0.1:evil",
        "a@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80",
    ] {
        let answer = asks(host);
        assert_eq!(answer.status, 421, "{host}: {answer:?}");
    }
    for host in ["127.0.0.1", "127.0.0.1:1", "localhost", "[::1]:8080"] {
        assert_eq!(asks(host).status, 200, "{host}");
    }
    assert!(server.all_jobs("").is_empty());
}

/// The status of a submission over HTTP/2 from a page of `origin`.
async fn post_over_http2(server: &Server, origin: &str) -> u16 {
    let stream = tokio::net::TcpStream::connect(address(server)).await.expect("it accepts");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
    let token = server.token.as_ref().expect("a token");
    let request = hyper::Request::post(format!("http://{}/v1/tasks/t/jobs", server.address.host()))
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .header("Origin", origin)
        .body(Full::new(Bytes::from_static(b"{}")))
        .expect("a request");
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.expect("an answer"),
        ended = connection => panic!("the connection ended first: {ended:?}"),
    };
    answer.status().as_u16()
}

#[test]
fn over_http2_a_page_of_the_same_origin_may_post_and_no_other() {
    let server = Server::start(TASKS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let own = format!("http://{}", server.address.host());
    for (origin, status) in [(own.as_str(), 202), ("http://evil.example", 403), ("null", 403)] {
        let bounded = async { tokio::time::timeout(BOUND, post_over_http2(&server, origin)).await };
        assert_eq!(runtime.block_on(bounded).expect("in time"), status, "{origin}");
    }
    assert_eq!(server.all_jobs("").len(), 1);
}

//! Bodies and heads made to hurt (F24): refused with the right word, at little cost.

use crate::harness::{Connection, Request, Response, Server, memory_kib};

const TASKS: &str = "[task.t]\ncommand = ['cat']\n[task.bytes]\ncommand = ['wc', '-c']\nbody = 'bytes'\n";

const JOBS: &str = "/v1/tasks/t/jobs";

fn post(server: &Server, body: impl Into<Vec<u8>>) -> Response {
    server.send(&Request::post(JOBS).body("application/json", body))
}

#[test]
fn f24_what_is_no_json_is_refused() {
    let server = Server::start(TASKS);
    let bad: [&[u8]; 14] = [
        b"{",
        b"nope",
        b"{\"a\":1,}",
        b"[1 2]",
        b"{} {}",
        b"'x'",
        b"NaN",
        b"01",
        b"\"\\ud800\"",
        b"\"\n\"",
        b"\xff\xfe",
        b"\"\xc3\x28\"",
        b"\xef\xbb\xbf{}",
        b" ",
    ];
    for body in bad {
        assert_eq!(
            post(&server, body).problem(),
            (400, "invalid_json".into()),
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
    assert!(server.all_jobs("").is_empty());
}

#[test]
fn f24_a_key_twice_is_refused_at_any_depth() {
    let server = Server::start(TASKS);
    for body in ["{\"a\":1,\"a\":1}", "{\"b\":[{\"a\":1,\"x\":0,\"a\":2}]}", "{\"a\":1,\"\\u0061\":2}"] {
        let answer = post(&server, body);
        assert_eq!(answer.problem(), (400, "invalid_json".into()), "{body}");
    }
    assert_eq!(
        post(&server, "{\"a\":{\"a\":1},\"A\":2}").status,
        202,
        "the same name at other places is fine"
    );
}

#[test]
fn f24_depth_of_100_000_is_refused_and_harmless() {
    let server = Server::start(TASKS);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [1_000, 100_000] {
            let body = open.repeat(depth) + "1" + &close.repeat(depth);
            assert_eq!(post(&server, body).problem(), (400, "invalid_json".into()));
            assert_eq!(post(&server, open.repeat(depth)).problem().0, 400);
        }
    }
    let shallow = "[".repeat(30) + &"]".repeat(30);
    assert_eq!(post(&server, shallow).status, 202, "what people write is taken");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn f24_many_keys_cost_little_heavy() {
    let server = Server::start("[task.t]\ncommand = ['cat']\nmax_body = '20MiB'\n");
    let keys: Vec<String> = (0..1_000_000).map(|n| format!("\"{n}\":0")).collect();
    let body = format!("{{{}}}", keys.join(","));
    let began = std::time::Instant::now();
    assert_eq!(post(&server, body).status, 202);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn f24_a_100_mb_body_is_refused_without_being_kept_heavy() {
    let server = Server::start(TASKS);
    post(&server, "{}").expect(202);
    let before = memory_kib(server.server_pid(), "VmHWM");
    let huge = vec![b'x'; 100_000_000];
    for task in ["t", "bytes"] {
        let request = Request::post(format!("/v1/tasks/{task}/jobs")).body("application/json", huge.clone());
        // The server reads on a little so that its answer is read; then it hangs up.
        if let Ok(answer) = server.try_send(&request) {
            assert_eq!(answer.problem(), (413, "body_too_large".into()));
        }
        let chunked = Request::post(format!("/v1/tasks/{task}/jobs"))
            .header("Content-Type", "application/json")
            .header("Transfer-Encoding", "chunked")
            .without("Content-Length");
        let mut connection = server.open(&chunked).expect("sent");
        let chunk = [b"100000\r\n".as_slice(), &huge[..0x10_0000], b"\r\n"].concat();
        let sent = (0..95).take_while(|_| connection.write(&chunk).is_ok()).count();
        assert!(sent < 95, "the server took all of it");
    }
    let grown = memory_kib(server.server_pid(), "VmHWM") - before;
    assert!(grown < 24 * 1024, "the server grew by {grown} KiB");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn an_announced_length_is_refused_before_the_body_is_sent() {
    let server = Server::start(TASKS);
    let request = Request::post(JOBS)
        .header("Content-Type", "application/json")
        .header("Content-Length", "100000000")
        .header("Expect", "100-continue");
    let mut connection = server.open(&request).expect("sent");
    assert_eq!(connection.response().expect("an answer").problem(), (413, "body_too_large".into()));
}

#[test]
fn expect_100_continue_is_answered() {
    let server = Server::start(TASKS);
    let request = Request::post(JOBS)
        .header("Content-Type", "application/json")
        .header("Content-Length", "2")
        .header("Expect", "100-continue");
    let mut connection = server.open(&request).expect("sent");
    assert_eq!(connection.head().expect("go on").status, 100);
    connection.write(b"{}").expect("sent");
    assert_eq!(connection.response().expect("an answer").status, 202);
}

#[test]
fn f24_a_huge_head_is_431() {
    let server = Server::start(TASKS);
    let one = Request::get("/healthz").header("X-Long", "x".repeat(20_000));
    assert_eq!(server.send(&one).problem(), (431, "head_too_large".into()));
    let many = (0..90)
        .fold(Request::get("/healthz"), |request, n| request.header(&format!("X-{n}"), "x".repeat(300)));
    assert_eq!(server.send(&many).problem().0, 431);
    let target = Request::get(format!("/v1/jobs?task={}", "x".repeat(20_000)));
    assert_eq!(server.send(&target).problem().0, 431);
    for bytes in [70_000, 1_000_000] {
        // Larger than anything that is read at once: still an answer, where one gets through.
        let huge = Request::get("/healthz").header("X-Long", "x".repeat(bytes));
        if let Ok(answer) = server.try_send(&huge) {
            assert_eq!(answer.status, 431);
        }
    }
    assert_eq!(server.send(&Request::get("/healthz").header("X", "x".repeat(8_000))).status, 200);
}

#[test]
fn f24_a_compressed_body_is_not_inflated() {
    let server = Server::start(TASKS);
    let request = Request::post(JOBS)
        .header("Content-Encoding", "gzip")
        .body("application/json", b"\x1f\x8b\x08\x00\x00\x00\x00\x00".as_slice());
    let status = server.send(&request).problem().0;
    assert!(matches!(status, 400 | 415), "{status}");
}

#[test]
fn malformed_requests_are_turned_away() {
    let server = Server::start(TASKS);
    for bytes in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        "POST /v1/tasks/t/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/tasks/t/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "POST /v1/tasks/t/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n{}",
    ] {
        let mut connection = Connection::open(&server.address);
        connection.write(bytes.as_bytes()).expect("sent");
        match connection.response() {
            Ok(answer) => assert!((400..500).contains(&answer.status), "{bytes:?}: {answer:?}"),
            Err(_) => assert!(connection.is_closed(), "{bytes:?} is neither answered nor cut off"),
        }
    }
    assert!(server.all_jobs("").is_empty());
}

//! What a browser can be tricked into: other hosts' names, other sites' pages, and no
//! permission to read.

use serde_json::{Value, json};

use crate::harness::{Request, Server, Setup};

const TASKS: &str =
    "[task.t]\ncommand = ['true']\n[task.open]\ncommand = ['true']\nroute = 'POST /open'\nauth = 'none'\n";

#[test]
fn a_foreign_missing_or_second_host_is_refused() {
    let server = Server::start(TASKS);
    let asks = |request: Request| server.send(&request);
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "10.0.0.1",
        "",
        "evil@x",
        "169.254.169.254",
    ] {
        for target in ["/healthz", "/v1/jobs", "/nope"] {
            let answer = asks(Request::get(target).header("Host", host));
            assert_eq!(answer.problem(), (421, "unknown_host".into()), "{host:?} {target}");
        }
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(asks(Request::get("/healthz").header("Host", host)).status, 200, "{host}");
    }
    let missing = asks(Request::get("/healthz").without("Host")).status;
    assert!(matches!(missing, 400 | 421), "{missing}");
    let twice = asks(Request::get("/healthz").header("Host", "localhost").header("Host", "localhost")).status;
    assert!(matches!(twice, 400 | 421), "{twice}");
    let absolute = asks(Request::get("http://evil.example/healthz").header("Host", "localhost"));
    assert_eq!(absolute.status, 421, "the target's own host counts");
}

#[test]
fn hosts_of_the_config_are_answered_to() {
    let config = format!(
        "[server]\nlisten = ['127.0.0.1:0']\ndata_dir = 'data'\nhosts = ['Jobs.example.org']\n{TASKS}"
    );
    let server = Setup::new(&config).start();
    for host in ["jobs.example.org", "JOBS.example.org:443"] {
        assert_eq!(server.send(&Request::get("/healthz").header("Host", host)).status, 200, "{host}");
    }
    assert_eq!(server.send(&Request::get("/healthz").header("Host", "example.org")).status, 421);
}

/// Headers as a page of another site makes a browser send them.
fn cross_site() -> [(&'static str, &'static str); 6] {
    [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1"),
        ("Origin", "http://localhost:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ]
}

#[test]
fn what_another_sites_page_sends_changes_nothing() {
    let server = Server::start(TASKS);
    let id = server.run("t", Value::Null)["id"].as_str().expect("an id").to_owned();
    for (name, value) in cross_site() {
        for request in [
            Request::submit("t", &json!({})),
            Request::post("/open"),
            Request::post("/v1/tasks/t/pause"),
            Request::post(format!("/v1/jobs/{id}/cancel")),
            Request::post(format!("/v1/jobs/{id}/retry")),
            Request::post(format!("/v1/deliveries/{id}_0/repeat")),
            Request::new("DELETE", format!("/v1/jobs/{id}")),
        ] {
            let answer = server.send(&request.clone().header(name, value));
            assert_eq!(answer.problem(), (403, "cross_site".into()), "{name}: {value} {request:?}");
        }
    }
    assert_eq!(server.all_jobs("").len(), 1);
    assert_eq!(server.get("/v1/tasks/t").json()["paused"], false);
}

#[test]
fn a_page_of_the_servers_own_may() {
    let server = Server::start(TASKS);
    let own = format!("http://{}", server.address.host());
    let request =
        Request::submit("t", &json!({})).header("Origin", own).header("Sec-Fetch-Site", "same-origin");
    assert_eq!(server.send(&request).status, 202);
    assert_eq!(server.send(&Request::submit("t", &json!({})).header("Sec-Fetch-Site", "none")).status, 202);
}

#[test]
fn no_page_is_ever_given_leave_to_read() {
    let server = Server::start(TASKS);
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        for target in ["/healthz", "/v1/jobs", "/v1/tasks/t/jobs", "/open", "/nope"] {
            let request = Request::new(method, target)
                .header("Origin", "https://evil.example")
                .header("Access-Control-Request-Method", "POST")
                .header("Access-Control-Request-Headers", "authorization");
            let answer = server.send(&request);
            let leave = answer.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
            assert_eq!(leave, None, "{method} {target}");
        }
    }
}

//! Every route of the contract by every role, and every refusal in its one shape.

use serde_json::{Value, json};

use crate::harness::{Client, Request, Response, Server, Setup};

/// Method and path of all that is documented and there; `{id}` is a job's.
const CLOSED: [(&str, &str); 31] = [
    ("POST", "/v1/tasks/t/jobs"),
    ("GET", "/v1/tasks"),
    ("GET", "/v1/tasks/t"),
    ("POST", "/v1/tasks/t/pause"),
    ("POST", "/v1/tasks/t/resume"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/stdout"),
    ("GET", "/v1/jobs/{id}/stderr"),
    ("GET", "/v1/jobs/{id}/events"),
    ("GET", "/v1/jobs/{id}/result"),
    ("GET", "/v1/jobs/{id}/payload"),
    ("GET", "/v1/jobs/{id}/attempts"),
    ("GET", "/v1/jobs/{id}/children"),
    ("GET", "/v1/jobs/{id}/artifacts"),
    ("GET", "/v1/jobs/{id}/artifacts/a.txt"),
    ("GET", "/v1/jobs/{id}/explain"),
    ("POST", "/v1/jobs/{id}/cancel"),
    ("POST", "/v1/jobs/{id}/retry"),
    ("GET", "/v1/deliveries"),
    ("POST", "/v1/deliveries/{id}_0/repeat"),
    ("GET", "/v1/events"),
    ("GET", "/v1/schedules"),
    ("GET", "/v1/schedules/s"),
    ("POST", "/v1/schedules/s/pause"),
    ("POST", "/v1/schedules/s/resume"),
    ("POST", "/v1/schedules/s/run"),
    ("GET", "/v1/stats"),
    ("POST", "/closed"),
    ("GET", "/closed-get"),
    // Last: it removes the job.
    ("DELETE", "/v1/jobs/{id}"),
];

const OPEN: [(&str, &str); 4] =
    [("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/open"), ("GET", "/open-get")];

const TASKS: &str = r#"
[schedule.s]
task = "t"
cron = "@yearly"
overlap = "queue"
[task.t]
command = ["sh", "-c", 'echo 1 > "$PROCESSION_RESULT"; echo a > "$PROCESSION_ARTIFACTS/a.txt"']
callback = { url = "http://127.0.0.1:9/" }
[task.closed]
command = ["true"]
route = "POST /closed"
[task.closed-get]
command = ["true"]
route = "GET /closed-get"
reply = { wait = "20s" }
[task.open]
command = ["true"]
route = "POST /open"
auth = "none"
[task.open-get]
command = ["true"]
route = "GET /open-get"
reply = { wait = "20s" }
auth = "none"
"#;

/// The status alone: a stream of events does not end.
fn status(client: &Client, method: &str, path: &str) -> u16 {
    client.open(&Request::new(method, path)).expect("sent").head().expect("an answer").status
}

fn wrong(server: &Server) -> Client {
    Client { token: Some("0".repeat(64)), ..server.stranger() }
}

#[test]
fn every_route_asks_for_the_token_and_only_the_right_one_opens_it() {
    let server = Server::start(TASKS);
    let id = server.run("t", Value::Null)["id"].as_str().expect("an id").to_owned();
    for (method, path) in CLOSED {
        let path = path.replace("{id}", &id);
        for client in [server.stranger(), wrong(&server)] {
            let refused = client.send(&Request::new(method, path.as_str()));
            assert_eq!(refused.problem(), (401, "unauthorized".into()), "{method} {path}");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        }
        let allowed = status(&server, method, &path);
        assert!((200..300).contains(&allowed), "{method} {path}: {allowed}");
    }
    // Submitted, retried, and one of each route; the first is deleted.
    assert_eq!(server.all_jobs("").len(), 4, "no refused request became a job");
}

#[test]
fn what_is_open_needs_no_token() {
    let server = Server::start(TASKS);
    for (method, path) in OPEN {
        for client in [server.stranger(), wrong(&server), (*server).clone()] {
            let allowed = status(&client, method, path);
            assert!((200..300).contains(&allowed), "{method} {path}: {allowed}");
        }
    }
}

#[test]
fn without_auth_no_route_asks_for_a_token() {
    let config =
        format!("[server]\nlisten = [\"127.0.0.1:0\"]\ndata_dir = \"data\"\nauth = \"none\"\n{TASKS}");
    let server = Server::start(&config);
    for path in ["/v1/tasks", "/v1/jobs", "/v1/stats"] {
        assert_eq!(status(&server.stranger(), "GET", path), 200, "{path}");
    }
    let answer = server.stranger().send(&Request::submit("t", &json!({}))).expect(202);
    assert_eq!(answer.json()["submitted_by"], "anonymous");
}

#[test]
fn a_token_is_taken_only_whole_and_only_as_a_bearer() {
    let server = Server::start(TASKS);
    let token = server.token.clone().expect("a token");
    let stranger = server.stranger();
    let with =
        |value: String| stranger.send(&Request::get("/v1/tasks").header("Authorization", value)).status;
    assert_eq!(with(format!("Bearer {token}")), 200);
    assert_eq!(with(format!("bearer {token}")), 200);
    let cut = &token[..token.len() - 1];
    for value in
        [format!("Bearer {cut}"), format!("Bearer {token}0"), format!("Basic {token}"), token.clone()]
    {
        assert_eq!(with(value.clone()), 401, "{value}");
    }
    assert_eq!(
        stranger.send(&Request::get(format!("/v1/tasks?token={token}"))).status,
        401,
        "never in a URL"
    );
}

/// The paths of the router as its source has them, with the names this file gives them.
#[test]
fn no_route_of_the_router_is_missing_here() {
    let source = include_str!("../../src/http/mod.rs");
    let paths = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().expect("a path"));
    let paths: Vec<String> = paths
        .map(|path| path.replace("{task}", "t").replace("{schedule}", "s").replace("{*name}", "a.txt"))
        .collect();
    assert!(paths.len() > 15, "the router was not found: {paths:?}");
    for path in paths {
        let known = CLOSED.iter().chain(&OPEN).any(|(_, known)| *known == path);
        assert!(known, "{path} is not asked by every role");
    }
}

/// Wrong methods of each path.
fn other_methods(path: &str) -> Vec<&'static str> {
    let known: Vec<&str> = CLOSED
        .iter()
        .chain(&OPEN)
        .filter(|(_, at)| *at == path)
        .flat_map(|(method, _)| if *method == "GET" { vec!["GET", "HEAD"] } else { vec![*method] })
        .collect();
    ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().filter(|method| !known.contains(method)).collect()
}

#[test]
fn a_wrong_method_is_405_and_says_which_are_right() {
    let server = Server::start(TASKS);
    let id = server.run("t", Value::Null)["id"].as_str().expect("an id").to_owned();
    for (_, path) in CLOSED.into_iter().chain(OPEN) {
        for method in other_methods(path) {
            let refused = server.send(&Request::new(method, path.replace("{id}", &id)));
            assert_eq!(refused.problem(), (405, "method_not_allowed".into()), "{method} {path}");
            let allow = refused.header("allow").unwrap_or_default().to_owned();
            assert!(
                !allow.is_empty() && !allow.split(',').any(|name| name.trim() == method),
                "{method} {path}: {allow}"
            );
        }
    }
}

#[test]
fn unknown_paths_tasks_and_jobs_are_404() {
    let server = Server::start(TASKS);
    let unknown = "01970000-0000-7000-8000-000000000000";
    for path in ["/", "/v1", "/v2/jobs", "/v1/jobs/", "/index.html", "/v1//jobs", "/v1/tasks/t/jobs/"] {
        assert_eq!(server.get(path).problem().0, 404, "{path}");
    }
    assert_eq!(server.get("/v1/tasks/nope").problem(), (404, "unknown_task".into()));
    for verb in ["pause", "resume", "jobs"] {
        assert_eq!(server.post(&format!("/v1/tasks/nope/{verb}")).problem(), (404, "unknown_task".into()));
    }
    for id in [unknown, "x", "01970000", "0", "..", "%00"] {
        for (method, path) in CLOSED.iter().filter(|(_, path)| path.contains("{id}")) {
            let answer = server.send(&Request::new(method, path.replace("{id}", id)));
            assert_eq!(answer.problem().0, 404, "{method} {path} of {id}");
        }
    }
    assert_eq!(server.get(&format!("/v1/jobs/{unknown}")).problem(), (404, "unknown_job".into()));
}

#[test]
fn no_encoded_path_leads_out_of_a_job() {
    let server = Server::start(TASKS);
    let id = server.run("t", Value::Null)["id"].as_str().expect("an id").to_owned();
    let out = [
        "..%2f..%2ftoken",
        "..%2F..%2Ftoken",
        "%2e%2e%2ftoken",
        "../../token",
        "..",
        ".",
        "%2fetc%2fpasswd",
        "a.txt%00",
        "a.txt%2f..%2fa.txt",
    ];
    for name in out {
        let answer = server.get(&format!("/v1/jobs/{id}/artifacts/{name}"));
        assert_eq!(answer.problem().0, 404, "{name}");
        for verb in ["stdout", "payload", "result", "cancel"] {
            let answer = server.get(&format!("/v1/jobs/{name}/{verb}"));
            assert!(matches!(answer.problem().0, 404 | 405), "{name}/{verb}");
        }
    }
    assert_eq!(server.get(&format!("/v1/jobs/{id}/artifacts/a.txt")).expect(200).body, b"a\n");
}

#[test]
fn bad_queries_name_the_parameter() {
    let server = Server::start(TASKS);
    let bad_get = [
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=100000",
        "/v1/jobs?limit=x",
        "/v1/jobs?state=done",
        "/v1/jobs?task=A%20B",
        "/v1/jobs?since=yesterday",
        "/v1/jobs?parent=x",
    ];
    for target in bad_get {
        let answer = server.get(target);
        assert_eq!(answer.problem(), (400, "invalid_query".into()), "{target}");
        let name = target.split(['?', '=']).nth(1).expect("a name");
        assert!(
            answer.json()["detail"].as_str().expect("text").contains(name),
            "{target}: {}",
            answer.text()
        );
    }
    assert_eq!(server.get("/v1/jobs?cursor=x").problem(), (400, "invalid_cursor".into()));
    for query in [
        "priority=101",
        "priority=-101",
        "priority=x",
        "delay=x",
        "run_at=x",
        "delay=1s&run_at=2030-01-01T00:00:00Z",
    ] {
        let answer = server.post(&format!("/v1/tasks/t/jobs?{query}"));
        assert_eq!(answer.problem(), (400, "invalid_query".into()), "{query}");
    }
}

#[test]
fn every_answer_says_how_to_read_it_and_none_is_kept() {
    let server = Server::start(TASKS);
    let id = server.run("t", Value::Null)["id"].as_str().expect("an id").to_owned();
    let answers: Vec<Response> = ["/healthz", "/v1/jobs", "/v1/nope"].map(|path| server.get(path)).into();
    for answer in answers.iter().chain([&server.get(&format!("/v1/jobs/{id}/stdout"))]) {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    }
    for path in ["stdout", "stderr", "result", "payload", "artifacts/a.txt"] {
        let answer = server.get(&format!("/v1/jobs/{id}/{path}")).expect(200);
        assert!(
            answer.header("content-disposition").is_some_and(|value| value.starts_with("attachment")),
            "{path}"
        );
        assert!(
            answer.header("content-security-policy").is_some_and(|value| value.contains("sandbox")),
            "{path}"
        );
    }
}

#[test]
fn health_readiness_and_stats() {
    let server = Setup::new(TASKS).start();
    assert_eq!(server.get("/healthz").expect(200).json()["status"], "ok");
    assert_eq!(server.get("/readyz").expect(200).json()["status"], "ready");
    server.run("t", json!({}));
    let stats = server.get("/v1/stats").expect(200).json();
    assert_eq!(
        (&stats["finished"], &stats["failed"], &stats["running"], &stats["queued"]),
        (&json!(1), &json!(0), &json!(0), &json!(0))
    );
    assert_eq!(stats["keeper_pid"], server.keeper_pid());
    assert_eq!(stats["server_pid"], server.server_pid());
    assert!(stats["max_running"].as_u64().is_some_and(|slots| slots >= 4), "{stats}");
    assert!(["cgroup", "monitor"].iter().any(|level| stats["containment"] == *level), "{stats}");
}

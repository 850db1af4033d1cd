//! The answers of users' own routes: a job, an envelope, a line of text, or the program's
//! own output.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Request, Server, Setup, at_once};

const TASKS: &str = r#"
[limits]
max_running = 16
[task.job]
command = ["sh", "-c", 'exit "$1"', "sh", "{{payload.n}}"]
route = "POST /job"
reply = { format = "job" }
[task.job-wait]
command = ["sh", "-c", 'exit "$1"', "sh", "{{payload.n}}"]
route = "POST /job-wait"
reply = { wait = "20s", status = { failed = 502 } }
[task.envelope]
command = ["sh", "-c", 'exit "$1"', "sh", "{{payload.n}}"]
route = "POST /envelope"
reply = { format = "envelope", wait = "20s" }
[task.text]
command = ["sh", "hello.sh", "{{payload.n}}"]
route = "POST /text"
reply = { format = "text", template = "Task initiated successfully.\nReturn code: {{exit_code}}\n", wait = "20s" }
[task.stdout]
command = ["sh", "-c", 'printf "\377raw $1"; exit 4', "sh", "{{payload.x}}"]
route = "POST /stdout"
reply = { format = "stdout", wait = "20s" }
[task.slow]
command = ["sleep", "600"]
timeout = "300ms"
route = "POST /slow"
reply = { format = "text", template = "{{state}} {{exit_code}}{{signal}}", wait = "20s", status = { failed = 500, timed_out = 504 } }
[task.long]
command = ["sleep", "600"]
route = "POST /long"
reply = { format = "text", template = "{{exit_code}}", wait = "200ms" }
[task.get]
command = ["sh", "-c", 'echo "hello $1 in $2"', "sh", "{{query.name}}", "{{query.mode:-fast}}"]
route = "GET /hello"
reply = { format = "stdout", wait = "20s" }
"#;

fn start() -> Server {
    Setup::new(TASKS).file("hello.sh", "echo hello\nexit $1\n").start()
}

fn post(server: &Server, path: &str, payload: Value) -> crate::harness::Response {
    server.send(&Request::post(path).json(&payload))
}

#[test]
fn a_job_reply_is_as_v1_answers() {
    let server = start();
    let answer = post(&server, "/job", json!({"n": 3})).expect(202);
    assert_eq!(
        (&answer.json()["task"], answer.job_id()),
        (&json!("job"), answer.json()["id"].as_str().expect("an id").into())
    );
    assert_eq!(server.over(&answer.job_id())["exit_code"], 3);
    let preferred =
        server.send(&Request::post("/job").json(&json!({"n": 3})).header("Prefer", "wait=20")).expect(200);
    assert_eq!(preferred.json()["exit_code"], 3);
    assert_eq!(post(&server, "/job", json!({})).problem(), (422, "invalid_argument".into()));
}

#[test]
fn a_waiting_job_reply_maps_ends_to_statuses() {
    let server = start();
    assert_eq!(post(&server, "/job-wait", json!({"n": 0})).expect(200).json()["state"], "succeeded");
    let failed = post(&server, "/job-wait", json!({"n": 3})).expect(502);
    assert_eq!((&failed.json()["exit_code"], failed.header("location").is_some()), (&json!(3), true));
}

#[test]
fn a_waiting_envelope_tells_success_from_failure() {
    let server = start();
    assert_eq!(
        post(&server, "/envelope", json!({"n": 0})).expect(200).json(),
        json!({"code": 200, "message": "success"})
    );
    let failed = post(&server, "/envelope", json!({"n": 1})).expect(500);
    assert_eq!(failed.json(), json!({"code": 500, "message": "Internal server error."}));
}

#[test]
fn seed_003_the_return_code_is_the_scripts() {
    let server = start();
    for n in [0, 3, 137, 255] {
        let answer = post(&server, "/text", json!({"n": n})).expect(200);
        assert_eq!(answer.text(), format!("Task initiated successfully.\nReturn code: {n}\n"));
        assert!(
            answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
            "{answer:?}"
        );
        assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{}", answer.job_id()).as_str()));
    }
}

#[test]
fn seed_003_100_waits_at_once_get_each_its_own_code_heavy() {
    let server = start();
    let began = Instant::now();
    let texts = at_once(100, |n| (n, post(&server, "/text", json!({"n": n})).expect(200).text().to_owned()));
    for (n, text) in texts {
        assert_eq!(text, format!("Task initiated successfully.\nReturn code: {n}\n"));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_stdout_reply_is_the_programs_bytes() {
    let server = start();
    let answer = post(&server, "/stdout", json!({"x": "é"})).expect(200);
    assert_eq!(answer.body, b"\xffraw \xc3\xa9");
    assert_eq!(answer.header("procession-exit-code"), Some("4"));
    assert!(answer.header("content-disposition").is_some(), "nothing a browser runs: {answer:?}");
}

#[test]
fn a_time_out_has_its_status_and_a_signal_no_code() {
    let answer = post(&start(), "/slow", json!({})).expect(504);
    assert_eq!(answer.text(), "timed_out 15");
}

#[test]
fn when_the_wait_is_over_first_the_answer_is_202_and_the_job_goes_on() {
    let server = start();
    let answer = post(&server, "/long", json!({})).expect(202);
    assert_eq!(answer.json()["id"], answer.job_id());
    assert_eq!(server.job(&answer.job_id())["state"], "running");
    server.cancel(&answer.job_id()).expect(202);
}

#[test]
fn a_get_route_takes_its_values_from_the_query() {
    let server = start();
    let answer = server.get("/hello?name=Ada%20%26%20Bob&mode=slow").expect(200);
    assert_eq!(answer.text(), "hello Ada & Bob in slow\n");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(server.get("/hello?name=Ada").expect(200).text(), "hello Ada in fast\n");
    assert_eq!(server.get("/hello").problem(), (422, "invalid_argument".into()));
    assert_eq!(server.get("/hello?name=-rf").problem(), (422, "invalid_argument".into()));
}

#[test]
fn a_get_route_starts_nothing_for_head_or_another_sites_page() {
    let server = start();
    let head = server.send(&Request::new("HEAD", "/hello?name=x"));
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    for site in ["cross-site", "same-site"] {
        let answer = server.send(&Request::get("/hello?name=x").header("Sec-Fetch-Site", site));
        assert_eq!(answer.problem(), (403, "cross_site".into()));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(server.post("/hello?name=x").status, 405);
    assert!(server.all_jobs("").is_empty());
    assert_eq!(
        server.send(&Request::get("/hello?name=x").header("Sec-Fetch-Site", "same-origin")).status,
        200
    );
}

#[test]
fn a_synchronous_reply_comes_when_the_program_ends_not_later_heavy() {
    let server = start();
    post(&server, "/text", json!({"n": 0}));
    let began = Instant::now();
    for _ in 0..20 {
        post(&server, "/text", json!({"n": 0})).expect(200);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "20 in a row took {:?}", began.elapsed());
}

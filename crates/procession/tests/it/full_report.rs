//! Seed 000, the reference program, by configuration alone: the example's own config, schema
//! and program, with nothing changed but the port.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Request, Response, Server, Setup};

const ROUTE: &str = "/internal/v1/subway-images/full-report";

const FIELDS: [&str; 9] = [
    "requestId",
    "systemId",
    "inspectionStartTime",
    "inspectionEndTime",
    "trainId",
    "lineCode",
    "imageUrls",
    "yardName",
    "direction",
];

/// Stands in for `process.py`: parses the same arguments, prints what it got, byte by byte,
/// and runs until the file `go` is there.
const STAND_IN: &str = r#"
import argparse, json, os, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
data = parser.parse_args().data
json.loads(data)
sys.stdout.buffer.write(os.fsencode(data))
sys.stdout.flush()
while not os.path.exists("go"):
    time.sleep(0.02)
"#;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/subway-inspection")
}

fn read(name: &str) -> String {
    fs::read_to_string(example().join(name)).expect("a file of the example")
}

/// The example's config on a port of the kernel's choice.
fn config() -> String {
    let config = read("procession.toml").replace("127.0.0.1:8080", "127.0.0.1:0");
    config.replace("[server]", "[server]\ndata_dir = \"data\"\nstop_timeout = \"5s\"")
}

fn setup(config: &str, program: &str) -> Setup {
    Setup::new(config)
        .file("full-report.schema.json", read("full-report.schema.json"))
        .file("process.py", program)
}

fn with_stand_in() -> Server {
    setup(&config(), STAND_IN).start()
}

fn request() -> Value {
    serde_json::from_str(&read("request.json")).expect("JSON")
}

fn post(server: &Server, body: &Value) -> Response {
    server.stranger().send(&Request::post(ROUTE).json(body))
}

#[track_caller]
fn assert_envelope(response: &Response, code: u16, message: &str) {
    assert_eq!(response.json(), json!({"code": code, "message": message}));
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[track_caller]
fn assert_missing(response: &Response) {
    assert_eq!(response.status, 200, "always_200");
    assert_envelope(response, 400, "Missing required parameters.");
    assert_eq!(response.header("procession-job-id"), None, "nothing was accepted");
}

#[test]
fn each_of_the_nine_fields_may_neither_be_missing_nor_null() {
    let server = with_stand_in();
    for field in FIELDS {
        let mut without = request();
        without.as_object_mut().expect("an object").remove(field);
        assert_missing(&post(&server, &without));
        let mut null = request();
        null[field] = Value::Null;
        assert_missing(&post(&server, &null));
    }
    assert!(server.all_jobs("").is_empty(), "no refused request became a job");
}

#[test]
fn each_field_of_an_image_may_neither_be_missing_nor_null() {
    let server = with_stand_in();
    for field in ["imageUrl", "location"] {
        let mut without = request();
        without["imageUrls"][6].as_object_mut().expect("an image").remove(field);
        assert_missing(&post(&server, &without));
        let mut null = request();
        null["imageUrls"][0][field] = Value::Null;
        assert_missing(&post(&server, &null));
    }
    for images in [json!(["x"]), json!([null]), json!("x"), json!({})] {
        let mut odd = request();
        odd["imageUrls"] = images;
        assert_missing(&post(&server, &odd));
    }
}

#[test]
fn what_the_flask_program_does_not_ask_for_is_not_asked_for() {
    let server = with_stand_in();
    fs::write(server.path().join("go"), "").expect("written");
    let mut bare = request();
    bare.as_object_mut().expect("an object").remove("detectionParty");
    bare["imageUrls"] = json!([]);
    bare["trainId"] = json!(15052);
    assert_envelope(&post(&server, &bare), 200, "success");
    let more = json!({"further": {"fields": [1, 2, 3]}});
    let mut long = request();
    long["more"] = more;
    assert_envelope(&post(&server, &long), 200, "success");
}

#[test]
fn a_body_that_is_no_json_object_is_refused_in_the_envelope() {
    let server = with_stand_in();
    for body in ["", "{", "{\"requestId\":", "nope", "[]", "\"x\"", "7", "null", "{}", "{\"a\":1,\"a\":2}"] {
        let sent = Request::post(ROUTE).body("application/json", body);
        assert_missing(&server.stranger().send(&sent));
    }
    let not_utf8 = Request::post(ROUTE).body("application/json", vec![b'"', 0xff, b'"']);
    assert_missing(&server.stranger().send(&not_utf8));
    let form = Request::post(ROUTE).body("application/x-www-form-urlencoded", "requestId=1");
    assert_missing(&server.stranger().send(&form));
}

#[test]
fn accepted_is_success_and_the_headers_name_the_job() {
    let server = with_stand_in();
    fs::write(server.path().join("go"), "").expect("written");
    let response = post(&server, &request());
    assert_eq!(response.status, 200);
    assert_envelope(&response, 200, "success");
    assert_eq!(response.body, br#"{"code":200,"message":"success"}"#, "as the callers parse it");
    let id = response.job_id();
    assert_eq!(response.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    let job = server.over(&id);
    assert_eq!(
        (&job["state"], &job["task"], &job["submitted_by"]),
        (&json!("succeeded"), &json!("full-report"), &json!("anonymous"))
    );
    let found = server.all_jobs(&format!("label.request={}", request()["requestId"].as_str().expect("text")));
    assert_eq!(found.len(), 1, "found by the caller's own id");
}

#[test]
fn the_program_gets_exactly_the_bytes_the_client_sent() {
    let server = with_stand_in();
    fs::write(server.path().join("go"), "").expect("written");
    let bodies = [
        read("request.json"),
        request().to_string(),
        format!(" \t\r\n{} ", request()).replace("香江北路", "\\u9999江北路 \u{1F682} \\/ \\\" é"),
        request().to_string().replace("\"0\"", "1.50e+3"),
    ];
    for body in bodies {
        let response = server.stranger().send(&Request::post(ROUTE).body("application/json", body.clone()));
        let job = server.over(&response.job_id());
        assert_eq!(job["exit_code"], 0, "{job}");
        assert_eq!(String::from_utf8_lossy(&server.stdout(&response.job_id())), body);
    }
}

#[test]
fn the_eleventh_at_once_is_told_to_come_later() {
    let server = with_stand_in();
    let accepted: Vec<Response> = (0..10).map(|_| post(&server, &request())).collect();
    for response in &accepted {
        assert_envelope(response, 200, "success");
    }
    let eleventh = post(&server, &request());
    assert_eq!(eleventh.status, 200);
    assert_envelope(&eleventh, 429, "System busy, try later.");
    let wait: u64 = eleventh.header("retry-after").expect("when to come").parse().expect("seconds");
    assert!(wait >= 1);
    fs::write(server.path().join("go"), "").expect("written");
    for response in &accepted {
        assert_eq!(server.over(&response.job_id())["exit_code"], 0);
    }
    assert_envelope(&post(&server, &request()), 200, "success");
}

#[test]
fn without_always_200_the_status_says_the_same_as_the_envelope() {
    let config = config().replace(", always_200 = true", "").replace("max_running = 10", "max_running = 1");
    let server = setup(&config, STAND_IN).start();
    let malformed = server.stranger().send(&Request::post(ROUTE).body("application/json", "{"));
    assert_envelope(&malformed.expect(400), 400, "Missing required parameters.");
    assert_envelope(&post(&server, &json!({})).expect(400), 400, "Missing required parameters.");
    let first = post(&server, &request()).expect(200);
    assert_envelope(&first, 200, "success");
    assert_envelope(&post(&server, &request()).expect(429), 429, "System busy, try later.");
    fs::write(server.path().join("go"), "").expect("written");
    server.over(&first.job_id());
}

#[test]
fn a_request_too_large_for_the_kernel_is_refused_and_not_accepted() {
    let server = with_stand_in();
    let mut large = request();
    large["yardName"] = json!("x".repeat(200 * 1024));
    assert_missing(&post(&server, &large));
    large["yardName"] = json!("x".repeat(2 << 20));
    assert_missing(&post(&server, &large));
    assert!(server.all_jobs("").is_empty());
}

#[test]
fn the_rest_of_the_api_still_asks_for_a_token() {
    let server = with_stand_in();
    let stranger = server.stranger();
    assert_eq!(stranger.send(&Request::get("/v1/jobs")).status, 401);
    assert_eq!(stranger.send(&Request::submit("full-report", &request())).status, 401);
}

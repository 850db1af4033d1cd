//! The example as a whole: its own config, program, schema, request and photo server. With
//! and without Pillow, which `PROCESSION_TEST_PYTHON` may have.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Process, Request, Server, Setup, command};

const ROUTE: &str = "/internal/v1/subway-images/full-report";

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/subway-inspection")
}

fn read(name: &str) -> String {
    fs::read_to_string(example().join(name)).expect("a file of the example")
}

/// The depot's image store, and where it is.
fn photo_server() -> (Process, String) {
    let mut serve = command("/usr/bin/env");
    serve.args(["python3"]).arg(example().join("serve_photos.py")).args(["--port", "0"]);
    let mut child = serve.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("readable");
    let url = line.trim().strip_prefix("photos at ").expect("it says where it is").to_owned();
    (Process(child), url)
}

/// The example, copied, with this interpreter for `process.py`.
fn start(python: &str) -> Server {
    let config = read("procession.toml")
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("[server]", "[server]\ndata_dir = \"data\"")
        .replace("\"python3\"", &json!(python).to_string());
    Setup::new(&config)
        .file("full-report.schema.json", read("full-report.schema.json"))
        .file("process.py", read("process.py"))
        .start()
}

/// Runs the example's request to its end.
fn inspect(server: &Server, photos: &str) -> Value {
    let body = read("request.json").replace("http://127.0.0.1:9400/", photos);
    let sent = Request::post(ROUTE).body("application/json", body);
    let answer = server.stranger().send(&sent).expect(200);
    assert_eq!(answer.json(), json!({"code": 200, "message": "success"}));
    let job = server.over(&answer.job_id());
    assert_eq!(job["exit_code"], 0, "{job}");
    job
}

fn verdicts(job: &Value) -> Vec<&str> {
    let images = job["result"]["images"].as_array().unwrap_or_else(|| panic!("images in {job}"));
    images.iter().map(|image| image["verdict"].as_str().expect("a verdict")).collect()
}

#[test]
fn a_request_becomes_a_report_without_pillow() {
    let (_photos, url) = photo_server();
    // An interpreter that sees no packages beside its own library.
    let server = start("/usr/bin/python3");
    let job = inspect(&server, &url);
    let id = job["id"].as_str().expect("an id");
    assert_eq!(verdicts(&job).len(), 7);
    assert!(verdicts(&job).iter().all(|verdict| ["intact", "good", "review"].contains(verdict)), "{job}");
    assert_eq!(job["progress"]["fraction"], 1.0, "{job}");
    assert_eq!(server.get(&format!("/v1/jobs/{id}/result")).expect(200).json(), job["result"]);
    let listed = server.get(&format!("/v1/jobs/{id}/artifacts")).expect(200).json();
    assert_eq!(listed["items"][0]["name"], "report.html", "{listed}");
    let report = server.get(&format!("/v1/jobs/{id}/artifacts/report.html")).expect(200);
    assert_eq!(report.body.len(), listed["items"][0]["size"].as_u64().expect("a size") as usize);
    assert!(report.text().contains("15052") && report.text().contains("车顶左"));
    let printed = String::from_utf8(server.stdout(id)).expect("text");
    assert!(printed.contains("15052 M15 香江北路"), "{printed}");
    assert!(
        !server.path().join("reports").exists(),
        "the report is the job's, not a file beside the program"
    );
}

#[test]
fn an_image_that_cannot_be_had_is_a_finding_not_a_failure() {
    let server = start("/usr/bin/python3");
    // Nothing listens on this port: it was bound and given back.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let job = inspect(&server, &format!("http://{closed}/"));
    assert_eq!(verdicts(&job), ["unreadable"; 7]);
}

#[test]
fn a_request_becomes_a_report_with_pillow() {
    let python = std::env::var("PROCESSION_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_pillow =
        command(&python).args(["-c", "import PIL"]).output().is_ok_and(|ran| ran.status.success());
    if !has_pillow {
        println!("skipped: {python} has no Pillow; scripts/test installs it");
        return;
    }
    let (_photos, url) = photo_server();
    let server = start(&python);
    let job = inspect(&server, &url);
    let found = verdicts(&job);
    let count = |verdict| found.iter().filter(|found| **found == verdict).count();
    assert_eq!((count("good"), count("review")), (5, 2), "as the README says: {job}");
}

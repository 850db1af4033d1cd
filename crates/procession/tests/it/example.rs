//! The example as a whole: its own configs, programs, schema, request and photo server. With
//! and without Pillow, which `PROCESSION_TEST_PYTHON` may have.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Process, Request, Server, Setup, Shell, blocks, command};

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
    setup("procession.toml", python).start()
}

/// The same with a process for each photograph.
fn start_fan_out(python: &str) -> Server {
    setup("procession.fan-out.toml", python).start()
}

fn setup(config: &str, python: &str) -> Setup {
    let config = read(config)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("[server]", "[server]\ndata_dir = \"data\"")
        .replace("\"python3\"", &json!(python).to_string());
    let files = ["full-report.schema.json", "process.py", "inspect_image.py", "join_report.py"];
    files.into_iter().fold(Setup::new(&config), |setup, name| setup.file(name, read(name)))
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

fn children(server: &Server, job: &Value) -> Vec<Value> {
    let id = job["id"].as_str().expect("an id");
    let page = server.get(&format!("/v1/jobs/{id}/children")).expect(200).json();
    page["items"].as_array().expect("a list").clone()
}

#[test]
fn each_photograph_by_itself_makes_the_same_report() {
    let (_photos, url) = photo_server();
    let python = std::env::var("PROCESSION_TEST_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let alone = inspect(&start(&python), &url);
    let server = start_fan_out(&python);
    let job = inspect(&server, &url);
    assert_eq!(job["children"], json!({"succeeded": 7}), "{job}");
    assert_eq!(job["result"], alone["result"], "to the last digit");
    assert_eq!(job["progress"], json!({"fraction": 1.0, "message": "report written"}), "{job}");
    let id = job["id"].as_str().expect("an id");
    let printed = |job: &Value| job["output"]["stdout_tail"].clone();
    assert_eq!(printed(&job), printed(&alone));
    let report = server.get(&format!("/v1/jobs/{id}/artifacts/report.html")).expect(200);
    assert!(report.text().contains("15052") && report.text().contains("data:image/jpeg;base64,"));
    let roof = &children(&server, &job)[0];
    assert!(roof["result"].is_null(), "a list has no results");
    let said = server.stderr(roof["id"].as_str().expect("an id"));
    assert!(String::from_utf8_lossy(&said).starts_with("车顶左: "), "{roof}");
}

#[test]
fn a_photograph_whose_program_crashes_is_a_line_of_the_report() {
    let (_photos, url) = photo_server();
    let crash =
        "import os, signal\nif shot.location == \"车底\":\n    os.kill(os.getpid(), signal.SIGSEGV)\n";
    let crash = crash.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let before = "    finding = process.inspect(shot)\n";
    let program = read("inspect_image.py").replace(before, &format!("{crash}{before}"));
    let server =
        setup("procession.fan-out.toml", "/usr/bin/python3").file("inspect_image.py", program).start();
    let job = inspect(&server, &url);
    assert_eq!(
        (&job["state"], &job["children"]),
        (&json!("succeeded"), &json!({"failed": 1, "succeeded": 6}))
    );
    let image = &job["result"]["images"][5];
    assert_eq!(
        (&image["verdict"], &image["reasons"]),
        (&json!("unreadable"), &json!(["its inspection failed"]))
    );
    assert_eq!(verdicts(&job).iter().filter(|verdict| **verdict == "unreadable").count(), 1, "{job}");
    let crashed = &children(&server, &job)[5];
    assert_eq!((&crashed["signal"], &crashed["attempt"]), (&json!(11), &json!(2)), "it had its second try");
}

#[test]
fn the_eleventh_train_is_told_to_come_later_by_the_same_words() {
    let server = start_fan_out("/usr/bin/python3");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let body = read("request.json");
    let body = body.replace("127.0.0.1:9400", &silent.local_addr().expect("bound").to_string());
    let post = || server.stranger().send(&Request::post(ROUTE).body("application/json", body.clone()));
    let accepted: Vec<String> = (0..10).map(|_| post().job_id()).collect();
    assert_eq!(post().json(), json!({"code": 429, "message": "System busy, try later."}));
    let mut missing: Value = serde_json::from_str(&body).expect("JSON");
    missing["imageUrls"][3]["location"] = Value::Null;
    let answer = server.stranger().send(&Request::post(ROUTE).json(&missing));
    assert_eq!(answer.json(), json!({"code": 400, "message": "Missing required parameters."}));
    accepted.iter().for_each(|id| drop(server.cancel(id).expect(202)));
    accepted.iter().for_each(|id| assert_eq!(server.over(id)["state"], "cancelled"));
}

#[test]
fn the_commands_of_its_page_do_what_it_says() {
    let (_photos, url) = photo_server();
    let request = read("request.json").replace("http://127.0.0.1:9400/", &url);
    let server = setup("procession.fan-out.toml", "/usr/bin/python3").file("request.json", request).start();
    let mut shell = Shell::beside(&server);
    let page = blocks(&read("README.md"));
    let typed: Vec<_> = page.iter().filter(|block| block.kind == "console").collect();
    assert!(!typed.is_empty());
    typed.into_iter().for_each(|block| shell.types(block));
}

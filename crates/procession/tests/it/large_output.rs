//! Output beyond the limits: straight to a file nothing is dropped, as a result nothing is
//! cut, and a reader who has begun gets all of it.

use std::fs;
use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, sha256, wait_for};

const TASKS: &str = r#"
[task.file]
command = ["sh", "-c", 'seq 200000; seq 150000 >&2; while [ ! -e go ]; do sleep 0.02; done; seq 50000; echo last >&2']
output = "file"
output_limit = "64KiB"
[task.digits]
command = ["sh", "-c", 'head -c "$1" /dev/zero | tr "\0" 1', "sh", "{{payload.bytes}}"]
result = "stdout"
output_limit = "100KiB"
[task.digits-required]
command = ["sh", "-c", 'head -c "$1" /dev/zero | tr "\0" 1', "sh", "{{payload.bytes}}"]
result = "stdout"
result_required = true
result_schema = "number.schema.json"
output_limit = "200B"
[task.digits-to-file]
command = ["sh", "-c", 'head -c "$1" /dev/zero | tr "\0" 1', "sh", "{{payload.bytes}}"]
result = "stdout"
output = "file"
output_limit = "1KiB"
[task.numbers]
command = ["seq", "5000000"]
output_limit = "1GiB"
"#;

fn start() -> Server {
    Setup::new(TASKS).file("number.schema.json", json!({"type": "number"}).to_string()).start()
}

fn numbers(last: u32) -> String {
    (1..=last).map(|n| format!("{n}\n")).collect()
}

fn id_of(job: &Value) -> &str {
    job["id"].as_str().expect("an id")
}

#[track_caller]
fn serves(server: &Server, id: &str, stream: &str, expected: &str) {
    let answer = server.get(&format!("/v1/jobs/{id}/{stream}")).expect(200);
    assert_eq!(answer.header("procession-dropped"), None);
    assert_eq!(answer.body.len(), expected.len(), "{stream}");
    assert_eq!(sha256(&answer.body), sha256(expected.as_bytes()), "{stream}");
}

#[test]
fn output_straight_to_a_file_is_whole_beyond_the_limit_and_seen_as_it_comes() {
    let server = start();
    let id = server.running("file", Value::Null);
    let target = format!("/v1/jobs/{id}/stdout?follow=1");
    let mut following = server.open(&Request::get(target)).expect("sent");
    assert_eq!(following.head().expect("a head").header("procession-dropped"), None);
    let (before, errors) = (numbers(200_000), numbers(150_000));
    let mut first = vec![0; before.len()];
    following.read_exact(&mut first).expect("it comes while the job runs");
    assert_eq!(sha256(&first), sha256(before.as_bytes()));
    wait_for("stderr too", BOUND, || {
        server.get(&format!("/v1/jobs/{id}/stderr")).expect(200).body.len() == errors.len()
    });
    assert_eq!(server.job(&id)["state"], "running");
    serves(&server, &id, "stdout", &before);
    serves(&server, &id, "stderr", &errors);
    fs::write(server.path().join("go"), "").expect("written");
    let mut rest = Vec::new();
    following.read_to_end(&mut rest).expect("readable");
    assert_eq!(sha256(&rest), sha256(numbers(50_000).as_bytes()));
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "exited", "code": 0}), "{job}");
    let whole = before + &numbers(50_000);
    serves(&server, &id, "stdout", &whole);
    serves(&server, &id, "stderr", &(errors + "last\n"));
    let output = &job["output"];
    assert_eq!(
        (&output["stdout_bytes"], &output["stdout_dropped"], &output["stderr_dropped"]),
        (&json!(whole.len()), &json!(0), &json!(0))
    );
    let part = Request::get(format!("/v1/jobs/{id}/stdout")).header("Range", "bytes=1000000-1000099");
    assert_eq!(server.send(&part).expect(206).body, &whole.as_bytes()[1_000_000..1_000_100]);
}

#[test]
fn a_result_on_stdout_that_outgrew_its_limit_is_bad_and_no_fragment_of_it_is_served() {
    let server = start();
    // A number cut anywhere is a number: nothing but the count gives it away.
    for (task, bytes) in
        [("digits", 102_401), ("digits", 3_000_000), ("digits-required", 201), ("digits-required", 9_000)]
    {
        let job = server.run(task, json!({"bytes": bytes}));
        assert_eq!(
            (&job["state"], &job["outcome"]["kind"], &job["result"]),
            (&json!("failed"), &json!("bad_result"), &Value::Null),
            "{task} {bytes}: {job}"
        );
        let answer = server.get(&format!("/v1/jobs/{}/result", id_of(&job)));
        assert_eq!(answer.problem(), (404, "no_result".into()), "{task} {bytes}");
    }
}

#[test]
fn a_result_on_stdout_within_its_limit_is_whole() {
    let server = start();
    for (task, bytes) in [
        ("digits", 102_400),
        ("digits", 70_000),
        ("digits-required", 20),
        ("digits-required", 200),
        ("digits-to-file", 1_025),
        ("digits-to-file", 300_000),
    ] {
        let job = server.run(task, json!({"bytes": bytes}));
        assert_eq!(job["state"], "succeeded", "{task} {bytes}: {}", job["outcome"]);
        let answer = server.get(&format!("/v1/jobs/{}/result", id_of(&job))).expect(200);
        assert_eq!(sha256(&answer.body), sha256(&vec![b'1'; bytes]), "{task} {bytes}");
    }
}

#[test]
fn a_download_that_has_begun_is_whole_although_the_job_is_deleted_heavy() {
    let mut server = start();
    let expected = sha256(numbers(5_000_000).as_bytes());
    let job = server.run("numbers", Value::Null);
    let path = format!("/v1/jobs/{}", id_of(&job));
    let mut reading = server.open(&Request::get(format!("{path}/stdout"))).expect("sent");
    assert_eq!(reading.head().expect("a head").status, 200);
    let mut all = vec![0; 100_000];
    reading.read_exact(&mut all).expect("readable");
    server.send(&Request::new("DELETE", path.as_str())).expect(204);
    let folder = server.data().join("jobs").join(id_of(&job));
    wait_for("its files are gone", BOUND, || !folder.exists());
    // Others write meanwhile, where its bytes lay.
    server.run("numbers", Value::Null);
    reading.read_to_end(&mut all).expect("to the end");
    assert_eq!(sha256(&all), expected);
    assert_eq!(server.get(&path).status, 404);
    let began = std::time::Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8));
}

//! What a job hands back: by file or by stdout, small or large, required or checked.

use serde_json::{Value, json};

use crate::harness::{Server, Setup, sha256};

const TASKS: &str = r#"
[task.json]
command = ["sh", "-c", 'printf "%s" "$1" > "$PROCESSION_RESULT"', "sh", "{{payload}}"]
payload = "argv"
[task.bytes]
command = ["sh", "-c", 'printf "\377\376raw" > "$PROCESSION_RESULT"']
[task.large]
command = ["sh", "-c", 'head -c "$1" /dev/zero | tr "\0" 1 > "$PROCESSION_RESULT"', "sh", "{{payload.bytes}}"]
[task.stdout]
command = ["sh", "-c", 'printf "%s" "{\"a\":[1,2]}"; echo log >&2']
result = "stdout"
[task.required]
command = ["sh", "-c", 'if [ "$1" = yes ]; then echo 1 > "$PROCESSION_RESULT"; fi; exit "$2"', "sh", "{{payload.write}}", "{{payload.code}}"]
result_required = true
[task.checked]
command = ["sh", "-c", 'printf "%s" "$1" > "$PROCESSION_RESULT"', "sh", "{{payload.result}}"]
result_schema = "result.schema.json"
"#;

fn start() -> Server {
    let schema = json!({"type": "object", "required": ["ok"]});
    Setup::new(TASKS).file("result.schema.json", schema.to_string()).start()
}

#[test]
fn json_is_in_the_job_and_exact_at_its_address() {
    let server = start();
    let job = server.run_bytes("json", "application/json", "{ \"a\" : 1.50, \"é\": [null] }");
    assert_eq!(job["result"], json!({"a": 1.5, "é": [null]}), "{job}");
    let answer = server.get(&format!("/v1/jobs/{}/result", job["id"].as_str().expect("an id"))).expect(200);
    assert_eq!(answer.text(), "{ \"a\" : 1.50, \"é\": [null] }");
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn bytes_are_at_their_address_alone() {
    let server = start();
    let job = server.run("bytes", Value::Null);
    assert_eq!((&job["state"], &job["result"]), (&json!("succeeded"), &Value::Null));
    let answer = server.get(&format!("/v1/jobs/{}/result", job["id"].as_str().expect("an id"))).expect(200);
    assert_eq!(answer.body, b"\xff\xferaw");
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn a_large_result_is_a_file() {
    let server = start();
    for size in [64 * 1024, 64 * 1024 + 1, 3_000_000] {
        let job = server.run("large", json!({"bytes": size}));
        assert_eq!(job["state"], "succeeded", "{}", job["outcome"]);
        let answer =
            server.get(&format!("/v1/jobs/{}/result", job["id"].as_str().expect("an id"))).expect(200);
        assert_eq!(sha256(&answer.body), sha256(&vec![b'1'; size]), "{size}");
    }
}

#[test]
fn stdout_can_be_the_result() {
    let job = start().run("stdout", Value::Null);
    assert_eq!((&job["result"], &job["state"]), (&json!({"a": [1, 2]}), &json!("succeeded")));
}

#[test]
fn no_result_is_404() {
    let server = Server::start("[task.t]\ncommand = ['true']\n");
    let job = server.run("t", Value::Null);
    assert!(job["result"].is_null());
    let path = format!("/v1/jobs/{}/result", job["id"].as_str().expect("an id"));
    assert_eq!(server.get(&path).problem(), (404, "no_result".into()));
}

#[test]
fn f30_a_missing_result_is_a_failure_where_it_is_required() {
    let server = start();
    let run = |write: &str, code: u8| server.run("required", json!({"write": write, "code": code}));
    let missing = run("no", 0);
    assert_eq!(
        (&missing["state"], &missing["outcome"]["kind"]),
        (&json!("failed"), &json!("result_missing"))
    );
    assert_eq!(run("yes", 0)["state"], "succeeded");
    let failed = run("no", 3);
    assert_eq!(failed["outcome"], json!({"kind": "exited", "code": 3}), "its own failure says more");
    let wrote = run("yes", 3);
    assert_eq!(
        (&wrote["outcome"]["code"], &wrote["result"]),
        (&json!(3), &json!(1)),
        "a failed job's result is kept"
    );
}

#[test]
fn f31_a_result_that_does_not_fit_is_a_failure() {
    let server = start();
    let run = |result: &str| server.run("checked", json!({"result": result}));
    assert_eq!(run("{\"ok\":1}")["state"], "succeeded");
    for bad in ["{}", "[]", "{\"ok\":", "plain"] {
        let job = run(bad);
        assert_eq!(
            (&job["state"], &job["outcome"]["kind"]),
            (&json!("failed"), &json!("bad_result")),
            "{bad}"
        );
        assert!(job["outcome"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{job}");
    }
}

#[test]
fn a_result_that_is_no_plain_file_is_not_followed() {
    let config = "[task.link]\ncommand = ['sh', '-c', 'ln -s /etc/passwd \"$PROCESSION_RESULT\"']\n[task.pipe]\ncommand = ['sh', '-c', 'mkfifo \"$PROCESSION_RESULT\"']\n[task.folder]\ncommand = ['sh', '-c', 'mkdir \"$PROCESSION_RESULT\"']\n";
    let server = Server::start(config);
    for task in ["link", "pipe", "folder"] {
        let job = server.run(task, Value::Null);
        let path = format!("/v1/jobs/{}/result", job["id"].as_str().expect("an id"));
        assert_eq!(server.get(&path).status, 404, "{task}: {job}");
    }
}

#[test]
fn a_result_of_an_ended_job_is_kept() {
    let config =
        "[task.t]\ncommand = ['sh', '-c', 'echo 7 > \"$PROCESSION_RESULT\"; sleep 600']\ntimeout = '300ms'\n";
    let job = Server::start(config).run("t", Value::Null);
    assert_eq!((&job["state"], &job["result"]), (&json!("timed_out"), &json!(7)), "{job}");
}

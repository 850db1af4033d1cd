//! What a client's values become in a command: one argument each, as they are, or a refusal
//! before anything is accepted.

use serde_json::{Value, json};

use crate::harness::{Request, Response, Server};

/// Prints its arguments between `<` and `>`, one a line.
const ECHO: &str = r#"command = ["sh", "-c", 'printf "<%s>\n" "$@"', "sh", "#;

fn task(arguments: &str) -> String {
    format!("[task.t]\n{ECHO}{arguments}]\n")
}

#[track_caller]
fn refused(answer: &Response, pointer: &str) {
    assert_eq!(answer.problem(), (422, "invalid_argument".into()));
    let errors = &answer.json()["errors"];
    assert_eq!(errors[0]["pointer"], pointer, "{errors}");
    assert!(errors[0]["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
}

#[test]
fn values_of_the_payload_fill_elements_and_parts_of_them() {
    let server = Server::start(&task(
        r#""{{payload.a.b.0}}", "--n={{payload.n}}", "{{payload.flag}}{{payload.text}}", "{{payload.deep}}""#,
    ));
    let payload =
        json!({"a": {"b": ["first", "x"]}, "n": 1.5, "flag": true, "text": "é 香", "deep": {"k": [1, null]}});
    let printed = server.printed("t", payload);
    assert_eq!(printed, "<first>\n<--n=1.5>\n<trueé 香>\n<{\"k\":[1,null]}>\n");
}

#[test]
fn values_are_one_argument_whatever_they_hold() {
    let server = Server::start(&task(r#""{{payload.x}}", "end""#));
    for value in [
        "; rm -rf /",
        "$(touch pwned)`touch pwned`",
        "a\nb\r\nc\t",
        "  two  words  ",
        "'\"\\",
        "*",
        "{{payload.y}}",
        "",
        "\u{202e}x\u{7f}\u{1}",
        "@/etc/passwd",
    ] {
        let printed = server.printed("t", json!({"x": value, "y": "not filled twice"}));
        assert_eq!(printed, format!("<{value}>\n<end>\n"));
    }
    assert!(!server.path().join("pwned").exists());
}

#[test]
fn query_and_header_fill_with_and_without_defaults() {
    let server =
        Server::start(&task(r#""{{query.mode:-fast}}", "{{header.x-who:-nobody}}", "q={{query.q:-}}""#));
    let send = |request: &Request| {
        let id = server.send(request).expect(202).job_id();
        server.over(&id);
        String::from_utf8(server.stdout(&id)).expect("text")
    };
    let bare = Request::post("/v1/tasks/t/jobs");
    assert_eq!(send(&bare), "<fast>\n<nobody>\n<q=>\n");
    let full =
        Request::post("/v1/tasks/t/jobs?mode=slow%20%26%20sure&q=%E9%A6%99+1").header("X-Who", "me; rm");
    assert_eq!(send(&full), "<slow & sure>\n<me; rm>\n<q=香 1>\n");
}

#[test]
fn a_missing_value_without_default_is_refused_with_its_pointer() {
    let server = Server::start(&task(r#""{{payload.a.b}}""#));
    for payload in [json!({}), json!({"a": {}}), json!({"a": 7}), json!([]), Value::Null] {
        refused(&server.send(&Request::submit("t", &payload)), "/a/b");
    }
    assert!(server.all_jobs("").is_empty());
}

#[test]
fn a_missing_query_or_header_is_refused() {
    let query = Server::start(&task(r#""{{query.mode}}""#));
    assert_eq!(query.post("/v1/tasks/t/jobs").problem(), (422, "invalid_argument".into()));
    assert_eq!(query.post("/v1/tasks/t/jobs?mode=x").status, 202);
    let header = Server::start(&task(r#""{{header.x-who}}""#));
    assert_eq!(header.post("/v1/tasks/t/jobs").problem(), (422, "invalid_argument".into()));
}

#[test]
fn every_value_that_cannot_be_used_is_named() {
    let server = Server::start(&task(r#""{{payload.a}}", "{{payload.b}}", "{{payload.c}}""#));
    let answer = server.send(&Request::submit("t", &json!({"b": "x\u{0}y", "c": "-x"})));
    assert_eq!(answer.problem().0, 422);
    let errors = answer.json()["errors"].clone();
    let pointers: Vec<&Value> =
        errors.as_array().expect("errors").iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/a", "/b", "/c"], "{errors}");
}

#[test]
fn p29_a_nul_is_refused() {
    let server = Server::start(&task(r#""x={{payload.x}}""#));
    refused(&server.send(&Request::submit("t", &json!({"x": "a\u{0}b"}))), "/x");
}

#[test]
fn a_leading_dash_is_refused_unless_text_stands_before_it_or_the_task_allows_it() {
    let strict = Server::start(&task(r#""{{payload.x}}""#));
    for value in [json!("-rf"), json!("--help"), json!("-"), json!(-5)] {
        refused(&strict.send(&Request::submit("t", &json!({"x": value}))), "/x");
    }
    assert_eq!(strict.printed("t", json!({"x": " -rf"})), "< -rf>\n");
    let prefixed = Server::start(&task(r#""--name={{payload.x}}""#));
    assert_eq!(prefixed.printed("t", json!({"x": "-rf"})), "<--name=-rf>\n");
    let allowed = Server::start(&(task(r#""{{payload.x}}""#) + "allow_leading_dash = true\n"));
    assert_eq!(allowed.printed("t", json!({"x": "-rf"})), "<-rf>\n");
}

#[test]
fn a_dash_that_a_second_value_brings_to_the_front_is_refused_too() {
    let server = Server::start(&task(r#""{{payload.a}}{{payload.b}}""#));
    let answer = server.send(&Request::submit("t", &json!({"a": "", "b": "-rf"})));
    assert_eq!(answer.problem(), (422, "invalid_argument".into()), "an empty value is no text before it");
    assert_eq!(server.printed("t", json!({"a": "x", "b": "-rf"})), "<x-rf>\n");
}

#[test]
fn p29_an_argument_the_kernel_would_refuse_is_refused_at_admission() {
    let config = "max_body = '8MiB'\n";
    let server = Server::start(&(task(r#""{{payload.x}}""#) + config));
    let answer = server.send(&Request::submit("t", &json!({"x": "x".repeat(200_000)})));
    assert_eq!(answer.problem(), (413, "argument_too_large".into()));
    assert!(server.all_jobs("").is_empty(), "nothing was accepted");
    // 128 KiB with the NUL at its end is what the kernel takes.
    let most = "x".repeat(128 * 1024 - 1);
    assert_eq!(server.printed("t", json!({"x": most})).len(), 128 * 1024 + 2);
    let answer = server.send(&Request::submit("t", &json!({"x": most + "x"})));
    assert_eq!(answer.problem(), (413, "argument_too_large".into()));
}

#[test]
fn p29_3_mb_of_arguments_in_total_are_refused_at_admission() {
    let arguments: Vec<String> = (0..30).map(|n| format!("\"{{{{payload.{n}}}}}\"")).collect();
    let server = Server::start(&(task(&arguments.join(", ")) + "max_body = '8MiB'\n"));
    let filled = |bytes: usize| Value::from(vec!["x".repeat(bytes); 30]);
    let answer = server.send(&Request::submit("t", &filled(100_000)));
    assert_eq!(answer.problem(), (413, "argument_too_large".into()));
    assert_eq!(server.printed("t", filled(60_000)).len(), 30 * 60_003, "1.8 MB are taken, and run");
}

#[test]
fn p29_a_variable_the_kernel_would_refuse_is_refused_at_admission() {
    let config = "[task.t]\ncommand = ['true']\nenv = { X = '{{payload.x}}' }\n[task.whole]\ncommand = ['true']\npayload = 'env'\n";
    let server = Server::start(config);
    let large = json!({"x": "x".repeat(200_000)});
    for task in ["t", "whole"] {
        assert_eq!(
            server.send(&Request::submit(task, &large)).problem(),
            (413, "argument_too_large".into()),
            "{task}"
        );
    }
    let answer = server.send(&Request::submit("t", &json!({"x": "a\u{0}b"})));
    assert_eq!(answer.problem(), (422, "invalid_argument".into()));
}

#[test]
fn facts_of_the_job_fill_too() {
    let server = Server::start(&task(
        r#""{{job.id}}", "{{job.attempt}}", "{{job.dir}}", "{{job.artifacts}}", "{{job.result}}""#,
    ));
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let printed = String::from_utf8(server.stdout(id)).expect("text");
    let lines: Vec<&str> = printed.lines().map(|line| line.trim_matches(['<', '>'])).collect();
    assert_eq!(lines[..2], [id, "1"]);
    assert!(lines[3].starts_with(lines[2]) && lines[4].starts_with(lines[2]), "{printed}");
    assert!(lines[2].starts_with(server.data().to_str().expect("text")), "{printed}");
}

//! The body a client sends is the body a program gets: the same bytes, by whichever channel.

use serde_json::{Value, json};

use crate::harness::{Request, Server, Setup, sha256};

const CHANNELS: &str = r#"
[limits]
max_running = 8
[task.stdin]
command = ["sha256sum"]
max_body = "2MiB"
[task.file]
command = ["sh", "-c", 'sha256sum < "$PROCESSION_PAYLOAD"']
payload = "file"
max_body = "2MiB"
[task.placeholder]
command = ["sh", "-c", 'sha256sum < "$1"', "sh", "{{payload_file}}"]
max_body = "2MiB"
[task.argv]
command = ["sh", "-c", 'printf %s "$1" | sha256sum', "sh", "{{payload}}"]
payload = "argv"
[task.env]
command = ["sh", "-c", 'printf %s "$PROCESSION_PAYLOAD" | sha256sum']
payload = "env"
[task.none]
command = ["sh", "-c", 'wc -c; printf "%s;" "${PROCESSION_PAYLOAD-unset}"']
payload = "none"
[task.bytes]
command = ["sha256sum"]
body = "bytes"
max_body = "32MiB"
[task.bytes-file]
command = ["sh", "-c", 'sha256sum < "$PROCESSION_PAYLOAD"']
body = "bytes"
payload = "file"
max_body = "32MiB"
"#;

const KIB: usize = 1024;

/// A JSON string of exactly so many bytes.
fn json_of(bytes: usize) -> Vec<u8> {
    let mut text = vec![b'x'; bytes];
    (text[0], text[bytes - 1]) = (b'"', b'"');
    text
}

/// Bytes of every value, which differ from place to place.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[track_caller]
fn assert_arrives(server: &Server, task: &str, content_type: &str, body: &[u8]) {
    let job = server.run_bytes(task, content_type, body);
    assert_eq!(job["exit_code"], 0, "{task}, {} bytes: {job}", body.len());
    let id = job["id"].as_str().expect("an id");
    let printed = String::from_utf8(server.stdout(id)).expect("text");
    let sums: Vec<&str> = printed.lines().map(|line| &line[..64]).collect();
    assert!(!sums.is_empty());
    for sum in sums {
        assert_eq!(sum, sha256(body), "{task}, {} bytes", body.len());
    }
    assert_eq!(server.get(&format!("/v1/jobs/{id}/payload")).expect(200).body, body, "/payload");
}

#[test]
fn json_of_every_size_arrives_by_stdin_and_file() {
    let server = Server::start(CHANNELS);
    for size in [2, 64 * KIB, 64 * KIB + 1, KIB * KIB, 2 * KIB * KIB] {
        for task in ["stdin", "file", "placeholder"] {
            assert_arrives(&server, task, "application/json", &json_of(size));
        }
    }
}

#[test]
fn json_arrives_by_argument_and_variable() {
    let server = Server::start(CHANNELS);
    for size in [2, 64 * KIB, 64 * KIB + 1, 120 * KIB] {
        for task in ["argv", "env"] {
            assert_arrives(&server, task, "application/json", &json_of(size));
        }
    }
}

#[test]
fn the_bytes_are_the_clients_not_a_serialization_of_theirs() {
    let server = Server::start(CHANNELS);
    let bodies = [
        " {\"b\" : 1.50e+3,\r\n\t\"a\":\"\\u00e9\\/\",  \"\u{1F682}\" : [ ] } \n",
        "123456789012345678901234567890.10",
        "{\"z\":0,\"a\":-0.0,\"m\":1E40}",
        "\"香江北路\"",
        "  null  ",
    ];
    for body in bodies {
        for task in ["stdin", "file", "env", "argv"] {
            assert_arrives(&server, task, "application/json", body.as_bytes());
        }
    }
}

#[test]
fn no_body_is_an_empty_one() {
    let server = Server::start(CHANNELS);
    for task in ["stdin", "file", "bytes"] {
        let job = server.over(&server.post(&format!("/v1/tasks/{task}/jobs")).expect(202).job_id());
        let printed = server.stdout(job["id"].as_str().expect("an id"));
        assert!(String::from_utf8_lossy(&printed).starts_with(&sha256(b"")), "{task}: {job}");
    }
}

#[test]
fn payload_none_gives_the_program_none_of_it() {
    let server = Server::start(CHANNELS);
    assert_eq!(server.printed("none", json!({"a": 1})), "0\nunset;");
}

#[test]
fn argv_and_none_read_nothing_from_stdin() {
    let config = r#"
[task.argv]
command = ["sh", "-c", 'readlink /proc/self/fd/0; wc -c', "sh", "{{payload}}"]
payload = "argv"
[task.none]
command = ["sh", "-c", 'readlink /proc/self/fd/0; wc -c']
payload = "none"
"#;
    let server = Server::start(config);
    for task in ["argv", "none"] {
        assert_eq!(server.printed(task, json!({"a": 1})), "/dev/null\n0\n");
    }
}

#[test]
fn a_body_over_64_kib_is_also_a_file_whatever_the_channel() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'wc -c < \"$PROCESSION_PAYLOAD\"']\nmax_body = '1MiB'\n";
    let server = Server::start(config);
    let job = server.run_bytes("t", "application/json", json_of(64 * KIB + 1));
    assert_eq!(server.stdout(job["id"].as_str().expect("an id")), b"65537\n", "{job}");
}

#[test]
fn max_body_is_exact() {
    let server = Server::start("[task.t]\ncommand = ['wc', '-c']\nmax_body = '100KiB'\n");
    let job = server.run_bytes("t", "application/json", json_of(100 * KIB));
    assert_eq!(server.stdout(job["id"].as_str().expect("an id")), b"102400\n");
    let over = Request::post("/v1/tasks/t/jobs").body("application/json", json_of(100 * KIB + 1));
    assert_eq!(server.send(&over).problem(), (413, "body_too_large".into()));
}

#[test]
fn the_default_of_max_body_is_1_mib() {
    let server = Server::start("[task.t]\ncommand = ['wc', '-c']\n");
    let job = server.run_bytes("t", "application/json", json_of(KIB * KIB));
    assert_eq!(server.stdout(job["id"].as_str().expect("an id")), b"1048576\n");
    let over = Request::post("/v1/tasks/t/jobs").body("application/json", json_of(KIB * KIB + 1));
    assert_eq!(server.send(&over).problem().0, 413);
}

#[test]
fn bytes_of_any_kind_and_size_stream_through_a_file() {
    let server = Server::start(CHANNELS);
    for size in [1, 64 * KIB, 64 * KIB + 1, 20 << 20] {
        for task in ["bytes", "bytes-file"] {
            assert_arrives(&server, task, "application/octet-stream", &noise(size));
        }
    }
    assert_eq!(std::fs::read_dir(server.data().join("incoming")).expect("readable").count(), 0);
}

#[test]
fn a_chunked_body_is_as_good_as_one_with_a_length() {
    let server = Server::start(CHANNELS);
    let body = noise(300_000);
    let request = Request::post("/v1/tasks/bytes/jobs")
        .header("Content-Type", "application/octet-stream")
        .header("Transfer-Encoding", "chunked")
        .without("Content-Length");
    let mut connection = server.open(&request).expect("sent");
    for chunk in body.chunks(70_001) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        connection.write(&framed).expect("sent");
    }
    connection.write(b"0\r\n\r\n").expect("sent");
    let id = connection.response().expect("an answer").expect(202).job_id();
    server.over(&id);
    assert!(String::from_utf8_lossy(&server.stdout(&id)).starts_with(&sha256(&body)));
}

#[test]
fn a_chunked_body_over_the_limit_is_cut_off_and_leaves_nothing() {
    let server = Server::start("[task.t]\ncommand = ['wc', '-c']\nbody = 'bytes'\nmax_body = '64KiB'\n");
    let request =
        Request::post("/v1/tasks/t/jobs").header("Transfer-Encoding", "chunked").without("Content-Length");
    let mut connection = server.open(&request).expect("sent");
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
    connection.write(&chunk).expect("within the limit");
    // What comes behind may find the door closed already.
    let _ = connection.write(&chunk);
    assert_eq!(connection.response().expect("an answer").problem().0, 413);
    assert_eq!(std::fs::read_dir(server.data().join("incoming")).expect("readable").count(), 0);
    assert!(server.all_jobs("").is_empty());
}

#[test]
fn content_types_are_asked_for() {
    let config = "
[task.json]\ncommand = ['cat']
[task.images]\ncommand = ['wc', '-c']\nbody = 'bytes'\ncontent_types = ['image/jpeg', 'text/*']
[task.any]\ncommand = ['wc', '-c']\nbody = 'bytes'\n";
    let server = Server::start(config);
    let status = |task: &str, content_type: Option<&str>| {
        let request = Request::post(format!("/v1/tasks/{task}/jobs")).bare_body("{}");
        let request = match content_type {
            Some(content_type) => request.header("Content-Type", content_type),
            None => request,
        };
        let response = server.send(&request);
        if response.status == 415 {
            assert_eq!(response.problem().1, "unsupported_media_type");
        }
        response.status
    };
    for good in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
        assert_eq!(status("json", Some(good)), 202, "{good}");
    }
    for bad in
        [Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data"), None]
    {
        assert_eq!(status("json", bad), 415, "{bad:?}");
    }
    for good in ["image/jpeg", "text/csv", "TEXT/plain; charset=x"] {
        assert_eq!(status("images", Some(good)), 202, "{good}");
    }
    for bad in [Some("image/png"), Some("application/json"), None] {
        assert_eq!(status("images", bad), 415, "{bad:?}");
    }
    assert_eq!((status("any", Some("a/b")), status("any", None)), (202, 202));
    assert_eq!(server.post("/v1/tasks/json/jobs").status, 202, "no type is needed where there is no body");
}

#[test]
fn p08_a_program_that_does_not_read_a_large_body_hurts_nobody() {
    let config = "[task.t]\ncommand = ['true']\nbody = 'bytes'\nmax_body = '16MiB'\n[task.c]\ncommand = ['sh', '-c', 'exec <&-; sleep 0.1']\nbody = 'bytes'\nmax_body = '16MiB'\n";
    for setup in [Setup::new(config), Setup::new(config).monitor()] {
        let server = setup.start();
        for task in ["t", "c"] {
            let job = server.run_bytes(task, "application/octet-stream", noise(10 << 20));
            assert_eq!(job["exit_code"], 0, "{job}");
            let small = server.run_bytes(task, "application/octet-stream", noise(60_000));
            assert_eq!(small["exit_code"], 0, "{small}");
        }
    }
}

#[test]
fn a_schema_complains_of_everything_at_once_and_says_where() {
    let schema = json!({
        "type": "object",
        "required": ["name", "size"],
        "properties": {"size": {"type": "integer"}, "tags": {"items": {"type": "string"}}},
    });
    let config = "[task.t]\ncommand = ['cat']\nschema = 's.json'\n";
    let server = Setup::new(config).file("s.json", schema.to_string()).start();
    let wrong = json!({"size": "big", "tags": ["a", 1, null]});
    let answer = server.send(&Request::submit("t", &wrong));
    assert_eq!(answer.problem(), (422, "invalid_payload".into()));
    let errors = answer.json()["errors"].as_array().expect("errors").clone();
    let pointers: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().expect("text")).collect();
    for pointer in ["/size", "/tags/1", "/tags/2"] {
        assert!(pointers.contains(&pointer), "{pointer} in {errors:?}");
    }
    assert!(errors.len() >= 4, "the missing name too: {errors:?}");
    assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|detail| !detail.is_empty())));
    assert_eq!(server.printed("t", json!({"name": "x", "size": 1})), r#"{"name":"x","size":1}"#);
    assert_eq!(server.send(&Request::submit("t", &Value::Null)).problem().0, 422);
}

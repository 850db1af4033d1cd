//! What a program writes is what a client reads: the same bytes, whole, in part, or as they
//! come; and bounded.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, memory_kib, sha256, wait_for};

const TASKS: &str = r#"
[task.binary]
command = ["python3", "-c", '''
import hashlib, sys
out = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(int(sys.argv[1]) // 32))
sys.stdout.buffer.write(out)
sys.stderr.buffer.write(out[::-1])
''', "{{payload.bytes}}"]
[task.lines]
command = ["sh", "-c", 'i=0; while [ $i -lt 3 ]; do while [ ! -e go$i ]; do sleep 0.02; done; echo "line $i"; echo "err $i" >&2; i=$((i+1)); done']
[task.digits]
command = ["sh", "-c", "printf 0123456789"]
[task.quiet]
command = ["true"]
"#;

fn noise(bytes: usize) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    (0..bytes / 32).flat_map(|n| <[u8; 32]>::from(Sha256::digest(n.to_string()))).collect()
}

#[test]
fn p11_binary_output_is_exact_at_every_size() {
    let server = Server::start(TASKS);
    for size in [0, 32, 16 * 1024, 16 * 1024 + 32, 70_016, 3_000_000 / 32 * 32] {
        let job = server.run("binary", json!({"bytes": size}));
        let id = job["id"].as_str().expect("an id");
        let mut expected = noise(size);
        assert_eq!(sha256(&server.stdout(id)), sha256(&expected), "{size}");
        expected.reverse();
        assert_eq!(sha256(&server.stderr(id)), sha256(&expected), "{size}");
        assert_eq!(
            (&job["output"]["stdout_bytes"], &job["output"]["stdout_dropped"]),
            (&json!(size), &json!(0))
        );
    }
}

#[test]
fn p12_order_within_a_stream_is_exact() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'seq 20000; seq 20000 >&2']\n";
    let server = Server::start(config);
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(server.stdout(id), expected.as_bytes());
    assert_eq!(server.stderr(id), expected.as_bytes());
}

#[test]
fn p12_merged_output_is_in_the_order_of_the_writes() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'i=0; while [ $i -lt 300 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done']\noutput = 'merged'\n";
    let server = Server::start(config);
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let expected: String = (0..300).map(|n| format!("o{n}\ne{n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&server.stdout(id)), expected);
    assert_eq!(server.stderr(id), b"");
}

#[test]
fn output_straight_to_a_file_is_exact() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'seq 50000; echo err >&2']\noutput = 'file'\n";
    let server = Server::start(config);
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let expected: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(sha256(&server.stdout(id)), sha256(expected.as_bytes()));
    assert_eq!(server.stderr(id), b"err\n");
    assert_eq!(job["output"]["stdout_bytes"], expected.len());
}

#[test]
fn the_tail_is_in_the_answer() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'seq 10000; printf \"\\\\377end\" >&2']\n";
    let job = Server::start(config).run("t", Value::Null);
    let tail = job["output"]["stdout_tail"].as_str().expect("text");
    assert!(tail.ends_with("9999\n10000\n") && tail.len() <= 16 * 1024, "{} bytes", tail.len());
    assert_eq!(
        job["output"]["stderr_tail"], "\u{fffd}end",
        "what is no text is replaced there, and only there"
    );
}

#[test]
fn ranges() {
    let server = Server::start(TASKS);
    let job = server.run("digits", Value::Null);
    let path = format!("/v1/jobs/{}/stdout", job["id"].as_str().expect("an id"));
    let ask = |range: &str| server.send(&Request::get(path.as_str()).header("Range", range));
    for (range, body, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
    ] {
        let answer = ask(range).expect(206);
        assert_eq!((answer.text(), answer.header("content-range")), (body, Some(content_range)), "{range}");
    }
    for range in ["bytes=10-", "bytes=20-30", "bytes=-0"] {
        let answer = ask(range);
        assert_eq!(answer.problem().0, 416, "{range}");
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
    }
    for range in ["bytes=0-1,3-4", "lines=1-2", "bytes=x"] {
        assert_eq!(ask(range).expect(200).text(), "0123456789", "{range}: the whole, as RFC 9110 allows");
    }
    assert_eq!(server.get(&path).header("accept-ranges"), Some("bytes"));
}

#[test]
fn following_shows_lines_as_they_come() {
    let server = Server::start(TASKS);
    let id = server.running("lines", Value::Null);
    let mut out = server.open(&Request::get(format!("/v1/jobs/{id}/stdout?follow=1"))).expect("sent");
    let mut err = server.open(&Request::get(format!("/v1/jobs/{id}/stderr?follow=1"))).expect("sent");
    assert_eq!((out.head().expect("a head").status, err.head().expect("a head").status), (200, 200));
    for n in 0..3 {
        fs::write(server.path().join(format!("go{n}")), "").expect("written");
        // The next line needs the next file: this one came alone.
        assert_eq!(out.line().expect("readable"), Some(format!("line {n}")));
        assert_eq!(err.line().expect("readable"), Some(format!("err {n}")));
    }
    assert_eq!(
        (out.line().expect("readable"), err.line().expect("readable")),
        (None, None),
        "ends with the job"
    );
    assert_eq!(server.over(&id)["exit_code"], 0);
}

#[test]
fn following_begins_before_the_job_does_and_works_when_it_is_over() {
    let config =
        "[task.t]\ncommand = ['sh', '-c', 'echo hello']\nmax_running = 1\n[task.gate]\ncommand = ['true']\n";
    let server = Server::start(config);
    server.post("/v1/tasks/t/pause").expect(200);
    let id = server.submit("t", Value::Null);
    let mut early = server.open(&Request::get(format!("/v1/jobs/{id}/stdout?follow=1"))).expect("sent");
    assert_eq!(early.head().expect("a head").status, 200);
    server.post("/v1/tasks/t/resume").expect(200);
    let mut text = String::new();
    early.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "hello\n");
    assert_eq!(server.get(&format!("/v1/jobs/{id}/stdout?follow=1")).expect(200).text(), "hello\n");
}

#[test]
fn a_running_jobs_output_can_be_read_without_following() {
    let server = Server::start(TASKS);
    let id = server.running("lines", Value::Null);
    assert_eq!(server.stdout(&id), b"");
    fs::write(server.path().join("go0"), "").expect("written");
    wait_for("the first line", BOUND, || server.stdout(&id) == b"line 0\n");
    server.cancel(&id).expect(202);
    server.over(&id);
    assert_eq!(server.stdout(&id), b"line 0\n");
}

const LIMITED: &str = r#"
[task.t]
command = ["sh", "-c", 'seq 100000; seq 100000 >&2']
output_limit = "64KiB"
[task.exact]
command = ["sh", "-c", 'head -c 65536 /dev/zero']
output_limit = "64KiB"
[task.tiny]
command = ["sh", "-c", 'printf 0123456789']
output_limit = "4B"
"#;

#[test]
fn p10_over_the_limit_head_and_tail_are_kept_and_the_middle_is_counted() {
    for setup in
        [Setup::new(LIMITED.replace("[task.tiny]", "[task.tiny2]").as_str()), Setup::new(LIMITED).monitor()]
    {
        let server = setup.start();
        let whole: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        let job = server.run("t", Value::Null);
        let id = job["id"].as_str().expect("an id");
        let (kept, dropped) = (65_536, whole.len() - 65_536);
        for (stream, name) in [("stdout", "stdout_dropped"), ("stderr", "stderr_dropped")] {
            let answer = server.get(&format!("/v1/jobs/{id}/{stream}")).expect(200);
            assert_eq!(job["output"][name], dropped);
            assert_eq!(job["output"][format!("{stream}_bytes")], whole.len());
            let header = answer.header("procession-dropped").expect("the header");
            let (at, len) = header.split_once('+').expect("offset+length");
            let (at, len): (usize, usize) = (at.parse().expect("a number"), len.parse().expect("a number"));
            assert_eq!(len, dropped);
            let text = answer.text();
            assert_eq!(&text[..at], &whole[..at], "the head");
            let tail = &whole[at + len..];
            assert!(text.ends_with(tail) && at + tail.len() == kept, "the tail");
            let marker = &text[at..text.len() - tail.len()];
            assert!(marker.contains(&dropped.to_string()) && marker.len() < 100, "{marker:?}");
        }
    }
}

#[test]
fn exactly_the_limit_drops_nothing() {
    let server = Server::start(LIMITED);
    let job = server.run("exact", Value::Null);
    let answer = server.get(&format!("/v1/jobs/{}/stdout", job["id"].as_str().expect("an id"))).expect(200);
    assert_eq!((answer.body.len(), answer.header("procession-dropped")), (65_536, None));
    assert_eq!(job["output"]["stdout_dropped"], 0);
}

#[test]
fn p10_a_limit_smaller_than_a_line_still_holds() {
    let server = Server::start(LIMITED);
    let job = server.run("tiny", Value::Null);
    assert_eq!((&job["output"]["stdout_bytes"], &job["output"]["stdout_dropped"]), (&json!(10), &json!(6)));
    let answer = server.get(&format!("/v1/jobs/{}/stdout", job["id"].as_str().expect("an id"))).expect(200);
    assert_eq!(answer.header("procession-dropped"), Some("2+6"), "{answer:?}");
    assert!(answer.text().starts_with("01") && answer.text().ends_with("89"), "{}", answer.text());
}

#[test]
fn p10_half_a_gigabyte_costs_the_disk_its_limit_and_memory_nothing_heavy() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'head -c 500000000 /dev/zero']\noutput_limit = '1MiB'\n";
    let server = Server::start(config);
    server.get("/healthz").expect(200);
    let pids = [server.server_pid(), server.keeper_pid()];
    let before = pids.map(|pid| memory_kib(pid, "VmHWM"));
    let job = server.run("t", Value::Null);
    assert_eq!((&job["exit_code"], &job["output"]["stdout_bytes"]), (&json!(0), &json!(500_000_000)));
    for (pid, before) in pids.into_iter().zip(before) {
        let grown = memory_kib(pid, "VmHWM") - before;
        assert!(grown < 16 * 1024, "process {pid} grew by {grown} KiB");
    }
    let file = server.data().join("jobs").join(job["id"].as_str().expect("an id")).join("1/stdout");
    assert_eq!(fs::metadata(file).expect("the output").len(), 1 << 20);
}

#[test]
fn bytes_that_come_one_by_one_arrive() {
    let config =
        "[task.t]\ncommand = ['sh', '-c', 'i=0; while [ $i -lt 2000 ]; do printf x; i=$((i+1)); done']\n";
    let server = Server::start(config);
    let job = server.run("t", Value::Null);
    assert_eq!(server.stdout(job["id"].as_str().expect("an id")), [b'x'; 2000]);
}

#[test]
fn no_output_is_no_bytes() {
    let server = Server::start(TASKS);
    let job = server.run("quiet", Value::Null);
    let id = job["id"].as_str().expect("an id");
    assert_eq!((server.stdout(id), server.stderr(id)), (vec![], vec![]));
    assert_eq!(server.get(&format!("/v1/jobs/{id}/stdout?attempt=1")).expect(200).body, b"");
    assert_eq!(
        server.get(&format!("/v1/jobs/{id}/stdout?attempt=2")).problem(),
        (404, "unknown_attempt".into())
    );
}

#[test]
fn a_last_line_is_there_when_the_job_is_over() {
    let server = Server::start("[task.t]\ncommand = ['sh', '-c', 'echo last']\n");
    let began = Instant::now();
    let mut seen = 0;
    while seen < 60 && began.elapsed() < Duration::from_secs(8) {
        let job = server.run("t", Value::Null);
        assert_eq!(job["output"]["stdout_tail"], "last\n");
        seen += 1;
    }
    assert!(seen > 5);
}

#[test]
fn f39_deleting_a_job_while_its_output_is_read_never_gives_wrong_bytes() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'head -c 40000000 /dev/zero | tr \"\\0\" a']\n";
    let server = Server::start(config);
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let mut reading = server.open(&Request::get(format!("/v1/jobs/{id}/stdout"))).expect("sent");
    assert_eq!(reading.head().expect("a head").status, 200);
    let mut first = vec![0; 100_000];
    reading.read_exact(&mut first).expect("readable");
    server.send(&Request::new("DELETE", format!("/v1/jobs/{id}"))).expect(204);
    server.run("t", Value::Null);
    let mut rest = Vec::new();
    // Cut off is fine; other bytes are not.
    let _ = reading.read_to_end(&mut rest);
    assert!(rest.len() <= 39_900_000 && first.iter().chain(&rest).all(|byte| *byte == b'a'));
}

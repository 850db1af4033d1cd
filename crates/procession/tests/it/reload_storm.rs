//! Reload after reload while clients of every kind are at work: on kept connections and new
//! ones, submitting, waiting, following output, watching events, uploading. Not one request
//! fails, no job is lost or run twice, every code and every byte is true.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{
    Address, BOUND, Client, Connection, End, Events, Request, Server, Setup, sha256, wait_for,
};

const RELOADS: usize = 20;

/// Of the program, each of them a copy.
const UPGRADES: usize = 8;

/// What clients get done between two of them, at least.
const EACH: usize = 25;

/// `lines`: what a client follows, long enough to meet a reload.
const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1:0", "unix:socket"]
data_dir = "data"
stop_timeout = "20s"
[limits]
max_running = 6
[task.code]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ids; exit "$1"', "sh", "{{payload.code}}"]
max_queued = 1000
[task.lines]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ids; for n in 1 2 3 4 5; do seq 400; sleep 0.1; done; exit 9']
max_queued = 1000
[task.bytes]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ids; exec sha256sum']
body = "bytes"
max_queued = 1000
"#;

fn lines() -> Vec<u8> {
    (1..=400).map(|n| format!("{n}\n")).collect::<String>().repeat(5).into_bytes()
}

/// What a client knows: jobs, and the codes they are to exit with.
type Known = Vec<(String, usize)>;

/// One connection, kept as long as the server keeps it.
struct Kept {
    client: Client,
    open: Option<Connection>,
}

impl Kept {
    fn send(&mut self, request: Request) -> crate::harness::Response {
        let bytes = self.client.bytes(&request.header("Connection", "keep-alive"));
        let mut connection = self.open.take().unwrap_or_else(|| Connection::open(&self.client.address));
        connection.write(&bytes).expect("a kept connection takes one more request");
        let answer = connection.response().expect("and answers it");
        if answer.header("connection") != Some("close") {
            self.open = Some(connection);
        }
        answer
    }
}

/// Submits on a kept connection, and asks for this and that between.
fn submits(client: &Client, seed: usize) -> impl FnMut(usize) -> Known {
    let mut kept = Kept { client: client.clone(), open: None };
    move |round| {
        let code = (seed + round) % 256;
        let id = kept.send(Request::submit("code", &json!({"code": code}))).expect(202).job_id();
        for target in ["/readyz", "/v1/stats", "/v1/jobs?limit=5", "/v1/tasks"] {
            kept.send(Request::get(target)).expect(200);
        }
        vec![(id, code)]
    }
}

/// Submits and waits, each time on a new connection.
fn waits(client: &Client) -> impl FnMut(usize) -> Known {
    let client = client.clone();
    move |round| {
        let code = round % 256;
        let submit = Request::submit("code", &json!({"code": code})).header("Prefer", "wait=60");
        let job = client.send(&submit).expect(200).json();
        assert_eq!(job["exit_code"], code, "{job}");
        let id = job["id"].as_str().expect("an id").to_owned();
        let again = client.send(&Request::get(format!("/v1/jobs/{id}?wait=60"))).expect(200).json();
        assert_eq!(again["exit_code"], code, "{again}");
        vec![(id, code)]
    }
}

/// Follows what a job prints from its first byte.
fn follows(client: &Client) -> impl FnMut(usize) -> Known {
    let client = client.clone();
    move |_| {
        let id = client.send(&Request::submit("lines", &Value::Null)).expect(202).job_id();
        let followed = client.send(&Request::get(format!("/v1/jobs/{id}/stdout?follow=1"))).expect(200);
        assert_eq!(sha256(&followed.body), sha256(&lines()), "{} bytes", followed.body.len());
        vec![(id, 9)]
    }
}

/// Watches a job's events; where the stream ends before the job, behind the last of them.
fn watches(client: &Client) -> impl FnMut(usize) -> Known {
    let client = client.clone();
    move |_| {
        let id = client.send(&Request::submit("lines", &Value::Null)).expect(202).job_id();
        let (mut last, mut bytes) = (None::<String>, Vec::new());
        loop {
            for event in Events::of(&client, &id, last.as_deref()) {
                if event.name == "output" && event.data["stream"] == "stdout" {
                    assert_eq!(event.data["offset"], bytes.len(), "no gap and no repetition");
                    bytes
                        .extend(STANDARD.decode(event.data["data"].as_str().expect("text")).expect("base64"));
                }
                if event.data["state"] == "failed" {
                    assert_eq!(sha256(&bytes), sha256(&lines()), "{} bytes", bytes.len());
                    return vec![(id, 9)];
                }
                last = Some(event.id);
            }
        }
    }
}

/// Uploads in two halves.
fn uploads(client: &Client) -> impl FnMut(usize) -> Known {
    let client = client.clone();
    move |round| {
        let body = vec![b'a' + (round % 26) as u8; 200_000];
        let request = Request::post("/v1/tasks/bytes/jobs")
            .header("Content-Length", body.len().to_string())
            .header("Prefer", "wait=60");
        let mut connection = client.open(&request).expect("sent");
        for half in body.chunks(100_000) {
            connection.write(half).expect("sent");
        }
        let job = connection.response().expect("an answer").expect(200).json();
        assert_eq!(job["output"]["stdout_tail"], format!("{}  -\n", sha256(&body)), "{job}");
        vec![(job["id"].as_str().expect("an id").into(), 0)]
    }
}

/// Clients of every kind at work while `replace` lets another server take over, again and
/// again; then every job is accounted for.
#[track_caller]
fn storm(server: &Server, times: usize, replace: impl Fn(usize)) {
    let unix = Client { address: Address::Unix(server.path().join("socket")), ..(**server).clone() };
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let known: Known = std::thread::scope(|scope| {
        let kinds: Vec<Box<dyn FnMut(usize) -> Known + Send>> = vec![
            Box::new(submits(server, 0)),
            Box::new(submits(&unix, 100)),
            Box::new(waits(server)),
            Box::new(waits(&unix)),
            Box::new(follows(server)),
            Box::new(watches(server)),
            Box::new(uploads(server)),
        ];
        let work = |mut act: Box<dyn FnMut(usize) -> Known + Send>| {
            let (over, rounds) = (&over, &rounds);
            scope.spawn(move || {
                let mut known = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    known.extend(act(known.len()));
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
                known
            })
        };
        let clients: Vec<_> = kinds.into_iter().map(work).collect();
        let ends = End(&over);
        for n in 0..times {
            replace(n);
            let before = rounds.load(Ordering::SeqCst);
            wait_for("clients go on", BOUND, || {
                let failed = clients.iter().any(|client| client.is_finished());
                failed || rounds.load(Ordering::SeqCst) > before + EACH
            });
        }
        drop(ends);
        clients.into_iter().flat_map(|client| client.join().expect("nothing failed")).collect()
    });
    println!("{} jobs under {times} servers", known.len());
    assert!(known.len() > EACH * times, "too little was asked: {}", known.len());
    is_true(server, &known);
}

#[test]
fn f05_20_reloads_in_a_row_under_load_fail_no_request_and_lose_no_job_heavy() {
    let server = Setup::new(CONFIG).start();
    storm(&server, RELOADS, |n| {
        server.configure(&format!("{CONFIG}# {n}\n"));
        server.reload();
    });
}

#[test]
fn f05_upgrades_in_a_row_under_load_fail_no_request_and_lose_no_job_heavy() {
    let server = Setup::new(CONFIG).own_program().start();
    let keeper = server.keeper_pid();
    storm(&server, UPGRADES, |n| {
        let new = server.path().join("new");
        fs::copy(env!("CARGO_BIN_EXE_procession"), &new).expect("copied");
        fs::rename(&new, server.path().join("procession")).expect("replaced");
        server.upgrade();
        // The keeper too, once the server serves.
        wait_for("the keeper runs the new program", BOUND, || {
            let runs = fs::read_link(format!("/proc/{keeper}/exe")).expect("it runs");
            !runs.to_string_lossy().ends_with("(deleted)")
        });
        assert!(server.get("/v1/stats").json()["keeper_pid"] == keeper, "{n}");
    });
}

/// Every job is there, ended as its program did, and ran once.
#[track_caller]
fn is_true(server: &Server, known: &Known) {
    for (id, code) in known {
        let job = server.over(id);
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(code), &json!(1)), "{job}");
    }
    assert_eq!(server.all_jobs("").len(), known.len(), "no job nobody knows");
    let ids = fs::read_to_string(server.path().join("ids")).expect("they ran");
    let mut ran = BTreeMap::<&str, usize>::new();
    ids.lines().for_each(|id| *ran.entry(id).or_default() += 1);
    for (id, _) in known {
        assert_eq!(ran.get(id.as_str()), Some(&1), "{id} ran once");
    }
    assert_eq!(server.log().matches("the reload failed").count(), 0);
}

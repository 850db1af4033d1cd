//! Another server takes over: with another config, with another program, or not at all. Jobs
//! that run do not notice, and what is wrong with the next one changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Address, BOUND, Connection, Events, Request, Server, Setup, at_once, kill, wait_for};

const TASKS: &str = r#"
[task.gate]
command = ["sh", "-c", 'echo old; while [ ! -e go ]; do sleep 0.02; done; seq 30000; exit 7']
[task.says]
command = ["sh", "-c", "echo old"]
max_running = 1
"#;

/// The same tasks under other rules: `gate` has to leave a result.
fn changed() -> String {
    TASKS.replace("echo old", "echo new").replace("[task.says]", "result_required = true\n[task.says]")
}

/// A server that has time for what is open at a reload, on a busy machine too.
fn patient() -> Server {
    let server = "[server]\nlisten = ['127.0.0.1:0']\ndata_dir = 'data'\nstop_timeout = '60s'\n";
    Server::start(&format!("{server}{TASKS}"))
}

fn revision(server: &Server) -> Value {
    server.get("/v1/stats").expect(200).json()["config_revision"].clone()
}

/// Why the last reload was refused, as who asks later is told.
fn complaint(server: &Server) -> String {
    let said: Value = serde_json::from_str(&server.cli(&["status", "--output", "json"]).ok()).expect("JSON");
    said["last_reload"]["error"].as_str().expect("it was refused").to_owned()
}

/// All that `gate` prints.
fn printed(first: &str) -> Vec<u8> {
    let numbers: String = (1..=30_000).map(|n| format!("{n}\n")).collect();
    format!("{first}\n{numbers}").into_bytes()
}

fn go(server: &Server) {
    fs::write(server.path().join("go"), "").expect("written");
}

#[test]
fn a_changed_task_is_so_for_new_attempts_and_those_that_run_keep_their_rules() {
    let server = Server::start(TASKS);
    let before = server.get("/v1/stats").expect(200).json();
    let id = server.running("gate", Value::Null);
    server.configure(&changed());
    server.reload();
    let now = server.get("/v1/stats").expect(200).json();
    assert_ne!(now["config_revision"], before["config_revision"]);
    assert_eq!(now["keeper_pid"], before["keeper_pid"]);
    let at = |stats: &Value| stats["config_loaded_at"].as_str().expect("a time").to_owned();
    assert!(at(&now) > at(&before));
    assert_eq!(server.job(&id)["state"], "running");
    assert_eq!(server.printed("says", Value::Null), "new\n");
    go(&server);
    let job = server.over(&id);
    assert_eq!(
        (&job["outcome"], &job["attempt"]),
        (&json!({"kind": "exited", "code": 7}), &json!(1)),
        "{job}"
    );
    assert_eq!(server.stdout(&id), printed("old"));
    let attempts = server.get(&format!("/v1/jobs/{id}/attempts")).expect(200).json();
    assert_eq!(attempts["items"][0]["config_revision"], before["config_revision"], "{attempts}");
}

#[test]
fn f38_a_broken_or_half_written_config_keeps_the_old_one_and_is_told() {
    let server = Server::start(TASKS);
    let (pid, before) = (server.server_pid(), revision(&server));
    let whole = fs::read_to_string(server.config()).expect("readable");
    let broken = [
        (whole[..whole.len() / 2].to_owned(), "-->"),
        (whole.replace("max_running", "max_runing"), "max_runing"),
        (whole.replace("127.0.0.1:0", "127.0.0.1:1"), "`listen`"),
        (whole.replace("\"data\"", "\"elsewhere\""), "`data_dir`"),
        (String::from_utf8_lossy(&[0]).into_owned(), "-->"),
    ];
    for (n, (text, told)) in broken.iter().enumerate() {
        let said_before = server.log().len();
        fs::write(server.config(), text).expect("written");
        server.signal(Signal::HUP);
        server.says("the reload failed", n + 1);
        let log = server.log();
        let first = log[said_before..].split_once("the reload failed: ").expect("said since").1;
        // Where `data_dir` leads elsewhere, so does a question.
        fs::write(server.config(), &whole).expect("written");
        let complaint = complaint(&server);
        assert_eq!(first.lines().next(), complaint.lines().next(), "it is about this one");
        assert!(complaint.contains(told), "{told}: {complaint}");
        assert_eq!((server.server_pid(), revision(&server)), (pid, before.clone()), "{text}");
        assert_eq!(server.printed("says", Value::Null), "old\n");
    }
    assert!(!server.path().join("elsewhere").exists());
    server.configure(&changed());
    server.reload();
    assert_eq!(server.printed("says", Value::Null), "new\n");
}

#[test]
fn f38_many_who_reload_at_once_all_have_it_done() {
    let server = Server::start(TASKS);
    server.configure(&changed());
    let ran = at_once(8, |_| server.cli(&["reload"]));
    assert!(ran.iter().all(|ran| ran.code == Some(0)), "{ran:?}");
    server.run("says", Value::Null);
}

#[test]
fn f05_signals_however_close_to_each_other_cost_no_request() {
    let server = Server::start(TASKS);
    for gap in [0, 5, 20, 60] {
        for signal in [Signal::USR2, Signal::USR2, Signal::HUP, Signal::USR2] {
            server.signal(signal);
            #[expect(clippy::disallowed_methods, reason = "how far apart they come is what is tried")]
            std::thread::sleep(Duration::from_millis(gap));
            let began = Instant::now();
            server.get("/v1/stats").expect(200);
            assert!(began.elapsed() < Duration::from_secs(5), "gap {gap}: {:?}", began.elapsed());
        }
        server.run("says", Value::Null);
    }
    assert!(!server.log().contains("goes on as it is"), "{}", server.log());
}

#[test]
fn a_task_with_unfinished_jobs_is_not_removed() {
    let server = Server::start(TASKS);
    let pid = server.server_pid();
    let (first, second) = (server.running("gate", Value::Null), server.running("gate", Value::Null));
    let says = "[task.says]\ncommand = ['echo', 'alone']\n";
    server.configure(says);
    server.signal(Signal::HUP);
    server.says("the reload failed", 1);
    for word in ["`gate`", "2 unfinished jobs", "--force"] {
        assert!(complaint(&server).contains(word), "{word}: {}", complaint(&server));
    }
    assert_eq!(server.server_pid(), pid);
    go(&server);
    for id in [first, second] {
        assert_eq!(server.over(&id)["exit_code"], 7);
    }
    server.reload();
    assert_eq!(server.printed("says", Value::Null), "alone\n");
    assert_eq!(server.send(&Request::submit("gate", &Value::Null)).problem(), (404, "unknown_task".into()));
    assert_eq!(server.all_jobs("task=gate").len(), 2, "what it left is there");
}

#[test]
fn with_force_it_is_removed_and_its_jobs_are_cancelled_as_that() {
    let server = Server::start(TASKS);
    let running = server.running("gate", Value::Null);
    let waiting = server.post("/v1/tasks/gate/jobs?delay=1h").expect(202).job_id();
    server.configure("[task.says]\ncommand = ['echo', 'alone']\n");
    let refused = server.cli(&["reload"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("2 unfinished jobs"), "{refused:?}");
    server.cli(&["reload", "--force"]).ok();
    let by = json!({"kind": "cancelled", "by": "task_removed"});
    assert_eq!(server.over(&waiting)["outcome"], by);
    let ended = server.over(&running)["outcome"].clone();
    assert_eq!((&ended["kind"], &ended["by"], &ended["signal"]), (&by["kind"], &by["by"], &json!(15)));
    assert_eq!(server.processes_of(&running), Vec::<u32>::new());
    assert_eq!(server.printed("says", Value::Null), "alone\n");
}

#[test]
fn a_task_with_unfinished_jobs_does_not_become_a_family() {
    let server = Server::start(TASKS);
    let waiting = server.post("/v1/tasks/gate/jobs?delay=1h").expect(202).job_id();
    server.configure(
        "[task.says]\ncommand = ['echo', 'alone']\n[task.gate]\nfan_out = { task = 'says', count = 2 }\n",
    );
    let refused = server.cli(&["reload"]);
    assert_eq!(refused.code, Some(1));
    for word in ["`gate`", "1 unfinished job", "between `command` and `fan_out`", "--force"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    server.cancel(&waiting);
    server.over(&waiting);
    server.cli(&["reload"]).ok();
    assert_eq!(server.run("gate", Value::Null)["children"], json!({"succeeded": 2}));
}

#[test]
fn f05_who_waits_and_who_follows_does_not_notice() {
    let server = patient();
    let id = server.running("gate", Value::Null);
    let waiting = server.open(&Request::get(format!("/v1/jobs/{id}?wait=60"))).expect("sent");
    let submitted =
        server.open(&Request::submit("gate", &Value::Null).header("Prefer", "wait=60")).expect("sent");
    let following = server.open(&Request::get(format!("/v1/jobs/{id}/stdout?follow=1"))).expect("sent");
    wait_for("both run", BOUND, || server.all_jobs("state=running").len() == 2);
    for _ in 0..2 {
        server.reload();
    }
    go(&server);
    for mut waiting in [waiting, submitted] {
        let job = waiting.response().expect("an answer").expect(200).json();
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(7), &json!(1)), "{job}");
    }
    let mut following = following;
    assert_eq!(following.response().expect("whole").expect(200).body, printed("old"));
}

#[test]
fn f05_a_stream_of_events_goes_on_at_the_next_server() {
    let server = Server::start(TASKS);
    let id = server.running("gate", Value::Null);
    let stream = Events::of(&server, &id, None);
    server.reload();
    let mut events: Vec<_> = stream.collect();
    assert!(events.iter().all(|event| event.data["state"] != "failed"), "cut off before the end");
    go(&server);
    let last = events.last().map(|event| event.id.clone());
    events.extend(Events::of(&server, &id, last.as_deref()));
    let states = events.iter().filter(|event| event.name == "state");
    let states: Vec<_> = states.map(|event| event.data["state"].clone()).collect();
    assert_eq!(states.last(), Some(&json!("failed")));
    let mut at = 0;
    for event in events.iter().filter(|event| event.name == "output" && event.data["stream"] == "stdout") {
        assert_eq!(event.data["offset"], at, "no gap and no repetition");
        at += event.data["data"].as_str().expect("base64").trim_end_matches('=').len() * 3 / 4;
    }
    assert_eq!(at, printed("old").len());
}

#[test]
fn f05_a_kept_connection_gets_one_more_answer_from_the_next_server() {
    let config = "[server]\nlisten = ['127.0.0.1:0', 'unix:socket']\ndata_dir = 'data'\n[task.says]\ncommand = ['echo', 'old']\n";
    let server = Setup::new(config).start();
    let unix = Address::Unix(server.path().join("socket"));
    let keep = |request: Request| server.bytes(&request.header("Connection", "keep-alive"));
    let mut kept: Vec<Connection> = [&server.address, &unix].into_iter().map(Connection::open).collect();
    for connection in &mut kept {
        connection.write(&keep(Request::get("/healthz"))).expect("sent");
        assert_eq!(connection.response().expect("an answer").header("connection"), None);
    }
    server.configure(&config.replace("old", "new"));
    server.reload();
    let pid = server.server_pid();
    for connection in &mut kept {
        let submit = Request::submit("says", &json!({})).header("Prefer", "wait=30");
        connection.write(&keep(submit)).expect("sent");
        let answer = connection.response().expect("an answer").expect(200);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.json()["output"]["stdout_tail"], "new\n");
        assert!(connection.is_closed());
    }
    let mut late = Connection::open(&server.address);
    late.write(&keep(Request::get("/v1/stats"))).expect("sent");
    let answer = late.response().expect("an answer").expect(200);
    assert_eq!((answer.header("connection"), &answer.json()["server_pid"]), (None, &json!(pid)));
}

#[test]
fn f05_over_http_2_what_is_open_is_answered_and_the_client_is_told_to_come_anew() {
    let server = patient();
    let id = server.running("gate", Value::Null);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let Address::Tcp(address) = server.address else { panic!("over TCP") };
    let ask = |target: String| {
        let token = format!("Bearer {}", server.token.clone().expect("a token"));
        let request = hyper::Request::get(format!("http://{address}{target}")).header("authorization", token);
        request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request")
    };
    let (mut sender, connection) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("accepted");
        let io = hyper_util::rt::TokioIo::new(stream);
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("HTTP/2")
    });
    let connection = runtime.spawn(connection);
    let waiting = runtime.spawn(sender.send_request(ask(format!("/v1/jobs/{id}?wait=60"))));
    let stats = runtime.block_on(sender.send_request(ask("/v1/stats".into()))).expect("an answer");
    assert_eq!(stats.status(), 200);
    server.reload();
    go(&server);
    let answer = runtime.block_on(waiting).expect("no panic").expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    let body = runtime.block_on(http_body_util::BodyExt::collect(answer.into_body())).expect("whole");
    let job: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
    assert_eq!(job["exit_code"], 7, "{job}");
    // It was told not to ask here any more: else an idle connection would stay.
    wait_for("the connection ends", BOUND, || connection.is_finished());
    runtime.block_on(connection).expect("no panic").expect("ended in order");
    assert!(runtime.block_on(sender.send_request(ask("/v1/stats".into()))).is_err());
}

#[test]
fn f05_a_body_that_is_still_arriving_becomes_a_job_of_the_next_server() {
    let config = "[task.bytes]\ncommand = ['sha256sum']\nbody = 'bytes'\n[task.json]\ncommand = ['cat']\n";
    let server = Server::start(config);
    let large = vec![b'x'; 300_000];
    let begin = |task: &str, kind: &str, body: &[u8]| {
        let request = Request::post(format!("/v1/tasks/{task}/jobs"))
            .header("Content-Type", kind)
            .header("Content-Length", body.len().to_string())
            .header("Prefer", "wait=30");
        let mut connection = server.open(&request).expect("sent");
        connection.write(&body[..body.len() / 2]).expect("sent");
        connection
    };
    let mut bytes = begin("bytes", "application/octet-stream", &large);
    let mut json = begin("json", "application/json", b"[1, 2, 3]");
    wait_for("half of it is there", BOUND, || {
        fs::read_dir(server.data().join("incoming")).expect("readable").count() == 1
    });
    server.reload();
    bytes.write(&large[large.len() / 2..]).expect("sent");
    json.write(&b"[1, 2, 3]"[4..]).expect("sent");
    let job = bytes.response().expect("an answer").expect(200).json();
    assert_eq!(job["output"]["stdout_tail"], format!("{}  -\n", crate::harness::sha256(&large)));
    assert_eq!(json.response().expect("an answer").expect(200).json()["output"]["stdout_tail"], "[1, 2, 3]");
    assert_eq!(server.all_jobs("").len(), 2);
}

#[test]
fn f05_after_a_reload_the_old_server_is_gone_and_a_stop_ends_it_all() {
    let mut server = patient();
    let mut servers = vec![server.server_pid()];
    let id = server.running("gate", Value::Null);
    let mut waiting = server.open(&Request::get(format!("/v1/jobs/{id}?wait=60"))).expect("sent");
    for _ in 0..3 {
        server.reload();
        servers.push(server.server_pid());
    }
    go(&server);
    assert_eq!(waiting.response().expect("an answer").expect(200).json()["exit_code"], 7);
    let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
    wait_for("those before are gone", BOUND, || servers[..3].iter().all(gone));
    assert_eq!(server.stop().code(), Some(0));
    assert!(gone(&servers[3]));
}

/// Puts another program in the place of the server's, in one step.
fn replace_program(server: &Server, text: &str) {
    let new = server.path().join("new");
    fs::write(&new, text).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("changed");
    fs::rename(&new, server.path().join("procession")).expect("replaced");
}

#[test]
fn f05_an_upgrade_runs_the_new_program_under_the_jobs_of_the_old() {
    let server = Setup::new(TASKS).own_program().start();
    let id = server.running("gate", Value::Null);
    let new = server.path().join("new");
    fs::copy(env!("CARGO_BIN_EXE_procession"), &new).expect("copied");
    fs::rename(&new, server.path().join("procession")).expect("replaced");
    server.upgrade();
    let runs = fs::read_link(format!("/proc/{}/exe", server.server_pid())).expect("it runs");
    assert_eq!(runs, server.path().join("procession").canonicalize().expect("there"), "not a deleted one");
    go(&server);
    assert_eq!(server.over(&id)["exit_code"], 7);
    assert_eq!(server.stdout(&id), printed("old"));
}

#[test]
fn f06_a_new_program_that_dies_at_its_start_changes_nothing() {
    let server = Setup::new(TASKS).own_program().start();
    let pid = server.server_pid();
    let id = server.running("gate", Value::Null);
    for (n, text) in ["#!/bin/sh\nexit 1\n", "no program\n", "#!/bin/sh\nkill -9 $$\n"].iter().enumerate() {
        replace_program(&server, text);
        server.signal(Signal::USR2);
        server.says("the reload failed", n + 1);
        assert_eq!(server.server_pid(), pid);
        assert_eq!(server.printed("says", Value::Null), "old\n");
    }
    go(&server);
    assert_eq!(server.over(&id)["exit_code"], 7);
}

#[test]
fn f06_a_new_program_that_hangs_is_given_up_and_changes_nothing_heavy() {
    let server = Setup::new(TASKS).own_program().start();
    let pid = server.server_pid();
    replace_program(&server, "#!/bin/sh\nexec sleep 600\n");
    server.signal(Signal::USR2);
    let served = at_once(2, |_| {
        let mut served = 0;
        while !server.log().contains("the reload failed") && served < 5_000 {
            assert_eq!(server.get("/readyz").status, 200);
            assert_eq!(server.printed("says", Value::Null), "old\n");
            served += 1;
        }
        served
    });
    server.says("could not take over within", 1);
    assert!(served.iter().all(|count| *count > 10), "{served:?}");
    assert_eq!(server.server_pid(), pid);
}

#[test]
fn f38_a_crash_never_applies_an_edit_that_nobody_asked_for() {
    let server = Server::start(TASKS);
    let before = revision(&server);
    for edit in [changed(), "[task.says]\ncomm".to_owned()] {
        server.configure(&edit);
        let dead = server.server_pid();
        kill(dead);
        wait_for("another server answers", BOUND, || {
            server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
                && server.server_pid() != dead
        });
        assert_eq!(revision(&server), before);
        assert_eq!(server.printed("says", Value::Null), "old\n");
    }
    server.configure(&changed());
    server.reload();
    assert_ne!(revision(&server), before);
    assert_eq!(server.printed("says", Value::Null), "new\n");
}

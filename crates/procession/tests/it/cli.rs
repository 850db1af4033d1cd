//! The command line against a server: what each verb prints and exits with.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{BOUND, Process, Ran, Server, Setup, procession, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 8
[task.exit]
command = ["sh", "-c", 'echo out; echo err >&2; exit "$1"', "sh", "{{payload.n}}"]
[task.die]
command = ["sh", "-c", 'kill -9 $$']
[task.cat]
command = ["cat"]
[task.slow]
command = ["sleep", "600"]
timeout = "200ms"
[task.missing]
command = ["no-such-program"]
[task.sleep]
command = ["sleep", "600"]
max_running = 1
[task.steps]
command = ["sh", "-c", 'echo one; while [ ! -e go ]; do sleep 0.02; done; echo two; echo err >&2; exit 5']
[task.inside]
command = ["sh", "-c", '"$1" self progress 0.25 a quarter; "$1" self result "{\"done\": true}"; "$1" self progress 2 2>&1; echo $?', "sh", "PROGRAM"]
"#;

fn start() -> Server {
    Server::start(&TASKS.replace("PROGRAM", env!("CARGO_BIN_EXE_procession")))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn submit_prints_the_id_of_the_new_job() {
    let server = start();
    let id = server.cli(&["submit", "exit", "--data", r#"{"n":3}"#]).ok().trim().to_owned();
    assert_eq!(server.over(&id)["exit_code"], 3);
}

#[test]
fn submit_wait_exits_as_the_job_did_and_prints_what_it_printed() {
    let server = start();
    for (args, code) in [
        (vec!["exit", "-d", r#"{"n":0}"#], 0),
        (vec!["exit", "-d", r#"{"n":3}"#], 3),
        (vec!["exit", "-d", r#"{"n":255}"#], 255),
        (vec!["die"], 137),
        (vec!["slow"], 124),
        (vec!["missing"], 127),
    ] {
        let ran = server.cli(&[&["submit", "--wait"], args.as_slice()].concat());
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        if args[0] == "exit" {
            assert_eq!(ran.stdout, "out\n");
            assert!(ran.stderr.contains("err\n"), "{ran:?}");
        }
    }
}

#[test]
fn submit_wait_exits_with_125_where_procession_refuses_or_is_not_there() {
    let mut server = start();
    for args in [vec!["nobody"], vec!["exit", "-d", "{}"], vec!["exit", "-d", "{"]] {
        let ran = server.cli(&[&["submit", "--wait"], args.as_slice()].concat());
        assert_eq!(ran.code, Some(125), "{args:?}: {ran:?}");
        assert!(!ran.stderr.is_empty());
    }
    assert_eq!(server.cli(&["submit", "nobody"]).code, Some(1));
    assert_eq!(server.cli(&["submit"]).code, Some(2), "a wrong command line");
    server.stop();
    assert_eq!(server.cli(&["submit", "exit", "--wait"]).code, Some(125));
    let ran = server.cli(&["jobs"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("procession serve"), "{ran:?}");
}

#[test]
fn the_payload_comes_from_an_argument_a_file_or_stdin() {
    let server = start();
    fs::write(server.path().join("p.json"), " {\"a\": \"é\"} ").expect("written");
    let file = format!("@{}", server.path().join("p.json").display());
    assert_eq!(server.cli(&["submit", "cat", "--wait", "--data", &file]).ok(), " {\"a\": \"é\"} ");
    assert_eq!(server.cli_with_stdin(&["submit", "cat", "--wait", "--data", "-"], b"[1, 2]").ok(), "[1, 2]");
    assert_eq!(server.cli(&["submit", "cat", "--wait", "--data", "-1"]).ok(), "-1");
}

#[test]
fn submit_follow_prints_as_it_comes() {
    let server = start();
    let mut follow = procession();
    follow.args(["submit", "steps", "--follow"]).arg("--config").arg(server.config());
    let mut child = Process(follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut out = BufReader::new(child.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("readable");
    assert_eq!(line, "one\n", "while the job waits for us");
    fs::write(server.path().join("go"), "").expect("written");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("readable");
    assert_eq!(rest, "two\n");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(5));
    let mut said = String::new();
    child.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("readable");
    assert!(said.contains("err\n"), "{said}");
}

#[test]
fn jobs_lists_and_filters_and_ps_is_the_same() {
    let server = start();
    let failed = server.run("exit", json!({"n": 4}));
    server.run("exit", json!({"n": 0}));
    let table = server.cli(&["jobs"]).ok();
    assert_eq!(table.lines().count(), 3, "a head and two jobs: {table}");
    let id = failed["id"].as_str().expect("an id");
    assert!(table.contains(&id[id.len() - 8..]) && table.contains("failed"), "{table}");
    assert_eq!(server.cli(&["ps", "--state", "failed"]).ok().lines().count(), 2);
    let listed = parse(&server.cli(&["jobs", "--state", "failed", "--output", "json"]).ok());
    assert_eq!(
        (&listed["items"][0]["id"], listed["items"].as_array().expect("items").len()),
        (&failed["id"], 1)
    );
    assert_eq!(server.cli(&["jobs", "--task", "cat"]).ok(), "");
}

#[test]
fn an_id_may_be_its_unique_end() {
    let server = start();
    let job = server.run("exit", json!({"n": 4}));
    let id = job["id"].as_str().expect("an id");
    for end in [&id[id.len() - 8..], &id[id.len() - 12..], id] {
        assert_eq!(parse(&server.cli(&["job", end, "--output", "json"]).ok())["id"], job["id"], "{end}");
    }
    assert!(server.cli(&["job", &id[id.len() - 8..]]).ok().contains("exit"), "for people");
    let explained = server.cli(&["job", id, "--explain"]).ok();
    assert!(explained.contains("exited with 4"), "{explained}");
    for bad in ["zzzz", "abc", "00000000"] {
        let ran = server.cli(&["job", bad]);
        assert!(ran.code == Some(1) && ran.stderr.contains(bad), "{ran:?}");
    }
}

#[test]
fn logs_prints_both_streams_and_follows() {
    let server = start();
    let job = server.run("exit", json!({"n": 4}));
    let id = job["id"].as_str().expect("an id");
    let ran = server.cli(&["logs", id]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "out\n", "err\n"));
    assert_eq!(server.cli(&["logs", id, "--stderr"]).stdout, "");
    assert_eq!(server.cli(&["logs", id, "--attempt", "2"]).code, Some(1));
    fs::write(server.path().join("go"), "").expect("written");
    let steps = server.submit("steps", Value::Null);
    let ran = server.cli(&["logs", "-f", &steps]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "one\ntwo\n"), "{ran:?}");
}

#[test]
fn wait_exits_as_the_first_that_failed_or_with_124_when_time_is_up() {
    let server = start();
    let ids: Vec<String> = [0, 3, 4].map(|n| server.submit("exit", json!({"n": n}))).into();
    let ran = server.cli(&["wait", &ids[0], &ids[1], &ids[2]]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(3), 3), "{ran:?}");
    assert_eq!(server.cli(&["wait", &ids[0]]).code, Some(0));
    let sleeping = server.running("sleep", Value::Null);
    assert_eq!(server.cli(&["wait", &sleeping, "--timeout", "200ms"]).code, Some(124));
    server.cancel(&sleeping).expect(202);
    assert_eq!(server.cli(&["wait", &sleeping]).code, Some(130));
    assert_eq!(server.cli(&["wait", "01970000-0000-7000-8000-000000000000"]).code, Some(125));
}

#[test]
fn cancel_by_id_and_all_of_a_task_in_a_state() {
    let server = start();
    let running = server.running("sleep", Value::Null);
    let queued: Vec<String> = (0..3).map(|_| server.submit("sleep", Value::Null)).collect();
    server.cli(&["cancel", "--task", "sleep", "--state", "queued", "--yes"]).ok();
    for id in &queued {
        assert_eq!(server.over(id)["outcome"]["by"], "client");
    }
    assert_eq!(server.job(&running)["state"], "running");
    server.cli(&["cancel", &running[28..], "--now"]).ok();
    assert_eq!(server.over(&running)["signal"], 9);
}

#[test]
fn retry_and_rm() {
    let server = start();
    let job = server.run("exit", json!({"n": 4}));
    let id = job["id"].as_str().expect("an id");
    let again = server.cli(&["retry", id]).ok().trim().to_owned();
    assert_eq!(server.over(&again)["retry_of"], job["id"]);
    server.cli(&["rm", id, &again]).ok();
    assert!(server.all_jobs("").is_empty());
    assert_eq!(server.cli(&["rm", id]).code, Some(1));
    let running = server.running("sleep", Value::Null);
    let refused = server.cli(&["rm", &running]);
    assert!(refused.code == Some(1) && refused.stderr.contains("not over"), "{refused:?}");
}

#[test]
fn tasks_pause_and_resume() {
    let server = start();
    let table = server.cli(&["tasks"]).ok();
    assert!(table.contains("steps") && table.contains("0/1"), "{table}");
    server.cli(&["pause", "exit"]).ok();
    let tasks = parse(&server.cli(&["tasks", "--output", "json"]).ok());
    let paused = |tasks: &Value| {
        let items = tasks["items"].as_array().expect("items");
        items.iter().find(|task| task["name"] == "exit").expect("it is there")["paused"].clone()
    };
    assert_eq!(paused(&tasks), true);
    server.cli(&["resume", "exit"]).ok();
    assert_eq!(paused(&parse(&server.cli(&["tasks", "--output", "json"]).ok())), false);
    assert_eq!(server.cli(&["pause", "nobody"]).code, Some(1));
}

#[test]
fn a_job_speaks_of_itself() {
    let server = start();
    let job = server.run("inside", Value::Null);
    assert_eq!(job["result"], json!({"done": true}), "{job}");
    assert_eq!(job["progress"], json!({"fraction": 0.25, "message": "a quarter"}));
    let printed = String::from_utf8(server.stdout(job["id"].as_str().expect("an id"))).expect("text");
    assert!(printed.contains("0 to 1") && printed.ends_with("2\n"), "{printed}");
    let outside = Ran::of(procession().args(["self", "progress", "0.5"]));
    assert_ne!(outside.code, Some(0), "{outside:?}");
}

#[test]
fn json_is_what_the_api_answers() {
    let server = start();
    let submitted =
        parse(&server.cli(&["submit", "exit", "-d", r#"{"n":3}"#, "--wait", "--output", "json"]).stdout);
    let id = submitted["id"].as_str().expect("an id");
    assert_eq!(submitted, server.job(id));
    let refused = server.cli(&["submit", "nobody", "--output", "json"]);
    assert_eq!(parse(&refused.stderr)["code"], "unknown_task", "{refused:?}");
}

#[test]
fn control_sequences_of_a_job_reach_a_pipe_as_they_are() {
    let server = Server::start("[task.t]\ncommand = ['printf', '\\033[31mred\\033]0;title\\007']\n");
    assert_eq!(server.cli(&["submit", "t", "--wait"]).ok(), "\u{1b}[31mred\u{1b}]0;title\u{7}");
}

#[test]
fn the_server_is_found_by_url_and_token_too() {
    let server = start();
    let url = format!("http://{}", server.address.host());
    let token = server.token.clone().expect("a token");
    let ask = |token: Option<&str>| {
        let mut verb = procession();
        verb.args(["tasks"]).env("PROCESSION_URL", &url).current_dir("/");
        token.map(|token| verb.env("PROCESSION_TOKEN", token));
        Ran::of(&mut verb)
    };
    assert!(ask(Some(&token)).ok().contains("steps"));
    for wrong in [Some("wrong"), None] {
        let ran = ask(wrong);
        assert!(ran.code == Some(1) && ran.stderr.contains("token"), "{ran:?}");
    }
}

#[test]
fn completions_and_help_need_no_server() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Ran::of(procession().args(["completions", shell])).ok();
        assert!(script.contains("submit") && script.contains("resume"), "{shell}");
    }
    assert!(Ran::of(procession().arg("--help")).ok().contains("serve"));
    assert_eq!(
        Ran::of(procession().arg("--version")).ok().trim(),
        format!("procession {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn check_tells_all_complaints_at_once_and_its_exit_code_is_the_verdict() {
    let bad = Setup::new(
        "[task.t]\ncomand = ['true']\ntimeout = 'soon'\n[task.u]\ncommand = ['sh', '-c', 'echo {{payload.x}}']\n",
    );
    let check = |setup: &Setup, more: &[&str]| {
        Ran::of(procession().arg("check").args(more).arg("--config").arg(setup.config()))
    };
    let ran = check(&bad, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in ["comand", "soon", "procession.toml"] {
        assert!(ran.stderr.contains(word), "{word} in {}", ran.stderr);
    }
    let found = parse(&check(&bad, &["--output", "json"]).stdout);
    assert_eq!(found["ok"], false);
    assert!(
        found["items"].as_array().expect("items").iter().any(|item| item["code"] == "placeholder_in_script"),
        "{found}"
    );
    let good = Setup::new("[task.t]\ncommand = ['true']\nmax_running = 1\n");
    assert_eq!(check(&good, &[]).code, Some(0));
    let missing = Ran::of(procession().args(["check", "--config", "/no/such/procession.toml"]));
    assert_eq!(missing.code, Some(1), "{missing:?}");
}

#[test]
fn init_then_serve_then_submit() {
    let setup = Setup::new("");
    let folder = setup.path().join("new");
    let said = Ran::of(procession().arg("init").arg(&folder)).ok();
    assert!(said.contains("procession serve") && said.contains("submit hello"), "{said}");
    assert_eq!(Ran::of(procession().arg("init").arg(&folder)).code, Some(1), "it never overwrites");
    let config = fs::read_to_string(folder.join("procession.toml")).expect("written");
    // The port it names may be taken on this machine.
    let free = config.replace("127.0.0.1:8080", "127.0.0.1:0");
    assert_ne!(free, config);
    fs::write(folder.join("procession.toml"), free).expect("written");
    let mut serve = procession();
    serve.arg("serve").current_dir(&folder).stderr(Stdio::piped());
    let mut child = Process(serve.spawn().expect("it starts"));
    let mut said = BufReader::new(child.0.stderr.take().expect("a pipe")).lines();
    assert!(said.by_ref().any(|line| line.expect("text").starts_with("listening on http://")));
    let ran = Ran::of(
        procession().args(["submit", "hello", "--data", r#"{"name": "Ada"}"#, "--wait"]).current_dir(&folder),
    );
    assert_eq!(ran.clone().ok(), "hello Ada\n", "{ran:?}");
    child.signal(rustix::process::Signal::TERM);
    wait_for("it stops", BOUND, || child.0.try_wait().expect("ours").is_some_and(|status| status.success()));
}

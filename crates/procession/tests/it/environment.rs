//! What a job finds: exactly the documented environment, its secrets as files, and nothing of
//! the server's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Request, Server, Setup};

fn parse(printed: &str) -> BTreeMap<String, String> {
    let pairs = printed.split('\0').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').expect("a pair")).map(|(k, v)| (k.into(), v.into())).collect()
}

/// What the server is started with, beside what it inherits.
fn started(config: &str) -> Setup {
    Setup::new(config)
        .env("HOME", "/home/ada")
        .env("USER", "ada")
        .env("LANG", "C.UTF-8")
        .env("LC_ALL", "C")
        .env("LC_TIME", "de_DE")
        .env("TZ", "Asia/Shanghai")
        .env("TMPDIR", "/tmp")
        .env("LD_PRELOAD_TEST", "x")
        .env("PYTHONPATH", "/evil")
        .env("PYTHONSTARTUP", "/evil.py")
        .env("NODE_OPTIONS", "--evil")
        .env("BASH_ENV", "/evil.sh")
        .env("GIT_DIR", "/evil")
        .env("HTTPS_PROXY", "proxy")
        .env("HTTPS_PROXY_OF_OTHERS", "other")
        .env("CUDA_HOME", "/cuda")
        .env("CUDA_VISIBLE", "0")
        .env("PROCESSION_TOKEN", "the operator's")
        .env("PROCESSION_URL", "http://elsewhere")
}

#[test]
fn the_environment_is_exactly_the_documented_one() {
    let server = started("[task.t]\ncommand = ['env', '-0']\n").start();
    let job = server.run("t", json!({}));
    let id = job["id"].as_str().expect("an id");
    let env = parse(&String::from_utf8(server.stdout(id)).expect("text"));
    let names: Vec<&str> =
        env.keys().map(String::as_str).filter(|name| *name != "PROCESSION_SOCKET").collect();
    assert_eq!(
        names,
        [
            "HOME",
            "LANG",
            "LC_ALL",
            "LC_TIME",
            "PATH",
            "PROCESSION_ARTIFACTS",
            "PROCESSION_ATTEMPT",
            "PROCESSION_DIR",
            "PROCESSION_JOB_ID",
            "PROCESSION_PROGRESS",
            "PROCESSION_RESULT",
            "PROCESSION_TASK",
            "PYTHONUNBUFFERED",
            "TMPDIR",
            "TRACEPARENT",
            "TZ",
            "USER",
        ]
    );
    for (name, value) in [
        ("HOME", "/home/ada"),
        ("USER", "ada"),
        ("LC_TIME", "de_DE"),
        ("TZ", "Asia/Shanghai"),
        ("PROCESSION_JOB_ID", id),
        ("PROCESSION_TASK", "t"),
        ("PROCESSION_ATTEMPT", "1"),
        ("PYTHONUNBUFFERED", "1"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    let inside = |name: &str| env[name].starts_with(&format!("{}/", env["PROCESSION_DIR"]));
    assert!(inside("PROCESSION_ARTIFACTS") && inside("PROCESSION_RESULT") && inside("PROCESSION_PROGRESS"));
}

#[test]
fn env_sets_and_env_inherit_takes_over_by_name_and_by_beginning() {
    let config = r#"
[task.t]
command = ["env", "-0"]
env = { MODEL = "v2", WHO = "{{payload.who}}", LANG = "fr_FR", DASH = "{{payload.dash}}" }
env_inherit = ["CUDA_*", "HTTPS_PROXY"]
"#;
    let server = started(config).start();
    let env = parse(&server.printed("t", json!({"who": "Ada; $HOME\nx", "dash": "-n"})));
    for (name, value) in [
        ("MODEL", "v2"),
        ("WHO", "Ada; $HOME\nx"),
        ("LANG", "fr_FR"),
        ("DASH", "-n"),
        ("CUDA_HOME", "/cuda"),
        ("CUDA_VISIBLE", "0"),
        ("HTTPS_PROXY", "proxy"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    for absent in ["HTTPS_PROXY_OF_OTHERS", "PYTHONPATH", "NODE_OPTIONS", "BASH_ENV", "PROCESSION_TOKEN"] {
        assert!(!env.contains_key(absent), "{absent}");
    }
}

#[test]
fn the_servers_token_reaches_no_job() {
    let config = "[task.t]\ncommand = ['sh', '-c', 'env; cat /proc/self/environ /proc/self/cmdline']\nenv_inherit = ['P*']\n";
    let server = started(config).env("PATTERN_TAKES", "this").start();
    let printed = server.printed("t", Value::Null);
    assert!(printed.contains("PATTERN_TAKES=this"), "the pattern works");
    assert!(!printed.contains("the operator's") && !printed.contains("http://elsewhere"));
    let token = server.token.clone().expect("a token");
    assert!(!printed.contains(&token));
}

#[test]
fn headers_never_become_variables() {
    let server = Server::start("[task.t]\ncommand = ['env']\n");
    let request =
        Request::submit("t", &json!({})).header("Proxy", "http://evil").header("X-Shock", "() { :;}; evil");
    let id = server.send(&request).expect(202).job_id();
    server.over(&id);
    let printed = String::from_utf8(server.stdout(&id)).expect("text");
    assert!(!printed.contains("evil"), "{printed}");
}

#[test]
fn a_callers_trace_is_passed_on() {
    let server = Server::start("[task.t]\ncommand = ['sh', '-c', 'echo $TRACEPARENT']\n");
    let theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id =
        server.send(&Request::submit("t", &json!({})).header("traceparent", theirs)).expect(202).job_id();
    server.over(&id);
    let printed = String::from_utf8(server.stdout(&id)).expect("text");
    assert!(printed.contains("0af7651916cd43dd8448eb211c80319c"), "the same trace: {printed}");
    let own = server.printed("t", json!({}));
    let parts: Vec<&str> = own.trim().split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{own}");
}

#[test]
fn p30_the_program_is_found_by_the_servers_path_whatever_the_jobs_is() {
    let config = r#"
[task.t]
command = ["id"]
env = { PATH = "/nowhere" }
[task.evil]
command = ["true"]
env = { PATH = "bin" }
[task.relative]
command = ["./bin/true"]
env = { PATH = "/nowhere" }
"#;
    let server = Server::start(config);
    let bin = server.path().join("bin");
    fs::create_dir(&bin).expect("made");
    fs::write(bin.join("true"), "#!/bin/sh\nexit 66\n").expect("written");
    fs::set_permissions(bin.join("true"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    assert_eq!(server.run("t", Value::Null)["exit_code"], 0);
    assert_eq!(server.run("evil", Value::Null)["exit_code"], 0);
    assert_eq!(server.run("relative", Value::Null)["exit_code"], 66, "from the task's directory");
}

const SECRETS: &str = r#"
[task.t]
command = ["sh", "-c", 'stat -c %a "$DB_FILE" "$(dirname "$DB_FILE")"; cat "$DB_FILE"; echo "$DB_FILE"; env | grep -c hunter2']
secrets = { DB = { file = "db.secret" } }
[task.missing]
command = ["true"]
secrets = { DB = { file = "gone.secret" } }
"#;

#[test]
fn a_secret_is_a_private_file_for_the_time_of_the_job() {
    let server = Setup::new(SECRETS).file("db.secret", "hunter2\n").start();
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let printed = String::from_utf8(server.stdout(id)).expect("text");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!((lines[0], lines[2], lines[4]), ("600", "hunter2", "0"), "{printed}");
    assert_eq!(lines[1], "700", "and its folder is private");
    let file = Path::new(lines[3]);
    assert!(file.starts_with(server.data()) && !file.exists(), "gone with the job: {printed}");
    assert!(!server.log().contains("hunter2"));
    fs::write(server.path().join("db.secret"), "rotated\n").expect("written");
    assert!(
        server.run("t", Value::Null)["output"]["stdout_tail"].as_str().expect("text").contains("rotated")
    );
}

#[test]
fn a_secret_that_is_not_there_fails_the_job_before_it_runs() {
    let server = Setup::new(SECRETS).file("db.secret", "hunter2\n").start();
    let job = server.run("missing", Value::Null);
    assert_eq!(job["outcome"]["kind"], "spawn_failed", "{job}");
    assert!(
        job["outcome"]["message"].as_str().is_some_and(|message| message.contains("gone.secret")),
        "{job}"
    );
}

#[test]
fn the_scratch_folder_is_private_empty_and_removed() {
    let config = r#"
[task.t]
command = ["sh", "-c", 'stat -c %a "$PROCESSION_DIR"; ls -A "$PROCESSION_DIR"; echo x > "$PROCESSION_DIR/left"; mkdir "$PROCESSION_DIR/d"; echo "$PROCESSION_DIR"']
"#;
    let server = Server::start(config);
    for _ in 0..3 {
        let printed = server.printed("t", Value::Null);
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[..2], ["700", "artifacts"], "nothing of the job before: {printed}");
        assert!(!Path::new(lines[2]).join("left").exists(), "{printed}");
    }
}

//! What is recorded of a program's end is what the kernel said: every code, every signal,
//! never one for the other.

use serde_json::{Value, json};

use crate::harness::{Server, Setup, at_once};

const EXIT: &str = r#"
[limits]
max_running = 64
[task.exit]
command = ["sh", "-c", "exit \"$1\"", "sh", "{{payload.n}}"]
[task.die]
command = ["python3", "-c", '''
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
number = int(sys.argv[1])
if number not in (signal.SIGKILL, signal.SIGSTOP):
    signal.signal(number, signal.SIG_DFL)
os.kill(os.getpid(), number)
''', "{{payload.n}}"]
"#;

#[test]
fn exit_0_is_success_and_any_other_code_is_failure() {
    let server = Server::start(EXIT);
    for (code, state) in [(0, "succeeded"), (1, "failed"), (3, "failed"), (255, "failed")] {
        let job = server.run("exit", json!({"n": code}));
        assert_eq!(job["state"], state, "{job}");
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": code}));
        assert_eq!((&job["exit_code"], &job["signal"]), (&json!(code), &Value::Null));
        assert_eq!((&job["attempt"], &job["leaked_processes"]), (&json!(1), &json!(0)));
        assert!(job["started_at"].is_string() && job["finished_at"].is_string());
    }
}

#[test]
fn code_137_is_not_a_kill() {
    let server = Server::start(EXIT);
    let exited = server.run("exit", json!({"n": 137}));
    let killed = server.run("die", json!({"n": 9}));
    assert_eq!(exited["outcome"], json!({"kind": "exited", "code": 137}));
    assert_eq!((&exited["exit_code"], &exited["signal"]), (&json!(137), &Value::Null));
    assert_eq!(killed["outcome"], json!({"kind": "signaled", "signal": 9, "name": "SIGKILL", "core": false}));
    assert_eq!((&killed["exit_code"], &killed["signal"]), (&Value::Null, &json!(9)));
    assert_eq!((&exited["state"], &killed["state"]), (&json!("failed"), &json!("failed")));
}

fn all_codes_are_true(server: &Server) {
    let seen = at_once(16, |lane| {
        let numbers = (lane * 16)..(lane * 16 + 16);
        let ids: Vec<_> = numbers.map(|n| (n, server.submit("exit", json!({"n": n})))).collect();
        ids.into_iter().map(|(n, id)| (n, server.over(&id))).collect::<Vec<_>>()
    });
    let seen: Vec<_> = seen.into_iter().flatten().collect();
    assert_eq!(seen.len(), 256);
    for (n, job) in seen {
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": n}), "{job}");
    }
}

#[test]
fn p22_all_256_codes_are_true_at_once_heavy() {
    all_codes_are_true(&Server::start(EXIT));
}

#[test]
fn p22_all_256_codes_are_true_without_cgroups_heavy() {
    all_codes_are_true(&Setup::new(EXIT).monitor().start());
}

#[test]
fn p22_every_signal_a_process_can_die_of_is_told() {
    let server = Server::start(EXIT);
    // Not those that stop, continue or are ignored by default.
    let fatal = (1..=31).filter(|n| ![17, 18, 19, 20, 21, 22, 23, 28].contains(n));
    let ids: Vec<(u8, String)> = fatal.map(|n| (n, server.submit("die", json!({"n": n})))).collect();
    for (n, id) in ids {
        let job = server.over(&id);
        assert_eq!(
            (&job["outcome"]["kind"], &job["outcome"]["signal"]),
            (&json!("signaled"), &json!(n)),
            "{job}"
        );
        assert_eq!((&job["exit_code"], &job["signal"]), (&Value::Null, &json!(n)));
        let name = job["outcome"]["name"].as_str().expect("a name");
        assert!(name.starts_with("SIG"), "{name}");
    }
}

const UNSTARTABLE: &str = r#"
[task.missing]
command = ["no-such-program-anywhere"]
[task.missing-here]
command = ["./no-such-file"]
[task.not-executable]
command = ["./plain.txt"]
[task.a-directory]
command = ["./procession-folder/"]
[task.no-shebang]
command = ["./no-shebang"]
[task.bad-interpreter]
command = ["./bad-interpreter"]
[task.no-directory]
command = ["true"]
directory = "gone"
[task.good]
command = ["true"]
"#;

fn executable(server: &Server, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = server.path().join(name);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

#[test]
fn p01_a_program_that_cannot_be_started_is_a_failed_job_and_never_a_shell_script() {
    let server = Setup::new(UNSTARTABLE)
        .file("plain.txt", "#!/bin/sh\nexit 0\n")
        .file("no-shebang", "echo interpreted > interpreted\n")
        .file("bad-interpreter", "#!/no/such/interpreter\n")
        .start();
    std::fs::create_dir(server.path().join("procession-folder")).expect("made");
    executable(&server, "no-shebang");
    executable(&server, "bad-interpreter");
    for (task, errno) in [
        ("missing", "ENOENT"),
        ("missing-here", "ENOENT"),
        ("not-executable", "EACCES"),
        ("a-directory", "EACCES"),
        ("no-shebang", "ENOEXEC"),
        ("bad-interpreter", "ENOENT"),
    ] {
        let job = server.run(task, Value::Null);
        let outcome = &job["outcome"];
        assert_eq!(job["state"], "failed", "{task}: {job}");
        assert_eq!(
            (&outcome["kind"], &outcome["errno"], &outcome["phase"]),
            (&json!("spawn_failed"), &json!(errno), &json!("exec")),
            "{task}"
        );
        assert!(outcome["message"].as_str().is_some_and(|message| !message.is_empty()), "{job}");
        assert_eq!((&job["exit_code"], &job["signal"]), (&Value::Null, &Value::Null));
    }
    assert!(!server.path().join("interpreted").exists());
    assert_eq!(server.run("good", Value::Null)["state"], "succeeded", "the server goes on");
}

#[test]
fn p02_a_missing_working_directory_is_named() {
    let server = Server::start(UNSTARTABLE);
    let job = server.run("no-directory", Value::Null);
    let outcome = &job["outcome"];
    assert_eq!((&outcome["kind"], &outcome["errno"]), (&json!("spawn_failed"), &json!("ENOENT")), "{job}");
    let phase = outcome["phase"].as_str().expect("a phase");
    assert!(phase.contains("dir") || phase.contains("cwd"), "the phase names the directory: {phase}");
}

#[test]
fn usage_and_times_are_those_of_the_program() {
    let server = Server::start("[task.t]\ncommand = ['sh', '-c', 'sleep 0.3']\n");
    let job = server.run("t", Value::Null);
    let run_ms = job["run_ms"].as_u64().expect("a duration");
    assert!((300..5_000).contains(&run_ms), "{job}");
    assert!(job["usage"]["max_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{job}");
    assert!(job["usage"]["user_ms"].as_u64().is_some_and(|ms| ms < 2_000), "{job}");
    assert!(job["queued_ms"].is_u64() && job["containment"].is_string() && job["node"].is_string(), "{job}");
}

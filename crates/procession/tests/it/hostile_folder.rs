//! Jobs that do what they like with the folders they are given: their end stays their own,
//! nothing a link leads to is touched or served, and whoever runs next finds a clean folder.
//! Links lead into the test's own folder only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, wait_for};

/// Each ends with a code of its own; `:?` ends a script where a variable is missing.
const TASKS: &str = r#"
[limits]
max_running = 4
[task.links-artifacts]
command = ["sh", "-c", 'rm -rf "${PROCESSION_ARTIFACTS:?}"; ln -s "$PWD/victim" "$PROCESSION_ARTIFACTS"; exit 4']
[task.links-dir]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"; ln -s "$PWD/victim" "$PROCESSION_DIR"; exit 5']
[task.links-dir-and-stays]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"; ln -s "$PWD/victim" "$PROCESSION_DIR"; echo done; exec sleep 600']
[task.file-for-dir]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"; echo x > "$PROCESSION_DIR"; exit 6']
[task.pipe-for-dir]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"; mkfifo "$PROCESSION_DIR"; exit 7']
[task.no-dir]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"; exit 8']
[task.locked-dir]
command = ["sh", "-c", 'echo x > "${PROCESSION_DIR:?}/left"; chmod 000 "$PROCESSION_DIR"; exit 9']
[task.pipes]
command = ["sh", "-c", 'cd "${PROCESSION_DIR:?}"; mkfifo result progress; rmdir artifacts; mkfifo artifacts; exit 10']
[task.empties]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"/*; exit 0']
[task.removes]
command = ["sh", "-c", 'rm -rf "${PROCESSION_DIR:?}"; exit 0']
[task.clean]
command = ["sh", "-c", 'ls -A "$PROCESSION_DIR" "$PROCESSION_ARTIFACTS"; stat -c %F:%a "$PROCESSION_DIR" "$PROCESSION_ARTIFACTS"; echo "$PROCESSION_JOB_ID" > "$PROCESSION_RESULT"']
[task.digs]
command = ["python3", "-c", '''
import os, sys
root = os.environ["PROCESSION_DIR"] if sys.argv[1] == "dir" else os.environ["PROCESSION_ARTIFACTS"]
if sys.argv[1] == "kept":
    open(root + "/kept", "w").write("kept")
os.chdir(root)
for _ in range(5000):
    os.mkdir("d")
    os.chdir("d")
sys.exit(11)
''', "{{payload.where}}"]
"#;

/// A folder that looks as if it were a job's, beside the config.
fn victim(setup: &Setup) -> PathBuf {
    let victim = setup.path().join("victim");
    fs::create_dir_all(victim.join("artifacts/sub")).expect("made");
    for file in ["regular", "result", "artifacts/regular", "artifacts/sub/inner"] {
        fs::write(victim.join(file), file).expect("written");
    }
    fs::write(victim.join("progress"), "0.9 theirs\n").expect("written");
    symlink("regular", victim.join("link")).expect("linked");
    mknodat(CWD, victim.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
    victim
}

/// Everything below a folder: kind, permissions, times and contents.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable").flatten() {
            let (path, meta) = (entry.path(), entry.metadata().expect("there"));
            let contents = if meta.is_file() { fs::read(&path).expect("readable") } else { vec![] };
            if meta.is_dir() {
                folders.push(path.clone());
            }
            all.insert(path, (meta.mode(), meta.mtime(), meta.mtime_nsec(), contents));
        }
    }
    all
}

fn id_of(job: &Value) -> &str {
    job["id"].as_str().expect("an id")
}

/// That `job` left nothing and that nothing is served in its name.
#[track_caller]
fn left_nothing(server: &Server, job: &Value) {
    let path = format!("/v1/jobs/{}", id_of(job));
    assert_eq!(job["result"], Value::Null, "{job}");
    let listed = server.get(&format!("{path}/artifacts")).expect(200).json();
    assert_eq!(listed["items"], json!([]), "{job}");
    for name in ["regular", "artifacts/regular", "sub/inner", "link", "pipe", "result"] {
        assert_eq!(server.get(&format!("{path}/artifacts/{name}")).problem().0, 404, "{name}");
    }
    assert_eq!(server.get(&format!("{path}/result")).problem(), (404, "no_result".into()));
}

/// That the next jobs, several at once, find an empty folder of their own.
#[track_caller]
fn next_are_clean(server: &Server) {
    let ids: Vec<String> = (0..6).map(|_| server.submit("clean", Value::Null)).collect();
    for id in ids {
        let job = server.over(&id);
        assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
        let printed = String::from_utf8(server.stdout(&id)).expect("text");
        let (names, modes): (Vec<&str>, Vec<&str>) = printed
            .lines()
            .filter(|line| !line.starts_with('/') && !line.is_empty())
            .partition(|line| !line.starts_with("directory:"));
        assert_eq!(names, ["artifacts"], "{printed}");
        assert_eq!(modes, ["directory:700", "directory:700"], "{printed}");
        let result = server.get(&format!("/v1/jobs/{id}/result")).expect(200);
        assert_eq!(result.text().trim(), id, "its own result");
    }
}

fn scratch_folders(server: &Server) -> usize {
    fs::read_dir(server.data().join("scratch")).expect("readable").count()
}

#[test]
fn artifacts_replaced_by_a_link_lead_nowhere() {
    let setup = Setup::new(TASKS);
    let victim = victim(&setup);
    let before = everything(&victim);
    let mut server = setup.start();
    for _ in 0..3 {
        let job = server.run("links-artifacts", Value::Null);
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": 4}), "{job}");
        left_nothing(&server, &job);
        next_are_clean(&server);
    }
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    next_are_clean(&server);
    assert_eq!(everything(&victim), before);
}

#[test]
fn whatever_becomes_of_its_folder_a_job_ends_as_its_program_did() {
    let setup = Setup::new(TASKS);
    let victim = victim(&setup);
    let before = everything(&victim);
    let mut server = setup.start();
    for (task, code) in [
        ("links-dir", 5),
        ("file-for-dir", 6),
        ("pipe-for-dir", 7),
        ("no-dir", 8),
        ("locked-dir", 9),
        ("pipes", 10),
    ] {
        let job = server.run(task, Value::Null);
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": code}), "{task}: {job}");
        assert_eq!(job["progress"], Value::Null, "{task}: {job}");
        left_nothing(&server, &job);
        next_are_clean(&server);
    }
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    next_are_clean(&server);
    assert_eq!(everything(&victim), before);
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed_after_a_crash_either() {
    let setup = Setup::new(TASKS);
    let victim = victim(&setup);
    let before = everything(&victim);
    let mut server = setup.start();
    let id = server.running("links-dir-and-stays", Value::Null);
    wait_for("it has linked", BOUND, || server.stdout(&id) == b"done\n");
    server.crash();
    server.start_again();
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "lost", "reason": "keeper_died"}), "{job}");
    left_nothing(&server, &job);
    next_are_clean(&server);
    assert_eq!(everything(&victim), before);
    for entry in fs::read_dir(server.data().join("scratch")).expect("readable").flatten() {
        assert!(entry.file_type().expect("known").is_dir(), "{entry:?}");
    }
}

#[test]
fn a_job_that_empties_or_removes_its_folder_succeeds() {
    let server = Server::start(TASKS);
    for task in ["empties", "removes", "empties"] {
        let job = server.run(task, Value::Null);
        assert_eq!(
            (&job["state"], &job["outcome"]),
            (&json!("succeeded"), &json!({"kind": "exited", "code": 0})),
            "{job}"
        );
        next_are_clean(&server);
    }
}

#[test]
fn folders_nested_5000_deep_end_with_their_job_heavy() {
    let mut server = Server::start(TASKS);
    let serving = server.server_pid();
    for place in ["dir", "artifacts"] {
        let job = server.run("digs", json!({"where": place}));
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": 11}), "{place}: {job}");
        left_nothing(&server, &job);
        next_are_clean(&server);
    }
    // Of those that run at once, each has at most one folder that is lent again.
    wait_for("what they dug is gone", BOUND, || {
        let scratch = server.data().join("scratch");
        let dug = |entry: fs::DirEntry| {
            entry.path().join("d").exists() || entry.path().join("artifacts/d").exists()
        };
        !fs::read_dir(scratch).expect("readable").flatten().any(dug) && scratch_folders(&server) <= 4
    });
    assert_eq!(server.server_pid(), serving, "it lives on");
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    next_are_clean(&server);
}

#[test]
fn folders_nested_5000_deep_beside_an_artifact_go_when_the_job_is_deleted_heavy() {
    let mut server = Server::start(TASKS);
    let serving = server.server_pid();
    let job = server.run("digs", json!({"where": "kept"}));
    let path = format!("/v1/jobs/{}", id_of(&job));
    assert_eq!(job["outcome"], json!({"kind": "exited", "code": 11}), "{job}");
    assert_eq!(server.get(&format!("{path}/artifacts/kept")).expect(200).body, b"kept");
    assert_eq!(server.server_pid(), serving, "it lives on");
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    let folder = server.data().join("jobs").join(id_of(&job));
    assert!(folder.exists());
    server.send(&Request::new("DELETE", path)).expect(204);
    wait_for("all it left is gone", BOUND, || !folder.exists());
    next_are_clean(&server);
}

#[test]
fn folders_nested_5000_deep_do_not_keep_a_server_from_starting_after_a_crash_heavy() {
    let tasks = TASKS.replace("sys.exit(11)", "print('dug', flush=True); import time; time.sleep(600)");
    let mut server = Server::start(&tasks);
    let id = server.running("digs", json!({"where": "dir"}));
    wait_for("it has dug", BOUND, || server.stdout(&id) == b"dug\n");
    server.crash();
    server.start_again();
    assert_eq!(server.over(&id)["outcome"]["kind"], "lost");
    next_are_clean(&server);
    assert!(scratch_folders(&server) <= 4);
}

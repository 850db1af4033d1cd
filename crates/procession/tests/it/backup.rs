//! F43: a backup is a data directory. Made under load, by the program as a person calls it;
//! restored by starting a server on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Server, Setup, at_once};

const TASKS: &str = r#"
[limits]
max_running = 4
[task.hold]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done']
max_running = 2
max_queued = 10000
[task.print]
command = ["cat"]
[task.leave]
command = ["sh", "-c", 'seq 30000; mkdir -p "$PROCESSION_ARTIFACTS/in"; echo kept > "$PROCESSION_ARTIFACTS/in/a"; head -c 100000 /dev/zero | tr "\0" x > "$PROCESSION_RESULT"']
"#;

/// A server whose data directory is this one.
fn on(folder: &Path, tasks: &str) -> Server {
    let data = folder.display();
    let setup = Setup::new(&format!(
        "[server]\nlisten = ['127.0.0.1:0']\ndata_dir = '{data}'\nstop_timeout = '1s'\n{tasks}"
    ));
    // Where the harness looks for it.
    std::os::unix::fs::symlink(folder, setup.path().join("data")).expect("linked");
    setup.start()
}

fn backup(server: &Server, args: &[&str]) -> (PathBuf, Value) {
    let (made, folder) = (server.path().join("made"), server.path().join("copy"));
    let text = server.cli(&[&["backup", made.to_str().expect("text"), "--output", "json"], args].concat());
    assert_eq!(text.code, Some(0), "{text:?}");
    let said: Value = serde_json::from_str(&text.stdout).expect("JSON");
    assert_eq!(said["folder"].as_str().map(Path::new), Some(&*made));
    fs::rename(&made, &folder).expect("it can be moved as a whole");
    (folder, said)
}

#[test]
fn f43_a_backup_under_load_has_all_that_was_accepted_before_and_what_waited_runs_in_it_heavy() {
    let server = Server::start(TASKS);
    let large = json!({ "text": "x".repeat(200_000) });
    let over = server.run("print", json!({"n": 1}));
    let running = [server.running("hold", Value::Null), server.running("hold", Value::Null)];
    let waiting = server.submit("hold", large.clone());
    let stop = AtomicBool::new(false);
    let (before, folder, said) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            at_once(4, |_| {
                while !stop.load(Ordering::Relaxed) {
                    server.submit("hold", json!({"filler": "y".repeat(70_000)}));
                }
            })
        });
        let before: Vec<String> = (0..20).map(|_| server.submit("hold", large.clone())).collect();
        let (folder, said) = backup(&server, &[]);
        let looked = server.cli(&["doctor"]);
        assert_eq!(looked.code, Some(0), "rows and files are written meanwhile: {looked:?}");
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no submission failed");
        (before, folder, said)
    });
    assert!(said["files"].as_u64() >= Some(21), "{said}");
    assert_eq!((&said["jobs"]["running"], &said["missing"]), (&json!(2), &json!([])), "{said}");
    for (file, mode) in [("token", 0o600), ("procession.db", 0o600)] {
        let found = fs::metadata(folder.join(file)).expect("there").permissions().mode() & 0o777;
        assert_eq!(found & 0o077, mode & 0o077, "{file}: {found:o}");
    }
    assert_eq!(fs::metadata(&folder).expect("there").permissions().mode() & 0o777, 0o700);

    // The original goes on while its copy starts: two data directories.
    let restored = on(&folder, TASKS);
    assert_eq!(restored.token, server.token);
    for id in &running {
        let job = restored.over(id);
        assert_eq!(job["outcome"]["kind"], "lost", "{job}");
        assert_eq!(server.job(id)["state"], "running");
    }
    assert_eq!(restored.job(over["id"].as_str().expect("an id"))["state"], "succeeded");
    fs::write(restored.path().join("go"), "").expect("written");
    for id in before.iter().chain([&waiting]) {
        let job = restored.over(id);
        assert_eq!(job["exit_code"], 0, "{job}");
        assert_eq!(restored.get(&format!("/v1/jobs/{id}/payload")).expect(200).json(), large);
    }
    let healthy = restored.cli(&["doctor"]);
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    fs::write(server.path().join("go"), "").expect("written");
    for id in &running {
        assert_eq!(server.over(id)["exit_code"], 0, "the original does not know of its copy");
    }
}

#[test]
fn f43_with_files_a_backup_has_what_finished_jobs_left() {
    let mut server = Server::start(TASKS);
    let job = server.run("leave", json!({"text": "x".repeat(200_000)}));
    assert_eq!(job["state"], "succeeded", "{job}");
    let id = job["id"].as_str().expect("an id");
    let parts = ["stdout", "result", "payload", "artifacts/in/a"];
    let read =
        |server: &Server| parts.map(|part| server.get(&format!("/v1/jobs/{id}/{part}")).expect(200).body);
    let before = read(&server);
    // Also of a data directory without a server.
    assert_eq!(server.stop().code(), Some(0));
    let (folder, said) = backup(&server, &["--files"]);
    assert_eq!(said["files"], json!(4), "{said}");
    let restored = on(&folder, TASKS);
    assert_eq!(read(&restored), before);
    assert_eq!(restored.cli(&["doctor"]).code, Some(0));
}

#[test]
fn f43_a_backup_never_overwrites_and_leaves_nothing_half_made() {
    let server = Server::start(TASKS);
    let full = server.path().join("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("precious"), "mine").expect("written");
    for (place, said) in
        [("full", "not empty"), ("procession.toml", "no folder"), ("no/where", "make it first")]
    {
        let place = server.path().join(place);
        let ran = server.cli(&["backup", place.to_str().expect("text")]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    assert_eq!(fs::read_to_string(full.join("precious")).expect("there"), "mine");
    let empty = server.path().join("empty");
    fs::create_dir(&empty).expect("made");
    let ran = server.cli(&["backup", empty.to_str().expect("text")]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("0 unfinished jobs"), "{ran:?}");
    assert!(empty.join("procession.db").exists());
    let names: Vec<_> =
        fs::read_dir(server.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{names:?}");
    // A link a job left running put in the place of a file is not followed.
    let id = server.run("leave", Value::Null)["id"].as_str().expect("an id").to_owned();
    let stdout = server.data().join("jobs").join(&id).join("1/stdout");
    fs::remove_file(&stdout).expect("a file");
    std::os::unix::fs::symlink("/etc/passwd", &stdout).expect("linked");
    let ran = server.cli(&["backup", "--files", server.path().join("third").to_str().expect("text")]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("stdout"), "{ran:?}");
    assert!(!server.path().join("third").exists());
}

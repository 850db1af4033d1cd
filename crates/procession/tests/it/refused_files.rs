//! Files that keep a reader waiting, and a disk without room: said at once, and nobody is
//! held up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::harness::{BOUND, Ran, Request, Server, Setup, command, wait_for};

fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
}

#[test]
fn a_secret_that_is_a_pipe_fails_its_job_and_holds_nobody_up() {
    let config = "[task.secret]\ncommand = ['true']\nsecrets = { DB = { file = 'db.secret' } }\n[task.t]\ncommand = ['true']\n";
    let setup = Setup::new(config);
    make_pipe(&setup.path().join("db.secret"));
    let mut server = setup.start();
    let began = Instant::now();
    let ids: Vec<String> = (0..20).map(|_| server.submit("secret", Value::Null)).collect();
    assert_eq!(server.run("t", Value::Null)["exit_code"], 0);
    for id in ids {
        let outcome = &server.over(&id)["outcome"];
        assert_eq!((&outcome["kind"], &outcome["phase"]), (&json!("spawn_failed"), &json!("prepare")));
        assert!(outcome["message"].as_str().is_some_and(|text| text.contains("db.secret")), "{outcome}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_schema_that_is_a_pipe_is_an_error_of_the_config_at_once() {
    let setup = Setup::new("[task.t]\ncommand = ['true']\nschema = 'body.schema.json'\n");
    make_pipe(&setup.path().join("body.schema.json"));
    let began = Instant::now();
    let refused = setup.refused();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("body.schema.json"), "{said}");
}

#[test]
fn on_a_disk_without_room_no_job_is_taken_and_all_else_goes_on() {
    let tasks = "[task.t]\ncommand = ['true']\n";
    let mut server = Server::start(tasks);
    let before = server.run("t", Value::Null);
    assert_eq!(server.stop().code(), Some(0));
    let config = fs::read_to_string(server.config()).expect("readable");
    fs::write(server.config(), format!("{config}[retention]\nmin_free = '4000000GiB'\n")).expect("written");
    server.start_again();
    wait_for("it has looked", BOUND, || server.send(&Request::submit("t", &json!({}))).status == 503);
    let refused = server.send(&Request::submit("t", &json!({})));
    assert_eq!(refused.problem(), (503, "disk_full".into()));
    assert_eq!(server.job(before["id"].as_str().expect("an id")), before);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.stop().code(), Some(0));
}

/// Jobs whose stdout lies in a file, oldest first.
fn leave_output(server: &Server, jobs: usize) -> Vec<String> {
    (0..jobs).map(|_| server.run("big", Value::Null)["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn beyond_the_bound_on_output_the_oldest_finished_jobs_go_first() {
    let tasks = "[task.big]\ncommand = ['sh', '-c', 'head -c 200000 /dev/zero']\n";
    let mut server = Server::start(tasks);
    let ids = leave_output(&server, 4);
    let kept = |server: &Server| -> Vec<bool> {
        let folder = |id: &String| server.data().join("jobs").join(id).exists();
        ids.iter().map(folder).collect()
    };
    assert_eq!(kept(&server), [true; 4]);
    let config = fs::read_to_string(server.config()).expect("readable");
    for (bound, left) in [("500KiB", [false, false, true, true]), ("1KiB", [false; 4])] {
        assert_eq!(server.stop().code(), Some(0));
        fs::write(server.config(), format!("{config}[retention]\noutput = '{bound}'\n")).expect("written");
        // It looks when it starts, and then now and then.
        server.start_again();
        wait_for("the oldest are gone", BOUND, || kept(&server) == left);
        for (id, left) in ids.iter().zip(left) {
            let status = if left { 200 } else { 404 };
            assert_eq!(server.get(&format!("/v1/jobs/{id}")).status, status, "{bound} {id}");
        }
    }
}

/// A folder with a megabyte in it, as a server leaves that is killed between a body and its row.
fn stray(server: &Server, id: &str, age: &str) -> PathBuf {
    let folder = server.data().join("jobs").join(id);
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("payload"), vec![0; 1_000_000]).expect("written");
    let aged = Ran::of(command("touch").args(["-d", age]).arg(&folder));
    assert_eq!(aged.code, Some(0), "{aged:?}");
    folder
}

#[test]
fn folders_without_a_job_are_removed_and_cost_no_finished_job_its_output() {
    let tasks =
        "[task.big]\ncommand = ['sh', '-c', 'head -c 200000 /dev/zero']\n[task.wait]\ncommand = ['cat']\n";
    let mut server = Server::start(tasks);
    server.post("/v1/tasks/wait/pause").expect(200);
    // What waits is not output of a finished job, and may be older than all of them.
    let waiting = server.submit("wait", json!({"text": "x".repeat(1_000_000)}));
    let ids = leave_output(&server, 4);
    assert_eq!(server.stop().code(), Some(0));
    // An id older than all jobs, and one as new as theirs (but its folder is old: it is kept).
    let old = stray(&server, "0197f3c2-6d1e-7a31-9c55-51d29f3a1c2b", "2 hours ago");
    let arriving = stray(&server, "0197f3c2-6d1e-7a31-9c55-51d29f3a1c2c", "1 minute ago");
    let late = stray(&server, &ids[3].replace(&ids[3][24..], "51d29f3a1c2d"), "2 hours ago");
    let foreign = stray(&server, "0197F3C2-6D1E-7A31-9C55-51D29F3A1C2D", "2 hours ago");
    let kept = |server: &Server| -> Vec<u16> {
        let status = |id: &String| server.get(&format!("/v1/jobs/{id}")).status;
        ids.iter().map(status).collect()
    };
    server.start_again();
    wait_for("nobody needs it", BOUND, || !old.exists());
    assert_eq!(kept(&server), [200; 4]);
    assert!(arriving.exists() && late.exists() && foreign.exists(), "these may be somebody's");
    assert_eq!(server.stop().code(), Some(0));
    let old = stray(&server, "0197f3c2-6d1e-7a31-9c55-51d29f3a1c2b", "2 hours ago");
    let config = fs::read_to_string(server.config()).expect("readable");
    fs::write(server.config(), format!("{config}[retention]\noutput = '500KiB'\n")).expect("written");
    server.start_again();
    wait_for("the bound is kept", BOUND, || kept(&server)[1] == 404);
    wait_for("and strays go with it", BOUND, || !old.exists());
    assert_eq!(kept(&server), [404, 404, 200, 200], "they did not count");
    server.post("/v1/tasks/wait/resume").expect(200);
    assert_eq!(server.over(&waiting)["exit_code"], 0);
}

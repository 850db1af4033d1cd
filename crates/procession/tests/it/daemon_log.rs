//! The daemon's log as its operator meets it: rotated under load, moved away by somebody
//! else, on a full disk, followed by a reader; and what never stands in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use flate2::read::GzDecoder;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{
    BOUND, Ran, Request, Server, Setup, at_once, command, is_alive, kill, procession, wait_for,
};

const TASKS: &str = "[task.t]\ncommand = ['true']\nmax_running = 8\n";

/// A server with this `[log]`.
fn logging(log: &str) -> Setup {
    Setup::new(&format!("{TASKS}[log]\n{log}"))
}

fn folder(server: &Server) -> PathBuf {
    server.data().join("log")
}

fn current(server: &Server) -> PathBuf {
    folder(server).join("procession.log")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    let mut file = File::open(path).expect("readable");
    if path.extension().is_some_and(|ending| ending == "gz") {
        GzDecoder::new(file).read_to_end(&mut bytes).expect("whole");
    } else {
        file.read_to_end(&mut bytes).expect("readable");
    }
    String::from_utf8(bytes).expect("text")
}

/// Every line of every file, each of which is to be JSON.
#[track_caller]
fn lines(folder: &Path) -> Vec<Value> {
    let logs = names(folder).into_iter().filter(|name| name.starts_with("procession"));
    let text: String = logs.map(|name| text_of(&folder.join(name))).collect();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// The jobs whose end is told, in the order of the ids.
fn told(lines: &[Value]) -> Vec<String> {
    let ends = lines.iter().filter(|line| line["message"] == "an attempt is over");
    let mut ids: Vec<String> = ends.map(|line| line["job"].as_str().expect("a job").to_owned()).collect();
    ids.sort();
    ids
}

fn run_many(server: &Server, count: usize) -> Vec<String> {
    let mut ids = at_once(count, |_| server.submit("t", json!({})));
    for id in &ids {
        server.over(id);
    }
    ids.sort();
    ids
}

#[test]
fn rotation_under_load_loses_no_line() {
    let mut server = logging("level = 'debug'\nmax_size = '8KiB'\nkeep = 'none'\n").start();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.extend(run_many(&server, 20));
    }
    ids.sort();
    wait_for("files are compressed", BOUND, || {
        let names = names(&folder(&server));
        names.iter().filter(|name| name.ends_with(".log.gz")).count() >= 5
    });
    assert_eq!(server.stop().code(), Some(0));
    let folder = folder(&server);
    assert_eq!(told(&lines(&folder)), ids);
    for name in names(&folder) {
        let meta = fs::metadata(folder.join(&name)).expect("there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        assert!(name.ends_with(".gz") || meta.len() <= 8 << 10, "{name} has {} bytes", meta.len());
    }
}

#[test]
fn a_start_and_a_stop_are_told_and_no_single_job_is() {
    let mut server = logging("").start();
    server.run("t", json!({}));
    assert_eq!(server.stop().code(), Some(0));
    let lines = lines(&folder(&server));
    let start = &lines[0];
    assert_eq!(
        (&start["message"], &start["level"], &start["room"]),
        (&json!("the server starts"), &json!("info"), &json!("app"))
    );
    for key in ["time", "version", "revision", "containment", "listeners"] {
        assert!(start[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {start}");
    }
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(
        messages.contains(&"ready") && messages.iter().any(|text| text.starts_with("stopping")),
        "{messages:?}"
    );
    assert_eq!(messages.last(), Some(&"goodbye"), "the last line is not lost");
    assert!(lines.iter().all(|line| line["job"].is_null()), "{lines:?}");
    assert!(server.log().contains("the server starts"), "people are told too: {}", server.log());
}

#[test]
fn warnings_of_the_config_are_in_the_log_and_once_at_the_terminal() {
    let server = Server::start("[task.t]\ncommand = ['no-such-program']\nmax_running = 1\n");
    wait_for("the warning is there", BOUND, || {
        lines(&folder(&server)).iter().any(|line| line["warning"].to_string().contains("no-such-program"))
    });
    assert_eq!(server.log().matches("no-such-program` is").count(), 1, "{}", server.log());
}

#[test]
fn a_lost_job_is_told() {
    let mut server = Server::start("[task.t]\ncommand = ['sleep', '600']\nmax_running = 1\n");
    let id = server.running("t", json!({}));
    server.crash();
    server.start_again();
    assert_eq!(server.over(&id)["state"], "lost");
    wait_for("it is in the log", BOUND, || {
        lines(&folder(&server)).iter().any(|line| line["job"] == id.as_str() && line["level"] == "warn")
    });
}

#[test]
fn the_variable_overrides_the_level() {
    let server = logging("level = 'error'\n").env("PROCESSION_LOG", "debug").start();
    let id = server.run("t", json!({}))["id"].as_str().expect("an id").to_owned();
    wait_for("its end is told", BOUND, || told(&lines(&folder(&server))) == [id.as_str()]);
    let quiet = logging("level = 'error'\n").start();
    quiet.run("t", json!({}));
    assert_eq!(names(&folder(&quiet)), [""; 0], "nothing to say, no file");
}

#[test]
fn new_lines_go_to_the_file_that_has_the_name() {
    let server = logging("level = 'debug'\nmax_size = 'none'\nmax_age = 'none'\n").start();
    let first = server.run("t", json!({}))["id"].as_str().expect("an id").to_owned();
    wait_for("it is told", BOUND, || told(&lines(&folder(&server))) == [first.as_str()]);
    let moved = folder(&server).join("moved.log");
    fs::rename(current(&server), &moved).expect("moved");
    let second = server.run("t", json!({}))["id"].as_str().expect("an id").to_owned();
    wait_for("it is told anew", BOUND, || {
        current(&server).exists() && text_of(&current(&server)).contains(&second)
    });
    assert!(text_of(&moved).contains(&first) && !text_of(&moved).contains(&second));
}

/// As an external `logrotate` does it: move, then `postrotate kill -USR1`.
#[test]
fn usr1_opens_the_log_anew() {
    let server = logging("max_size = 'none'\nmax_age = 'none'\n").start();
    wait_for("there is a log", BOUND, || current(&server).exists());
    fs::rename(current(&server), folder(&server).join("procession.log.1")).expect("moved");
    let pid = fs::read_to_string(server.data().join("pid")).expect("the file `pid`");
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a pid")).expect("not 0");
    kill_process(pid, Signal::USR1).expect("sent");
    wait_for("there is a new log, before anything is said", BOUND, || current(&server).exists());
    assert_eq!(server.run("t", json!({}))["exit_code"], 0);
}

#[test]
fn old_logs_go_by_age_and_by_count_and_foreign_files_stay() {
    let setup = logging("keep = 2\nexpire = '30d'\n");
    let log = setup.path().join("data/log");
    fs::create_dir_all(&log).expect("a folder");
    let soon = jiff::Timestamp::now().strftime("%Y%m%d").to_string();
    let mine = ["procession-20200101T000000Z.log".to_owned(), "procession-20200101T000001Z.log.gz".into()]
        .into_iter()
        .chain((0..4).map(|n| format!("procession-{soon}T00000{n}Z.log")));
    let foreign = ["notes.txt", "procession.log.1", "procession-20200101.log"];
    for name in mine.chain(foreign.map(str::to_owned)) {
        fs::write(log.join(name), "{}\n").expect("written");
    }
    let server = setup.start();
    let mut left: Vec<String> = foreign.map(str::to_owned).to_vec();
    left.extend((2..4).map(|n| format!("procession-{soon}T00000{n}Z.log.gz")));
    left.push("procession.log".into());
    left.sort();
    wait_for("only those to be kept are left", BOUND, || names(&folder(&server)) == left);
}

#[test]
fn a_large_stderr_log_is_put_aside_at_the_start() {
    let setup = logging("");
    let log = setup.path().join("data/log");
    fs::create_dir_all(&log).expect("a folder");
    let said = "thread panicked\n".repeat(100_000);
    fs::write(log.join("stderr.log"), &said).expect("written");
    let server = setup.start();
    let packed = || {
        names(&folder(&server))
            .into_iter()
            .find(|name| name.starts_with("stderr-") && name.ends_with(".log.gz"))
    };
    wait_for("it is compressed", BOUND, || packed().is_some());
    assert!(text_of(&folder(&server).join(packed().expect("there"))) == said);
    assert_eq!(fs::metadata(folder(&server).join("stderr.log")).expect("there").len(), 0);
}

#[test]
fn f39_whoever_follows_the_log_sees_every_line_across_rotations() {
    let server = logging("level = 'debug'\nmax_size = '16KiB'\nkeep = 3\n").start();
    let path = current(&server);
    let mut follower =
        Follower { path: path.clone(), file: File::open(&path).expect("there"), text: String::new() };
    let mut ids = Vec::new();
    let mut files = std::collections::BTreeSet::new();
    for _ in 0..25 {
        // So few that they fill no file of their own: the follower loses sight of none.
        let round = run_many(&server, 8);
        wait_for("the follower has read it", BOUND, || {
            follower.read();
            round.iter().all(|id| follower.has_told(id))
        });
        ids.extend(round);
        files.insert(follower.file.metadata().expect("open").ino());
    }
    ids.sort();
    let lines: Vec<Value> =
        follower.text.lines().map(|line| serde_json::from_str(line).expect("whole lines")).collect();
    assert_eq!(told(&lines), ids, "each once");
    assert!(files.len() >= 2, "it was rotated meanwhile");
}

/// Reads a file as `tail -F` does.
struct Follower {
    path: PathBuf,
    file: File,
    text: String,
}

impl Follower {
    fn read(&mut self) {
        let moved =
            fs::metadata(&self.path).is_ok_and(|now| now.ino() != self.file.metadata().expect("open").ino());
        self.file.read_to_string(&mut self.text).expect("readable");
        if moved && let Ok(file) = File::open(&self.path) {
            self.file = file;
        }
    }

    fn has_told(&self, job: &str) -> bool {
        self.text.lines().any(|line| line.contains(job) && line.contains("an attempt is over"))
    }
}

#[test]
fn what_is_logged_on_the_way_to_an_exit_is_in_the_log() {
    let server = logging("").start();
    let process = server.server_pid();
    kill(server.keeper_pid());
    wait_for("the server ends", BOUND, || !is_alive(process));
    let lines = lines(&folder(&server));
    let last = lines.last().expect("a line");
    assert_eq!((&last["level"], &last["room"]), (&json!("error"), &json!("app")), "{last}");
}

#[test]
fn a_server_that_cannot_start_says_why_also_to_whoever_starts_a_daemon() {
    let setup = logging("");
    for arguments in [&["server"][..], &["server", "--daemon"]] {
        // No keeper: there is nothing it could serve on.
        let ran = Ran::of(procession().args(arguments).arg("--config").arg(setup.config()));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    }
}

/// A disk of 1 MiB, unmounted with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).expect("a folder");
        let mut mount = command("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "small"]).arg(&at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(at))
    }

    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = File::create(&path).expect("made");
        while filler.write_all(&[b'x'; 4096]).is_ok() {}
        while filler.write_all(b"x").is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = command("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn f08_a_full_disk_under_the_log_costs_lines_which_are_counted_and_nothing_else() {
    let setup = logging("level = 'debug'\nkeep = 'none'\nmax_size = '4KiB'\n");
    let Some(disk) = SmallDisk::mount(setup.path().join("data/log")) else {
        eprintln!("skipped: only root may mount");
        return;
    };
    let mut server = setup.start();
    let before = run_many(&server, 10);
    let filler = disk.fill();
    let during = run_many(&server, 60);
    for id in &during {
        assert_eq!(server.job(id)["exit_code"], 0, "the jobs do not notice");
    }
    wait_for("lines are lost", BOUND, || server.log().contains("the log cannot be written"));
    fs::remove_file(filler).expect("removed");
    let after = run_many(&server, 5);
    assert_eq!(server.stop().code(), Some(0));
    let text: String = names(&disk.0).iter().map(|name| text_of(&disk.0.join(name))).collect();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lost: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
    assert!(lost > 0, "{text}");
    let told = told(&lines);
    for id in before.iter().chain(&after) {
        assert_eq!(told.iter().filter(|other| *other == id).count(), 1, "{id}");
    }
    let missing = during.iter().filter(|id| !told.contains(id)).count() as u64;
    assert!(missing <= lost, "{missing} ends are not there, and {lost} lines are said to be lost");
    assert!(names(&disk.0).iter().all(|name| !name.ends_with(".new")), "{:?}", names(&disk.0));
}

const MARK: &str = "s3cr3t-m4rk";

/// Says who it is to a server that speaks HTTP/2 from the first byte on; closes after the answer.
fn speak_http_2(server: &Server) {
    let mut stream = server.address.connect().expect("connected");
    let value = format!("Bearer {MARK}");
    // GET, http, / from the table; then `:authority` and `authorization`, as they are.
    let mut head = vec![0x82, 0x86, 0x84, 0x01, 9];
    head.extend(b"localhost");
    head.extend([0x0f, 0x08, value.len() as u8]);
    head.extend(value.as_bytes());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend(head);
    stream.write_all(&bytes).expect("sent");
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).expect("an answer");
}

/// Tasks that have the mark everywhere a mark can be.
fn marked_tasks() -> String {
    format!(
        r#"
[task.all]
command = ["sh", "-c", 'cat; cat "$PROCESSION_PAYLOAD" "$DB_FILE"; echo "$SET $1 {MARK}" >&2; echo {MARK} > "$PROCESSION_RESULT"; exit 3', "sh", "{{{{payload.a}}}}"]
env = {{ SET = "{MARK}", FROM = "{{{{header.x-mark:-}}}}" }}
env_inherit = ["INHERITED"]
secrets = {{ DB = {{ file = "db.secret" }} }}
labels = {{ label = "{{{{payload.a}}}}" }}
idempotency_key = "{{{{payload.key}}}}"
max_running = 4
[task.strict]
command = ["true"]
schema = "strict.json"
max_running = 4
[task.result]
command = ["sh", "-c", 'echo "\"{MARK}\""']
result = "stdout"
result_schema = "strict.json"
max_running = 4
[task.absent]
command = ["no-such-program", "{{{{payload.a}}}}"]
payload = "argv"
max_running = 4
[task.bytes]
command = ["cat"]
body = "bytes"
max_running = 4
[task.endless]
command = ["sh", "-c", "echo {MARK}; exec sleep 600"]
max_running = 4
[log]
max_size = "16KiB"
"#
    )
}

#[test]
fn nothing_a_client_or_a_program_says_is_ever_logged() {
    let mut server = Setup::new(&marked_tasks())
        .file("db.secret", MARK)
        .file(
            "strict.json",
            r#"{"type": "object", "required": ["x"], "properties": {"a": {"type": "integer"}}}"#,
        )
        .env("PROCESSION_LOG", "trace")
        .env("INHERITED", MARK)
        .start();
    let marked = json!({ "a": MARK, "key": MARK });
    let id = server.run("all", marked.clone())["id"].as_str().expect("an id").to_owned();
    assert!(String::from_utf8(server.stderr(&id)).expect("text").contains(MARK), "the job did see it");
    for request in [
        Request::submit("strict", &marked),
        Request::submit("all", &marked).header("Idempotency-Key", MARK).header("X-Mark", MARK),
        Request::submit("all", &json!({ "a": format!("-{MARK}"), "key": "k" })),
        Request::post("/v1/tasks/all/jobs").body("application/json", format!("{{\"a\": {MARK}")),
        Request::post(format!("/v1/tasks/all/jobs?priority={MARK}")).json(&marked),
        Request::post(format!("/v1/tasks/{MARK}/jobs")).json(&marked),
        Request::get(format!("/v1/jobs?label.label={MARK}&cursor={MARK}")),
        Request::get(format!("/v1/jobs/{MARK}")),
        Request::get("/v1/jobs").header("Cookie", MARK).header("Range", MARK),
        Request::get("/v1/jobs").without("Authorization").header("Authorization", format!("Bearer {MARK}")),
    ] {
        server.send(&request);
    }
    server.run("result", json!({}));
    server.run("absent", marked);
    server.run_bytes("bytes", "application/octet-stream", MARK.repeat(80_000));
    speak_http_2(&server);
    // What ran is told to the next server with all the program said.
    let endless = server.running("endless", json!({}));
    kill(server.server_pid());
    wait_for("the next server answers", BOUND, || server.get("/healthz").status == 200);
    server.cancel(&endless);
    server.over(&endless);
    let token = server.token.clone().expect("a token");
    assert_eq!(server.stop().code(), Some(0));

    let said = server.log()
        + &names(&folder(&server))
            .iter()
            .map(|name| text_of(&folder(&server).join(name)))
            .collect::<String>();
    assert!(said.contains("an attempt is over") && said.contains(&id), "it was as talkative as it can be");
    let found: Vec<&str> = said.lines().filter(|line| line.contains(MARK) || line.contains(&token)).collect();
    assert_eq!(found, [""; 0]);
    for foreign in ["h2::", "hyper", "\"room\":\"h2", "\"room\":\"tokio"] {
        assert!(!said.contains(foreign), "{foreign}: other crates have their own idea of what is secret");
    }
}

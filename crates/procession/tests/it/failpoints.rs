//! Every named place in server and keeper, and a death at it: `kill -9` the first, second and
//! third time it is reached, while jobs of every kind are under way. Afterwards nothing that
//! was accepted is missing, each attempt has one end and it is the true one, nothing ran twice,
//! no process is left.

use std::fs;
use std::time::{Duration, Instant};

use procession_keeper::fault::POINTS;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Service, Setup, at_once, sha256, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 6
[task.gate]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; exec sleep 600']
[task.timed]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; exec sleep 600']
timeout = "400ms"
[task.long]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; echo early; sleep 0.4; echo late; exit 9']
[task.exit]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; seq "$1"; exit "$2"', "sh", "{{payload.lines}}", "{{payload.code}}"]
[task.signal]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; kill -9 $$']
[task.leaves]
command = ["sh", "-c", '''
echo "$PROCESSION_JOB_ID" >> ran
seq 20000 > "$PROCESSION_ARTIFACTS/numbers"
printf '{"n":1}' > "$PROCESSION_RESULT"
''']
result_required = true
[task.quick]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran']
"#;

/// The submission at which a server dies so that another has something to take over.
const KILLER: &str = "submit.before_commit=abort@8,finish.before_commit=abort@2";

/// How the job is to end.
struct Expected {
    task: &'static str,
    payload: Value,
    outcome: Value,
    stdout: String,
}

fn numbers(last: usize) -> String {
    (1..=last).map(|n| format!("{n}\n")).collect()
}

fn jobs() -> Vec<Expected> {
    let job = |task, payload, outcome, stdout: String| Expected { task, payload, outcome, stdout };
    let exited = |code: i32| json!({"kind": "exited", "code": code});
    let exit = |lines: usize, code: i32| {
        job("exit", json!({"lines": lines, "code": code}), exited(code), numbers(lines))
    };
    let cancelled = json!({"kind": "cancelled", "by": "client", "signal": 15});
    let gate = || job("gate", Value::Null, cancelled.clone(), String::new());
    let timed_out = json!({"kind": "timed_out", "limit_ms": 400, "signal": 15});
    let killed = json!({"kind": "signaled", "signal": 9, "name": "SIGKILL", "core": false});
    vec![
        gate(),
        gate(),
        gate(),
        job("timed", Value::Null, timed_out, String::new()),
        job("long", Value::Null, exited(9), "early\nlate\n".into()),
        exit(3, 0),
        exit(30_000, 7),
        exit(0, 255),
        job("leaves", Value::Null, exited(0), String::new()),
        job("signal", Value::Null, killed, String::new()),
    ]
}

/// Those that end the keeper: what ran then is lost, and said to be.
fn is_keepers(point: &str) -> bool {
    ["supervise.", "journal.", "keeper.", "handover.", "renew."].iter().any(|room| point.starts_with(room))
}

/// Reached by a server that follows another only.
fn needs_a_death_before(point: &str) -> bool {
    ["recover.", "ready.", "keeper.at_server_start"].iter().any(|room| point.starts_with(room))
}

/// Reached only when one server, or one program, follows another on demand.
fn is_of_a_reload(point: &str) -> bool {
    ["standby.", "retire.", "handover.", "renew."].iter().any(|room| point.starts_with(room))
}

/// Reached only where something follows an end, which no job here asks for; `callbacks` kills there.
fn is_of_what_follows(point: &str) -> bool {
    point.starts_with("deliver.")
}

/// Every point of the table that `which` picks, with the comings that are worth a run.
fn cases(which: impl Fn(&str) -> bool) -> Vec<(&'static str, u32)> {
    let comings = |point: &str| match () {
        () if point.starts_with("link.") => 6,
        // The second of three servers may die before it is ready, of what it records.
        () if point.starts_with("ready.") => 2,
        () => 3,
    };
    let points = POINTS.into_iter().filter(|point| which(point) && !is_of_what_follows(point));
    points.flat_map(|point| (1..=comings(point)).map(move |nth| (point, nth))).collect()
}

/// Runs all jobs under this fault and compares everything.
fn survives(point: &str, act: &str, nth: u32) {
    let context = format!("{point}={act}@{nth}");
    let mut faults = context.clone();
    if needs_a_death_before(point) {
        faults = format!("{faults},{KILLER}");
    }
    let setup = Setup::new(TASKS);
    let comings = setup.path().join("comings");
    fs::create_dir(&comings).expect("made");
    let setup =
        setup.env("PROCESSION_FAULT", &faults).env("PROCESSION_FAULT_ONCE", comings.to_str().expect("text"));
    let mut service = Service::start(setup);
    let jobs = jobs();
    let ids: Vec<String> = jobs.iter().enumerate().map(|(n, job)| submit(&mut service, n, job)).collect();
    if is_of_a_reload(point) {
        // An upgrade is a reload, and more.
        let mut asked: Option<Instant> = None;
        wait_for("the point is reached", BOUND, || {
            if asked.is_none_or(|asked| asked.elapsed() > Duration::from_millis(300)) {
                service.send(&Request::get("/readyz"));
                service.signal(Signal::USR2);
                asked = Some(Instant::now());
            }
            comings.join(format!("{point}.{nth}")).exists()
        });
    }
    for (id, _) in ids.iter().zip(&jobs).filter(|(_, job)| job.task == "gate") {
        let answer = service.send(&Request::post(format!("/v1/jobs/{id}/cancel")));
        assert!(matches!(answer.status, 200 | 202), "{context}: {answer:?}");
    }
    // A server that dies before its first READY is on the socket ends its keeper.
    let ends_the_keeper = is_keepers(point) || (point.starts_with("link.") && nth <= 2);
    let mut ran_once = Vec::new();
    for (id, expected) in ids.iter().zip(&jobs) {
        if ended_truly(&mut service, id, expected, act == "abort" && ends_the_keeper, &context) {
            ran_once.push(id);
        }
    }
    let listed = service.send(&Request::get("/v1/jobs?limit=100")).expect(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(jobs.len()), "{context}");
    let ran = fs::read_to_string(service.path().join("ran")).expect("some ran");
    let times = |id: &str| ran.matches(id).count();
    assert!(ids.iter().all(|id| times(id) <= 1), "{context}: one ran twice:\n{ran}");
    assert!(ran_once.iter().all(|id| times(id) == 1), "{context}: an end of what never ran:\n{ran}");
    wait_for("no process of a job is left", BOUND, || service.processes().is_empty());
    assert!(comings.join(format!("{point}.{nth}")).exists(), "{context} was never reached");
    service.stop();
}

fn submit(service: &mut Service, number: usize, job: &Expected) -> String {
    let key = format!("key-{number}");
    let request = Request::submit(job.task, &job.payload).header("Idempotency-Key", key);
    let answer = service.send(&request);
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    answer.job_id()
}

/// Whether it ran to its own end; else nobody knows how it ended, which `may_be_lost`.
fn ended_truly(
    service: &mut Service,
    id: &str,
    expected: &Expected,
    may_be_lost: bool,
    context: &str,
) -> bool {
    let mut job = Value::Null;
    wait_for("a job is over", BOUND, || {
        job = service.send(&Request::get(format!("/v1/jobs/{id}?wait=5"))).expect(200).json();
        !job["outcome"].is_null()
    });
    if job["outcome"] == json!({"kind": "lost", "reason": "keeper_died"}) {
        assert!(may_be_lost, "{context}: {job}");
        assert_eq!(
            (&job["exit_code"], &job["signal"], &job["result"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        return false;
    }
    if job["outcome"] == json!({"kind": "cancelled", "by": "client"}) && expected.task == "gate" {
        // Before it was started.
        return false;
    }
    // A keeper that dies between its TERM and the end takes along why it sent it.
    let unexplained = json!({"kind": "signaled", "signal": 15, "name": "SIGTERM", "core": false});
    if !(may_be_lost && job["outcome"] == unexplained && expected.outcome["signal"] == 15) {
        assert_eq!(job["outcome"], expected.outcome, "{context}: {job}");
    }
    assert_eq!(job["attempt"], 1, "{context}: {job}");
    let stdout = service.send(&Request::get(format!("/v1/jobs/{id}/stdout"))).expect(200).body;
    assert_eq!(sha256(&stdout), sha256(expected.stdout.as_bytes()), "{context}: {job}");
    if expected.task == "leaves" {
        assert_eq!(job["result"], json!({"n": 1}), "{context}: {job}");
        let artifact =
            service.send(&Request::get(format!("/v1/jobs/{id}/artifacts/numbers"))).expect(200).body;
        assert_eq!(sha256(&artifact), sha256(numbers(20_000).as_bytes()), "{context}");
    }
    true
}

/// Three at a time: a run waits more than it works.
fn all_survive(cases: &[(&'static str, u32)], act: &str) {
    assert!(!cases.is_empty());
    at_once(3, |lane| {
        for (point, nth) in cases.iter().skip(lane).step_by(3) {
            survives(point, act, *nth);
        }
    });
}

/// The points exist in debug builds only.
fn are_there() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: a release build has no points");
    }
    cfg!(debug_assertions)
}

#[test]
fn f01_a_server_killed_at_every_point_loses_nothing_and_runs_nothing_twice_heavy() {
    if are_there() {
        all_survive(&cases(|point| !is_keepers(point) && !is_of_a_reload(point)), "abort");
    }
}

#[test]
fn f02_a_keeper_killed_at_every_point_invents_nothing_and_runs_nothing_twice_heavy() {
    if are_there() {
        all_survive(&cases(|point| is_keepers(point) && !is_of_a_reload(point)), "abort");
    }
}

#[test]
fn f05_f06_killed_at_every_point_of_an_upgrade_nothing_is_lost_and_nothing_runs_twice_heavy() {
    if are_there() {
        all_survive(&cases(is_of_a_reload), "abort");
    }
}

#[test]
fn f01_an_error_at_every_point_that_may_fail_loses_nothing_heavy() {
    let may_fail = ["submit.", "claim.", "cancel.", "finish."].map(|room| format!("{room}before_commit"));
    if are_there() {
        all_survive(&cases(|point| may_fail.iter().any(|known| known == point)), "error");
    }
}

#[test]
fn f01_a_server_that_died_before_its_acknowledgement_leaves_no_folder_behind() {
    if !are_there() {
        return;
    }
    let setup = Setup::new("[task.t]\ncommand = ['sh', '-c', 'echo 1 > \"$PROCESSION_RESULT\"']\n");
    let comings = setup.path().join("comings");
    fs::create_dir(&comings).expect("made");
    let fault = ("ack.before_send=abort@2", comings.to_str().expect("text").to_owned());
    let server = setup.env("PROCESSION_FAULT", fault.0).env("PROCESSION_FAULT_ONCE", &fault.1).start();
    // Once a job has run the keeper has heard that the server is ready, and starts another.
    server.run("t", Value::Null);
    let id = server.submit("t", Value::Null);
    let mut over = None;
    wait_for("it is over", BOUND, || {
        let asked = server.try_send(&Request::get(format!("/v1/jobs/{id}")));
        over = asked.ok().map(|answer| answer.json()).filter(|job| job["state"] == "succeeded");
        over.is_some() && comings.join("ack.before_send.2").exists()
    });
    assert_eq!(over.expect("waited for")["result"], 1);
    let left = || fs::read_dir(server.data().join("scratch")).expect("readable").flatten();
    wait_for("its folder is gone", BOUND, || !left().any(|folder| folder.path().join("result").exists()));
}

/// One job is cancelled while something about it is held up at this point.
fn cancelled_meanwhile(point: &str, task: &str) {
    let setup = Setup::new(TASKS).env("PROCESSION_FAULT", &format!("{point}=pause:200ms@1"));
    let server = setup.start();
    let id = server.submit(task, Value::Null);
    let answers = at_once(2, |_| server.cancel(&id).status);
    assert!(answers.iter().all(|status| matches!(status, 200 | 202)), "{point}: {answers:?}");
    let job = server.over(&id);
    let kind = job["outcome"]["kind"].as_str().expect("an end");
    match kind {
        "cancelled" => assert_eq!(job["outcome"]["by"], "client", "{point}: {job}"),
        _ => assert_eq!(
            (task, &job["outcome"]),
            ("quick", &json!({"kind": "exited", "code": 0})),
            "{point}: {job}"
        ),
    }
    server.cancel(&id).expect(200);
    assert_eq!(server.job(&id), job, "{point}: an end is an end");
    let attempts = server.get(&format!("/v1/jobs/{id}/attempts")).expect(200).json();
    assert!(attempts["items"].as_array().is_some_and(|all| all.len() <= 1), "{point}: {attempts}");
    let ran = fs::read_to_string(server.path().join("ran")).unwrap_or_default();
    assert!(ran.lines().count() <= 1, "{point}: {ran}");
    wait_for("no process of it is left", BOUND, || server.processes_of(&id).is_empty());
}

#[test]
fn f34_a_cancel_at_every_moment_of_a_job_leaves_one_end_heavy() {
    if !are_there() {
        return;
    }
    let points = POINTS
        .into_iter()
        .filter(|point| !needs_a_death_before(point) && !is_of_a_reload(point) && !is_of_what_follows(point));
    let cases: Vec<_> = points.flat_map(|point| [(point, "gate"), (point, "quick")]).collect();
    at_once(3, |lane| {
        for (point, task) in cases.iter().skip(lane).step_by(3) {
            cancelled_meanwhile(point, task);
        }
    });
}

//! A disk that is full, and one that does not keep what it is given, under the real program:
//! nothing is acknowledged that is not kept, what runs is not disturbed, and when the disk is
//! well again so is the service.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Response, Server, Service, Setup, SmallDisk, command, kill, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 4
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done; echo "$PROCESSION_JOB_ID" >> ran; echo said; exit 7']
[task.exit]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; exit 3']
max_queued = 100000
[task.writes]
command = ["sh", "-c", 'head -c 30000000 /dev/zero; echo "$PROCESSION_JOB_ID" >> ran; exit 5']
output_limit = "100MiB"
"#;

/// Dropped in this order: the disk goes while the server can still end itself.
struct OnSmallDisk {
    disk: SmallDisk,
    server: Server,
}

fn start(size: &str) -> Option<OnSmallDisk> {
    let setup = Setup::new(TASKS);
    let disk = SmallDisk::mount(&setup.path().join("data"), size)?;
    Some(OnSmallDisk { disk, server: setup.start() })
}

fn times_ran(server: &Server, id: &str) -> usize {
    fs::read_to_string(server.path().join("ran")).unwrap_or_default().matches(id).count()
}

#[test]
fn f07_on_a_full_disk_nothing_is_accepted_and_what_runs_is_recorded_when_there_is_space() {
    let Some(OnSmallDisk { disk, server }) = start("24m") else { return };
    let pid = server.server_pid();
    let running: Vec<String> = (0..4).map(|_| server.running("gate", Value::Null)).collect();
    let mut accepted = vec![server.submit("exit", Value::Null)];
    disk.fill(0);
    let mut refusal: Option<Response> = None;
    wait_for("a refusal", BOUND, || {
        // The log of the database may have room left for some.
        let answer = server.send(&Request::submit("exit", &json!({"some": "x".repeat(2000)})));
        match answer.status {
            202 => accepted.push(answer.job_id()),
            _ => refusal = Some(answer),
        }
        refusal.is_some()
    });
    let refusal = refusal.expect("waited for");
    assert_eq!(refusal.problem(), (503, "disk_full".into()));
    assert!(refusal.header("retry-after").is_some(), "{refusal:?}");
    assert_eq!(server.get("/healthz").status, 200, "it lives");
    assert_eq!(server.get("/readyz").problem(), (503, "disk_full".into()));
    fs::write(server.path().join("go"), "").expect("another disk");
    for id in &running {
        wait_for("it ran on to its end", BOUND, || times_ran(&server, id) == 1);
        let job = server.job(id);
        assert!(matches!(job["state"].as_str(), Some("running" | "failed")), "{job}");
    }
    let again = server.send(&Request::submit("exit", &json!({"some": "x".repeat(200_000)})));
    assert_eq!(again.problem(), (503, "disk_full".into()), "a large body as well");
    disk.empty();
    for id in running.iter().chain(&accepted) {
        let job = server.over(id);
        let code = if running.contains(id) { 7 } else { 3 };
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(code), &json!(1)), "{job}");
        assert_eq!(times_ran(&server, id), 1);
    }
    assert_eq!(server.stdout(&running[0]), b"said\n");
    assert_eq!(server.server_pid(), pid, "without a restart");
    wait_for("it is ready again", BOUND, || server.get("/readyz").status == 200);
    assert_eq!(server.all_jobs("limit=200").len(), running.len() + accepted.len(), "no other job");
    server.run("exit", Value::Null);
}

#[test]
fn f07_a_server_that_is_started_again_or_replaced_on_a_full_disk_answers() {
    let Some(OnSmallDisk { disk, server }) = start("24m") else { return };
    let running: Vec<String> = (0..4).map(|_| server.running("gate", Value::Null)).collect();
    let waiting = server.submit("exit", Value::Null);
    disk.fill(0);
    for round in 0..3 {
        let served = server.get("/v1/stats").expect(200).json()["server_pid"].clone();
        match round {
            2 => server.reload(),
            _ => kill(served.as_u64().expect("a number") as u32),
        }
        wait_for("another server answers", BOUND, || {
            server.try_send(&Request::get("/healthz")).is_ok_and(|answer| answer.status == 200)
        });
        for id in &running {
            assert_eq!(server.job(id)["state"], "running", "round {round}");
        }
    }
    fs::write(server.path().join("go"), "").expect("another disk");
    disk.empty();
    for (id, code) in running.iter().map(|id| (id, 7)).chain([(&waiting, 3)]) {
        let job = server.over(id);
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(code), &json!(1)), "{job}");
        assert_eq!(times_ran(&server, id), 1);
    }
}

#[test]
fn f07_what_a_dead_keeper_left_does_not_keep_a_server_from_answering_on_a_full_disk() {
    let Some(OnSmallDisk { disk, mut server }) = start("24m") else { return };
    let running: Vec<String> = (0..4).map(|_| server.running("gate", Value::Null)).collect();
    server.crash();
    // What a start writes anew is there already; the rest of the disk is full.
    disk.fill(64 << 10);
    server.start_again();
    for id in &running {
        assert!(matches!(server.job(id)["state"].as_str(), Some("running" | "lost")));
    }
    // What a server could not record the next one must not take for its own claims.
    kill(server.server_pid());
    wait_for("another server answers", BOUND, || {
        server.try_send(&Request::get("/healthz")).is_ok_and(|answer| answer.status == 200)
    });
    disk.empty();
    for id in &running {
        let job = server.over(id);
        assert_eq!(job["outcome"], json!({"kind": "lost", "reason": "keeper_died"}));
        assert_eq!((&job["attempt"], times_ran(&server, id)), (&json!(1), 0));
    }
    server.run("exit", Value::Null);
}

#[test]
fn f08_p36_output_that_fills_the_disk_is_cut_off_and_counted_and_the_job_goes_on() {
    let Some(OnSmallDisk { disk, server }) = start("24m") else { return };
    // What its end will need stays free once the output has taken the rest.
    disk.fill(8 << 20);
    let id = server.submit("writes", Value::Null);
    wait_for("it wrote all and went on", BOUND, || times_ran(&server, &id) == 1);
    disk.empty();
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "exited", "code": 5}), "{job}");
    let output = &job["output"];
    assert_eq!(output["stdout_bytes"], 30_000_000, "{job}");
    let dropped = output["stdout_dropped"].as_u64().expect("a number");
    assert!((1..30_000_000).contains(&dropped), "{job}");
    let answer = server.get(&format!("/v1/jobs/{id}/stdout")).expect(200);
    let kept = answer.body.iter().filter(|byte| **byte == 0).count() as u64;
    assert_eq!(kept + dropped, 30_000_000);
    assert!(answer.header("procession-dropped").is_some(), "{:?}", answer.headers);
    assert_eq!(server.run("exit", Value::Null)["exit_code"], 3);
}

/// Every so many syncs of the store fail: the server that met one ends, the next goes on.
#[test]
fn f09_a_disk_that_fails_to_sync_loses_nothing_that_was_acknowledged_heavy() {
    if !command("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let setup = Setup::new(TASKS);
    let log = setup.path().join("strace.log");
    let log = log.to_str().expect("text");
    let fault = "inject=fsync,fdatasync:error=EIO:when=40";
    let setup = setup.under(&[
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-o",
        log,
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        fault,
    ]);
    let mut service = Service::start(setup);
    let mut ids = Vec::new();
    for n in 0..150 {
        let request = Request::submit("exit", &Value::Null).header("Idempotency-Key", format!("key-{n}"));
        ids.push(service.send(&request).job_id());
    }
    for id in &ids {
        let mut job = Value::Null;
        wait_for("a job is over", BOUND, || {
            job = service.send(&Request::get(format!("/v1/jobs/{id}?wait=5"))).expect(200).json();
            !job["outcome"].is_null()
        });
        assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(3), &json!(1)), "{job}");
    }
    let ran = fs::read_to_string(service.path().join("ran")).expect("they ran");
    assert!(ids.iter().all(|id| ran.matches(id.as_str()).count() == 1), "each once");
    let failed = fs::read_to_string(log).expect("a log").matches("EIO").count();
    let ended = service.log().matches("the server exited with 74").count();
    assert!(failed > 0 && ended > 0, "{failed} failures, {ended} ends");
    service.stop();
}

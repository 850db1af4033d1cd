//! What a server does at its keeper's word and at no signal's: retires, takes over with force,
//! ends without its jobs. The keeper is the test's own.

use std::time::{Duration, Instant};

use procession_core::frame::{Shutdown, Started, ToKeeper, ToServer};
use procession_core::launch::Launch;
use procession_core::outcome::CancelledBy;
use procession_core::record::Containment;
use serde_json::{Value, json};

use crate::harness::{BOUND, Child, Client, OwnKeeper, Request, Server, wait_for};

const TASKS: &str = "[task.gone]\ncommand = ['sleep', '600']\n[task.stays]\ncommand = ['true']\n";

fn stopped() -> Server {
    let mut server = Server::start(TASKS);
    assert_eq!(server.stop().code(), Some(0));
    server
}

fn submit(client: &Client, target: &str) -> String {
    client.send(&Request::post(format!("/v1/tasks/{target}"))).expect(202).job_id()
}

fn launched(server: &mut Child) -> Launch {
    server.hear("SPAWN", |frame| match frame {
        ToKeeper::Spawn(launch) => Some(*launch),
        _ => None,
    })
}

fn started(launch: &Launch) -> Started {
    Started {
        key: launch.key,
        pid: 4_000_000,
        start_ticks: 1,
        started_us: now_us(),
        containment: Containment::Cgroup,
        cookie: launch.cookie.clone(),
    }
}

fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_micros() as i64
}

fn job(client: &Client, id: &str) -> Value {
    client.send(&Request::get(format!("/v1/jobs/{id}"))).expect(200).json()
}

#[test]
fn with_force_a_removed_tasks_jobs_are_cancelled_as_that() {
    let server = stopped();
    let mut keeper = OwnKeeper::of(&server);
    let client = keeper.client(&server);
    let mut old = keeper.start(&server, None);
    old.serves(vec![]);
    let waits = submit(&client, "gone/jobs?delay=1h");
    let runs = submit(&client, "gone/jobs");
    let launch = launched(&mut old);
    old.say(&ToServer::Started(started(&launch)));
    wait_for("it runs", BOUND, || job(&client, &runs)["started_at"] != Value::Null);

    server.configure(&TASKS[TASKS.find("[task.stays]").expect("there")..]);
    let mut refused = keeper.start(&server, Some(false));
    let why = refused.hear("REFUSED", |frame| match frame {
        ToKeeper::Refused { message } => Some(message),
        _ => None,
    });
    assert!(why.contains("`gone`") && why.contains("2 unfinished jobs") && why.contains("--force"), "{why}");
    assert_eq!(refused.code(), Some(78));
    assert_eq!(job(&client, &waits)["state"], "scheduled");

    let mut next = keeper.start(&server, Some(true));
    next.says(&ToKeeper::Prepared);
    next.say(&ToServer::Ping);
    next.says(&ToKeeper::Pong);
    old.say(&ToServer::Retire);
    old.says(&ToKeeper::Retired);
    next.say(&ToServer::Proceed);
    next.says(&ToKeeper::List);
    next.say(&ToServer::Attempts { running: vec![started(&launch)], over: vec![], more: false });
    next.says(&ToKeeper::Stop { key: launch.key, by: CancelledBy::TaskRemoved, now: false });
    let cancelled = job(&client, &waits);
    assert_eq!(cancelled["outcome"], json!({"kind": "cancelled", "by": "task_removed"}), "{cancelled}");
    let running = job(&client, &runs);
    assert_eq!(running["state"], "running");
    assert_ne!(running["cancel_requested_at"], Value::Null, "{running}");
    assert_eq!(old.code(), Some(0), "nobody speaks to the old one any more");
}

#[test]
fn f06_a_standby_whose_keeper_goes_away_touches_nothing() {
    let server = stopped();
    let mut keeper = OwnKeeper::of(&server);
    let client = keeper.client(&server);
    let mut old = keeper.start(&server, None);
    old.serves(vec![]);
    let pid = server.server_pid();
    std::fs::write(server.data().join("incoming/half"), "a body").expect("written");
    let mut next = keeper.start(&server, Some(false));
    next.says(&ToKeeper::Prepared);
    next.hang_up();
    assert_eq!(next.code(), Some(0));
    assert_eq!(server.server_pid(), pid);
    assert!(server.data().join("incoming/half").exists());
    submit(&client, "stays/jobs");
    launched(&mut old);
}

#[test]
fn a_stop_that_keeps_jobs_does_not_wait_for_them() {
    let server = stopped();
    let mut keeper = OwnKeeper::of(&server);
    let client = keeper.client(&server);
    let mut serves = keeper.start(&server, None);
    serves.serves(vec![]);
    let id = submit(&client, "gone/jobs");
    let launch = launched(&mut serves);
    serves.say(&ToServer::Started(started(&launch)));
    serves.say(&ToServer::Ping);
    serves.says(&ToKeeper::Pong);
    serves.say(&ToServer::Shutdown(Shutdown { keep_jobs: true, ..Shutdown::default() }));
    serves.hear("GOODBYE without STOP", |frame| match frame {
        ToKeeper::Goodbye { status: 0 } => Some(()),
        ToKeeper::Stop { .. } => panic!("it is to be kept"),
        _ => None,
    });
    assert_eq!(serves.code(), Some(0));
    // The next server finds it running.
    let mut next = keeper.start(&server, None);
    next.serves(vec![started(&launch)]);
    assert_eq!(job(&client, &id)["state"], "running");
}

#[test]
fn a_stop_with_a_timeout_of_its_own_does_not_wait_as_long_as_the_config_says() {
    let server = stopped();
    let mut keeper = OwnKeeper::of(&server);
    let client = keeper.client(&server);
    let mut serves = keeper.start(&server, None);
    serves.serves(vec![]);
    submit(&client, "gone/jobs");
    let launch = launched(&mut serves);
    serves.say(&ToServer::Started(started(&launch)));
    let began = Instant::now();
    serves.say(&ToServer::Shutdown(Shutdown::default()));
    let timeout = Some(Duration::from_millis(300));
    serves.say(&ToServer::Shutdown(Shutdown { timeout, ..Shutdown::default() }));
    serves.says(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Shutdown, now: false });
    let took = began.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

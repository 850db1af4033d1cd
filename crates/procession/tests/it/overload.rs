//! Many more requests than can be run: the queue stays bounded, who is refused is told so at
//! once and when to come again, and as much gets done as without them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Client, Connection, End, Request, Server, wait_for};

/// Twenty slots of 400 ms each: at most 50 jobs a second. What a job costs the machine beside
/// that, also where the load takes most of it, is little to it.
const TASKS: &str = r#"
[limits]
max_running = 20
[task.t]
command = ["sleep", "0.4"]
max_queued = 50
"#;

/// How many jobs are timed under each load: whole rounds of the slots, which end together.
const MEASURED: u64 = 12 * 20;

/// The share of the peak that a burst must leave.
const GOODPUT: f64 = 0.9;

fn finished(server: &Server) -> u64 {
    server.get("/v1/tasks/t").json()["finished"].as_u64().expect("a number")
}

/// Jobs finished a second while `load` runs.
fn goodput(server: &Server, load: impl FnOnce(&AtomicBool) + Send) -> f64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(&over));
        let ends = End(&over);
        // Once it is in its stride.
        let first = finished(server);
        wait_for("the slots are taken", BOUND, || finished(server) >= first + 20);
        let (began, before) = (Instant::now(), finished(server));
        wait_for("enough are done", BOUND, || finished(server) >= before + MEASURED);
        let rate = (finished(server) - before) as f64 / began.elapsed().as_secs_f64();
        drop(ends);
        loading.join().expect("no panic");
        rate
    })
}

/// Keeps all slots busy and the queue short.
fn steady(server: &Server, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let queued = server.get("/v1/tasks/t").json()["queued"].as_u64().expect("a number");
        (queued..25).for_each(|_| drop(server.submit("t", Value::Null)));
    }
}

/// Asks again and again on one connection; returns the slowest refusal.
fn hammer(client: &Client, over: &AtomicBool, refused: &AtomicUsize) -> Duration {
    let request = Request::submit("t", &Value::Null).header("Connection", "keep-alive");
    let mut connection = Connection::open(&client.address);
    let mut slowest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        connection.write(&client.bytes(&request)).expect("the server reads");
        let answer = connection.response().expect("an answer");
        match answer.status {
            202 => {}
            429 => {
                let wait: u64 = answer.header("retry-after").expect("when").parse().expect("seconds");
                assert!((1..=60).contains(&wait), "{wait}");
                assert_eq!(answer.problem().1, "busy");
                refused.fetch_add(1, Ordering::Relaxed);
                slowest = slowest.max(asked.elapsed());
            }
            _ => panic!("{answer:?}"),
        }
    }
    slowest
}

#[test]
fn f25_under_a_burst_over_capacity_as_much_gets_done_and_the_rest_is_refused_at_once_heavy() {
    let server = Server::start(TASKS);
    let peak = goodput(&server, |over| steady(&server, over));
    let refused = AtomicUsize::new(0);
    let mut slowest = Duration::ZERO;
    let mut longest_queue = 0;
    let under_fire = goodput(&server, |over| {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| hammer(&server, over, &refused))).collect();
            while !over.load(Ordering::Relaxed) {
                let task = server.get("/v1/tasks/t").json();
                longest_queue = longest_queue.max(task["queued"].as_u64().expect("a number"));
                assert!(task["running"].as_u64().is_some_and(|running| running <= 20), "{task}");
            }
            slowest = clients.into_iter().map(|one| one.join().expect("no panic")).max().expect("clients");
        });
    });
    let refused = refused.into_inner();
    println!("peak {peak:.1}/s, under fire {under_fire:.1}/s, {refused} refused, slowest {slowest:?}");
    // More than could be run in that time.
    assert!(refused > 500, "it was no burst: {refused}");
    assert!((40..=60).contains(&longest_queue), "{longest_queue}");
    assert!(under_fire >= peak * GOODPUT, "{under_fire} of {peak}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    wait_for("what was taken is run", BOUND, || {
        let task = server.get("/v1/tasks/t").json();
        (&task["queued"], &task["running"]) == (&json!(0), &json!(0))
    });
    assert_eq!(server.get("/v1/tasks/t").json()["failed"], 0);
}

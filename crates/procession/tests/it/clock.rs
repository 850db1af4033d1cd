//! Somebody sets the wall clock while jobs run and wait. Time limits of programs do not look
//! at it; moments (`delay`, `run_at`, `queue_timeout`) are moments by it, and nothing happens
//! twice when it goes back.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, WallClock, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 4
[task.timed]
command = ["sleep", "600"]
timeout = "1500ms"
[task.once]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran']
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done']
max_running = 1
queue_timeout = "30m"
"#;

struct Shifted {
    server: Server,
    clock: WallClock,
}

impl Shifted {
    /// A server whose wall clock this test sets.
    fn start() -> Option<Self> {
        let (setup, clock) = WallClock::of(Setup::new(TASKS))?;
        Some(Self { server: setup.start(), clock })
    }

    /// Seconds from the true time.
    fn set(&self, seconds: i64) {
        self.clock.shift(seconds);
    }

    fn delayed(&self, delay: &str) -> String {
        let target = format!("/v1/tasks/once/jobs?delay={delay}");
        self.server.send(&Request::post(target)).expect(202).job_id()
    }

    fn times_ran(&self, id: &str) -> usize {
        fs::read_to_string(self.server.path().join("ran")).unwrap_or_default().matches(id).count()
    }
}

/// The hour and minute of a moment, in minutes.
fn minute_of(moment: &Value) -> i64 {
    let text = moment.as_str().expect("a moment");
    let field = |at: std::ops::Range<usize>| text[at].parse::<i64>().expect("digits");
    field(11..13) * 60 + field(14..16)
}

/// The same by the true clock.
fn true_minute() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (now.as_secs() / 60 % 1440) as i64
}

#[test]
fn f18_a_clock_that_is_set_ends_no_program_early_or_late_heavy() {
    let Some(shifted) = Shifted::start() else { return };
    let server = &shifted.server;
    for shift in [3_600, -3_600, 0] {
        let id = server.running("timed", Value::Null);
        shifted.set(shift);
        // The shim works: the server lives by another time.
        let other = server.run("once", Value::Null);
        let off = minute_of(&other["finished_at"]) - true_minute() - shift / 60;
        assert!(matches!(off.rem_euclid(1440), 0 | 1 | 1439), "{off} minutes from what was set: {other}");
        let job = server.over(&id);
        assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 1500, "signal": 15}), "{job}");
        let ran = job["run_ms"].as_u64().expect("a duration");
        assert!((1_500..15_000).contains(&ran), "{ran} ms with the clock set by {shift} s");
    }
}

#[test]
fn f18_a_job_that_waits_for_a_moment_waits_for_it_by_the_wall_clock_and_runs_once_heavy() {
    let Some(shifted) = Shifted::start() else { return };
    // An hour passes on the wall.
    let later = shifted.delayed("55m");
    assert_eq!(shifted.server.job(&later)["state"], "scheduled");
    shifted.set(3_600);
    assert_eq!(shifted.server.over(&later)["exit_code"], 0);
    // And back: what is over stays over, what waits waits for its moment to come again.
    shifted.set(0);
    let soon = shifted.delayed("5s");
    shifted.set(-3_600);
    let since = Instant::now();
    wait_for("its delay is long over", BOUND, || since.elapsed() > Duration::from_secs(6));
    assert_eq!(shifted.server.job(&soon)["state"], "scheduled");
    assert_eq!(shifted.server.run("once", Value::Null)["exit_code"], 0, "others are not held up");
    shifted.set(0);
    assert_eq!(shifted.server.over(&soon)["exit_code"], 0);
    assert_eq!((shifted.times_ran(&later), shifted.times_ran(&soon)), (1, 1));
}

#[test]
fn f18_a_queue_timeout_is_a_moment_by_the_wall_clock() {
    let Some(shifted) = Shifted::start() else { return };
    let server = &shifted.server;
    let holds_the_slot = server.running("gate", Value::Null);
    shifted.set(-3_600);
    let expires = server.submit("gate", Value::Null);
    assert_eq!(server.job(&expires)["state"], "queued");
    shifted.set(0);
    let job = server.over(&expires);
    assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "expired"}), "{job}");
    // One that waits when the clock goes back is in no hurry.
    let waits = server.submit("gate", Value::Null);
    shifted.set(-3_600);
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&holds_the_slot)["exit_code"], 0);
    assert_eq!(server.over(&waits)["exit_code"], 0);
}

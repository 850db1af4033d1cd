//! What runs by the clock: at its moment, once, whatever happens to server and clock; what it
//! does when it is late or its job before is not over; paused, resumed and run by hand.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{BOUND, Ran, Request, Server, Setup, WallClock, procession, wait_for, wait_for_some};

/// Finished jobs stay, however far the clock goes. `tick` shows that the server has looked: of
/// what is due it runs last.
const COMMON: &str = r#"
[limits]
max_running = 4
[retention]
finished = "none"
[task.show]
command = ["cat"]
max_running = 2
labels = { night = "{{payload.night:-none}}" }
idempotency_key = "{{payload.night:-none}}"
[task.quick]
command = ["true"]
max_running = 2
[schedule.zz-tick]
task = "quick"
cron = "* * * * *"
"#;

struct Timed {
    server: Server,
    clock: WallClock,
}

impl Timed {
    /// A server with these schedules, whose clock says `moment`.
    fn start(config: &str, moment: &str) -> Option<Self> {
        Self::with(Setup::new(&format!("{COMMON}{config}")), moment)
    }

    fn with(setup: Setup, moment: &str) -> Option<Self> {
        let (setup, clock) = WallClock::of(setup)?;
        clock.set(moment);
        Some(Self { server: setup.start(), clock })
    }

    /// The clock is `moment`, and the server has done what is due then; `moment` is late in its
    /// minute, so that it does not end meanwhile.
    #[track_caller]
    fn at(&self, moment: &str) {
        let before = self.last_job("zz-tick");
        self.clock.set(moment);
        wait_for("the clock was looked at", BOUND, || self.last_job("zz-tick") != before);
    }

    #[track_caller]
    fn schedule(&self, name: &str) -> Value {
        self.server.get(&format!("/v1/schedules/{name}")).expect(200).json()
    }

    #[track_caller]
    fn last_job(&self, name: &str) -> Value {
        self.schedule(name)["last_job"].clone()
    }

    /// The jobs of a schedule, newest first.
    #[track_caller]
    fn jobs(&self, name: &str) -> Vec<Value> {
        let by = json!(format!("schedule:{name}"));
        let mut jobs = self.server.all_jobs("limit=1000");
        jobs.retain(|job| job["submitted_by"] == by);
        jobs
    }

    #[track_caller]
    fn post(&self, path: &str) -> crate::harness::Response {
        self.server.send(&Request::post(format!("/v1/schedules/{path}")))
    }
}

fn id(job: &Value) -> &str {
    job["id"].as_str().expect("an id")
}

#[test]
fn at_its_moment_it_runs_once_with_its_payload() {
    let config = r#"
[schedule.nightly]
task = "show"
cron = "0 3 * * *"
timezone = "Asia/Shanghai"
payload = { night = "one", list = [1, 2.5] }
[schedule.spring]
task = "quick"
cron = "30 2 * * *"
timezone = "Europe/Berlin"
"#;
    let Some(timed) = Timed::start(config, "2027-03-27T18:58:30Z") else { return };
    assert_eq!(
        timed.schedule("nightly"),
        json!({"name": "nightly", "task": "show", "cron": "0 3 * * *", "timezone": "Asia/Shanghai",
            "overlap": "skip", "catch_up": "none", "paused": false,
            "next_run_at": "2027-03-27T19:00:00Z", "last_run_at": null, "last_job": null})
    );
    // In the night in which 2:30 is left out.
    assert_eq!(timed.schedule("spring")["next_run_at"], "2027-03-28T01:00:00Z");
    timed.at("2027-03-27T18:59:20Z");
    assert_eq!(timed.jobs("nightly"), Vec::<Value>::new(), "too early");
    timed.at("2027-03-27T19:00:05Z");
    let jobs = timed.jobs("nightly");
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let job = timed.server.over(id(&jobs[0]));
    assert_eq!(job["labels"], json!({"night": "one"}), "{job}");
    let body = String::from_utf8(timed.server.stdout(id(&job))).expect("text");
    assert_eq!(body, r#"{"list":[1,2.5],"night":"one"}"#);
    let schedule = timed.schedule("nightly");
    assert_eq!(
        (&schedule["last_job"], &schedule["next_run_at"]),
        (&job["id"], &json!("2027-03-28T19:00:00Z"))
    );
    assert!(
        schedule["last_run_at"].as_str().expect("a moment").starts_with("2027-03-27T19:00:"),
        "{schedule}"
    );
    // The next night is another job, though the task makes the same key of the same payload.
    timed.at("2027-03-28T18:59:20Z");
    timed.at("2027-03-28T19:00:05Z");
    assert_eq!(timed.jobs("nightly").len(), 2);
    assert_eq!(timed.jobs("spring").len(), 0, "its time had passed when the clock jumped");
}

#[test]
fn f18_a_clock_that_jumps_makes_no_storm_and_runs_nothing_twice() {
    let config = r#"
[schedule.minutely]
task = "quick"
cron = "* * * * *"
catch_up = "one"
overlap = "queue"
[schedule.hourly]
task = "quick"
cron = "@hourly"
catch_up = "one"
"#;
    let Some(timed) = Timed::start(config, "2027-03-01T02:58:30Z") else { return };
    let runs = |name: &str| timed.jobs(name).len();
    timed.at("2027-03-01T02:59:20Z");
    assert_eq!((runs("minutely"), runs("hourly")), (1, 0));
    // Forward by half a year: one run each.
    timed.at("2027-09-01T12:30:20Z");
    assert_eq!((runs("minutely"), runs("hourly")), (2, 1));
    assert_eq!(timed.schedule("hourly")["next_run_at"], "2027-09-01T13:00:00Z");
    timed.at("2027-09-01T12:31:20Z");
    assert_eq!((runs("minutely"), runs("hourly")), (3, 1));
    // Back: what has run does not run again.
    timed.clock.set("2027-09-01T12:10:20Z");
    for schedule in ["zz-tick/pause", "zz-tick/resume"] {
        timed.post(schedule).expect(200);
    }
    timed.at("2027-09-01T12:11:20Z");
    timed.at("2027-09-01T12:12:20Z");
    assert_eq!((runs("minutely"), runs("hourly")), (3, 1));
    timed.at("2027-09-01T12:32:20Z");
    assert_eq!((runs("minutely"), runs("hourly")), (4, 1));
}

#[test]
fn f18_what_passed_without_a_server_is_caught_up_with_once_or_not_at_all() {
    let config = r#"
[schedule.caught-up]
task = "quick"
cron = "0 3 * * *"
catch_up = "one"
[schedule.let-go]
task = "quick"
cron = "0 3 * * *"
"#;
    let Some(mut timed) = Timed::start(config, "2027-03-01T02:30:30Z") else { return };
    timed.at("2027-03-01T02:31:20Z");
    for (restart, (caught_up, let_go)) in [
        // Three nights, then the whole day: late.
        ("2027-03-04T12:00:20Z", (1, 0)),
        // Nothing was due.
        ("2027-03-04T23:00:20Z", (1, 0)),
        // Within the minute: in time, for both.
        ("2027-03-05T03:00:20Z", (2, 1)),
    ] {
        timed.server.stop();
        timed.clock.set(restart);
        timed.server.start_again();
        wait_for("the clock was looked at", BOUND, || {
            timed.schedule("let-go")["next_run_at"].as_str().is_some_and(|next| next > restart)
                && timed.schedule("caught-up")["next_run_at"].as_str().is_some_and(|next| next > restart)
        });
        assert_eq!(
            (timed.jobs("caught-up").len(), timed.jobs("let-go").len()),
            (caught_up, let_go),
            "{restart}"
        );
    }
    let log = fs::read_to_string(timed.server.data().join("log/procession.log")).expect("a log");
    assert!(log.contains("its time had passed"), "{log}");
}

#[test]
fn f18_a_server_that_dies_as_a_moment_comes_runs_it_once() {
    for point in ["submit.before_commit", "submit.after_commit"] {
        let config = "[schedule.nightly]\ntask = \"quick\"\ncron = \"0 3 * * *\"\ncatch_up = \"one\"\n";
        let setup = Setup::new(&format!("{COMMON}{config}"));
        let comings = setup.path().join("comings");
        fs::create_dir(&comings).expect("made");
        let once = comings.to_str().expect("text").to_owned();
        let setup =
            setup.env("PROCESSION_FAULT", &format!("{point}=abort@1")).env("PROCESSION_FAULT_ONCE", &once);
        let Some(timed) = Timed::with(setup, "2027-03-01T02:58:30Z") else { return };
        let (before, name) = (timed.server.server_pid(), "nightly");
        timed.clock.set("2027-03-01T03:00:05Z");
        wait_for("another server", BOUND, || timed.server.server_pid() != before);
        wait_for("it answers", BOUND, || {
            timed.server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
        });
        let job = wait_for_some("it has run", BOUND, || {
            timed.last_job(name).as_str().map(|job| timed.server.over(job))
        });
        assert_eq!(job["exit_code"], 0);
        timed.at("2027-03-01T03:01:20Z");
        assert_eq!(timed.jobs(name).len(), 1, "{point}");
        assert_eq!(timed.schedule(name)["next_run_at"], "2027-03-02T03:00:00Z", "{point}");
    }
}

const GATE: &str = r#"
[task.gate]
command = ["sh", "-c", 'while [ ! -e go ]; do sleep 0.02; done']
max_running = 1
max_queued = 0
[schedule.queues]
task = "gate"
cron = "* * * * *"
overlap = "queue"
[schedule.skips]
task = "gate"
cron = "* * * * *"
"#;

#[test]
fn what_overlaps_is_skipped_or_queued_and_never_refused_as_busy() {
    let Some(timed) = Timed::start(GATE, "2027-03-01T02:58:30Z") else { return };
    let runs = |name: &str| timed.jobs(name).len();
    timed.at("2027-03-01T02:59:20Z");
    // One slot and no waiting room: a client would be told to come again.
    assert_eq!((runs("queues"), runs("skips")), (1, 1));
    timed.server.send(&Request::submit("gate", &Value::Null)).expect(429);
    timed.at("2027-03-01T03:00:20Z");
    timed.at("2027-03-01T03:01:20Z");
    assert_eq!((runs("queues"), runs("skips")), (3, 1));
    assert_eq!(timed.schedule("skips")["next_run_at"], "2027-03-01T03:02:00Z");
    // By hand the same holds.
    let refused = timed.post("skips/run").expect(409).json();
    assert_eq!(refused["code"], "not_finished", "{refused}");
    assert!(refused["detail"].as_str().expect("text").contains(id(&timed.jobs("skips")[0])), "{refused}");
    timed.post("queues/run").expect(202);
    fs::write(timed.server.path().join("go"), "").expect("written");
    for job in timed.jobs("queues").iter().chain(&timed.jobs("skips")) {
        assert_eq!(timed.server.over(id(job))["exit_code"], 0);
    }
    timed.at("2027-03-01T03:02:20Z");
    assert_eq!((runs("queues"), runs("skips")), (5, 2));
}

#[test]
fn it_can_be_paused_resumed_and_run_by_hand() {
    let config = "[schedule.nightly]\ntask = \"show\"\ncron = \"0 3 * * *\"\ncatch_up = \"one\"\n\
        payload = \"x\"\n";
    let Some(mut timed) = Timed::start(config, "2027-03-01T02:58:30Z") else { return };
    let paused = timed.post("nightly/pause").expect(200).json();
    assert_eq!((&paused["paused"], &paused["next_run_at"]), (&json!(true), &Value::Null), "{paused}");
    timed.at("2027-03-01T03:00:05Z");
    timed.server.stop();
    timed.server.start_again();
    timed.at("2027-03-01T03:01:20Z");
    assert_eq!(timed.jobs("nightly"), Vec::<Value>::new(), "a restart does not end a pause");

    let answer = timed.post("nightly/run").expect(202);
    let job = answer.json();
    assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{}", id(&job)).as_str()));
    assert_eq!((&job["task"], &job["submitted_by"]), (&json!("show"), &json!("schedule:nightly")), "{job}");
    timed.server.over(id(&job));
    assert_eq!(timed.server.stdout(id(&job)), b"\"x\"");
    assert_eq!(timed.last_job("nightly"), job["id"]);

    // What passed in the pause is over, whatever the config says of catching up.
    let resumed = timed.post("nightly/resume").expect(200).json();
    assert_eq!(resumed["next_run_at"], "2027-03-02T03:00:00Z", "{resumed}");
    timed.at("2027-03-01T03:02:20Z");
    assert_eq!(timed.jobs("nightly").len(), 1);
    timed.at("2027-03-02T03:00:05Z");
    assert_eq!(timed.jobs("nightly").len(), 2);

    for path in ["/v1/schedules/other", "/v1/schedules/..%2Ftasks"] {
        assert_eq!(timed.server.get(path).expect(404).json()["code"], "unknown_schedule");
    }
    for verb in ["run", "pause", "resume"] {
        assert_eq!(timed.post(&format!("other/{verb}")).expect(404).json()["code"], "unknown_schedule");
    }
    timed.server.stranger().send(&Request::post("/v1/schedules/nightly/run")).expect(401);
}

#[test]
fn a_reload_keeps_what_is_due_and_takes_what_has_changed() {
    let schedule = |name: &str, cron: &str| {
        format!("[schedule.{name}]\ntask = \"quick\"\ncron = \"{cron}\"\ncatch_up = \"one\"\n")
    };
    let config = format!("{COMMON}{}{}", schedule("kept", "0 3 * * *"), schedule("changed", "0 3 * * *"));
    let Some(timed) = Timed::with(Setup::new(&config), "2027-03-01T02:30:30Z") else { return };
    timed.post("changed/pause").expect(200);
    let config = format!("{COMMON}{}{}", schedule("kept", "0 3 * * *"), schedule("changed", "0 4 * * *"));
    timed.server.configure(&config);
    timed.server.reload();
    assert_eq!(timed.schedule("kept")["next_run_at"], "2027-03-01T03:00:00Z");
    assert_eq!(timed.schedule("changed")["paused"], true);
    assert_eq!(timed.post("changed/resume").expect(200).json()["next_run_at"], "2027-03-01T04:00:00Z");
    // While one server follows the other the moments come as ever, each once.
    for minute in 10..16 {
        let moment = format!("2027-03-01T02:{}:59Z", minute + 29);
        timed.at(&moment);
        timed.server.reload();
    }
    let ticks = timed.jobs("zz-tick");
    let mut minutes: Vec<&str> =
        ticks.iter().map(|job| &job["submitted_at"].as_str().expect("a moment")[..16]).collect();
    minutes.sort_unstable();
    let all = minutes.len();
    minutes.dedup();
    assert_eq!(minutes.len(), all, "two in a minute: {ticks:?}");
    timed.server.configure(&format!("{COMMON}{}", schedule("kept", "0 3 * * *")));
    timed.server.reload();
    timed.server.get("/v1/schedules/changed").expect(404);
    let bad = format!("{COMMON}{}", schedule("kept", "0 25 * * *"));
    timed.server.configure(&bad);
    let refused = timed.server.cli(&["reload"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("value must be in range 0 to 23, not 25"), "{refused:?}");
    assert_eq!(timed.schedule("kept")["cron"], "0 3 * * *", "the config in force stays in force");
}

#[test]
fn the_command_line_lists_runs_pauses_and_resumes() {
    let config = "[schedule.nightly]\ntask = \"quick\"\ncron = \"0 3 * * *\"\ntimezone = \"Asia/Shanghai\"\n";
    let server = Server::start(&format!("{COMMON}{config}"));
    let table = server.cli(&["schedules"]).ok();
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("SCHEDULE ")), "{table}");
    assert!(lines.next().is_some_and(|line| line.contains("0 3 * * *  Asia/Shanghai  in ")), "{table}");
    let json: Value =
        serde_json::from_str(&server.cli(&["schedules", "--output", "json"]).ok()).expect("JSON");
    let names: Vec<&Value> =
        json["items"].as_array().expect("items").iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["nightly", "zz-tick"]);
    let job = server.cli(&["schedules", "run", "nightly"]).ok();
    assert_eq!(server.over(job.trim())["submitted_by"], "schedule:nightly");
    assert_eq!(server.cli(&["schedules", "pause", "nightly"]).ok(), "nightly is paused\n");
    assert!(server.cli(&["schedules"]).ok().contains("paused"));
    let resumed = server.cli(&["schedules", "resume", "nightly"]).ok();
    assert!(resumed.starts_with("nightly runs again: next "), "{resumed}");
    let unknown = server.cli(&["schedules", "run", "other"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("the config has no schedule `other`"), "{unknown:?}");
}

#[test]
fn a_payload_may_be_bytes_and_larger_than_the_store_keeps() {
    let text = "0123456789".repeat(7_000);
    let config = format!(
        "[task.count]\ncommand = [\"wc\", \"-c\"]\nbody = \"bytes\"\nmax_running = 1\n\
         [schedule.large]\ntask = \"count\"\ncron = \"@yearly\"\npayload = \"{text}\"\n\
         [schedule.empty]\ntask = \"count\"\ncron = \"@yearly\"\n"
    );
    let server = Server::start(&config);
    for (name, bytes) in [("large", "70000\n"), ("empty", "0\n")] {
        let job = server.send(&Request::post(format!("/v1/schedules/{name}/run"))).expect(202).job_id();
        server.over(&job);
        assert_eq!(server.stdout(&job), bytes.as_bytes(), "{name}");
    }
}

#[test]
fn a_config_with_a_bad_schedule_is_refused_with_its_line() {
    let setup =
        Setup::new("[task.t]\ncommand = [\"true\"]\n[schedule.s]\ntask = \"t\"\ncron = \"0 3 30 2 *\"\n");
    let refused: Ran = setup.refused().into();
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("`cron` has a day that never comes"), "{refused:?}");
    let checked = Ran::of(procession().arg("check").arg("--config").arg(setup.config()));
    assert_eq!(checked.code, Some(1), "{checked:?}");
}

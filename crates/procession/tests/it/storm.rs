//! The storm: jobs of every kind are submitted over HTTP while the server is killed at random
//! moments, told to read its config again, replaced by another. Then every code and every
//! byte is compared, and nothing may be left.
//!
//! `STORM_JOBS`, `STORM_KILLS`, `STORM_EVENTS` (`kill,hup,usr2`: what happens beside the
//! kills) and `STORM_SEED` say how hard it blows; `scripts/storm` runs a long one. The seed is
//! printed: with it the same jobs come in the same order, and the same events.

mod job;
mod kin;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    BOUND, Client, Connection, Receiver, Request, Response, Says, Server, Setup, at_once, sha256, signal,
    wait_for,
};
use job::{Dice, Job, Kind, PROGRAM, RING};
use kin::Kin;

/// Who submits at once.
const CLIENTS: usize = 4;

/// Within this a killed server has a successor that answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How hard it blows.
struct Strength {
    jobs: usize,
    /// What happens, each so long after the one before.
    events: Vec<(Duration, Event)>,
    seed: u64,
}

/// What befalls the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// `kill -9` of the server, at times of the next one too before it is ready.
    Kill,
    /// The config is read again.
    Hup,
    /// Server and keeper are replaced in place.
    Usr2,
}

fn from_env<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}"))
}

impl Strength {
    fn from_env(jobs: usize, kills: usize, kinds: &str) -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let kinds = std::env::var("STORM_EVENTS").unwrap_or_else(|_| kinds.into());
        let kind = |name: &str| match name {
            "kill" => Event::Kill,
            "hup" => Event::Hup,
            "usr2" => Event::Usr2,
            other => panic!("STORM_EVENTS knows kill, hup and usr2, not {other:?}"),
        };
        let kinds: Vec<Event> = kinds.split(',').map(kind).collect();
        let seed = from_env("STORM_SEED", clock.as_nanos() as u64 % 1_000_000);
        let events = schedule(from_env("STORM_KILLS", kills), &kinds, seed);
        Self { jobs: from_env("STORM_JOBS", jobs), events, seed }
    }
}

/// So many kills, where they are wanted, and after every other one something else.
fn schedule(kills: usize, kinds: &[Event], seed: u64) -> Vec<(Duration, Event)> {
    let mut dice = Dice(seed);
    let others: Vec<Event> = kinds.iter().copied().filter(|kind| *kind != Event::Kill).collect();
    let mut events = Vec::new();
    for _ in 0..kills {
        let mut calm = || Duration::from_millis(100 + dice.below(900));
        if kinds.contains(&Event::Kill) {
            events.push((calm(), Event::Kill));
        }
        let pause = calm();
        if !others.is_empty() && (dice.below(2) == 0 || !kinds.contains(&Event::Kill)) {
            events.push((pause, dice.pick(&others)));
        }
    }
    events
}

/// What is counted while it blows.
#[derive(Default)]
struct Counts {
    events_over: AtomicUsize,
    refused: AtomicUsize,
    /// Connections that ended without their answer.
    broken: AtomicUsize,
    /// Answers that a client is not to get, such as 500.
    failed: Mutex<Vec<String>>,
    answered_after: Mutex<Vec<Duration>>,
    happened: Mutex<BTreeMap<String, usize>>,
}

/// A job that was accepted.
struct Accepted {
    id: String,
    job: Job,
    cancelled: bool,
}

/// One client of the storm: asks until it is answered, on a kept connection or a new one.
struct Sailor<'a> {
    client: &'a Client,
    counts: &'a Counts,
    kept: Option<Connection>,
}

impl Sailor<'_> {
    fn ask(&mut self, request: &Request, keep: bool) -> Response {
        let mut answer = None;
        wait_for("an answer", BOUND, || {
            match self.once(request, keep) {
                Ok(response) => answer = Some(response),
                Err(error) => {
                    // A connection that the dead server held is reset; none is refused.
                    self.kept = None;
                    self.counts.broken.fetch_add(1, Ordering::Relaxed);
                    self.counts.refused.fetch_add(
                        usize::from(error.kind() == ErrorKind::ConnectionRefused),
                        Ordering::Relaxed,
                    );
                }
            }
            answer.as_ref().is_some_and(|answer| answer.status < 500)
                || answer.take().is_some_and(|bad| {
                    self.counts.failed.lock().expect("no panic").push(format!("{bad:?}"));
                    false
                })
        });
        answer.expect("waited for")
    }

    fn once(&mut self, request: &Request, keep: bool) -> io::Result<Response> {
        if !keep {
            return self.client.try_send(request);
        }
        let mut connection = match self.kept.take() {
            Some(connection) => connection,
            None => Connection::try_open(&self.client.address)?,
        };
        connection.write(&self.client.bytes(&request.clone().header("Connection", "keep-alive")))?;
        let answer = connection.response()?;
        self.kept = (answer.header("connection") != Some("close")).then_some(connection);
        Ok(answer)
    }
}

/// Submits this client's share, in step with the events, and cancels some of it.
fn submit(client: &Client, counts: &Counts, jobs: &[Job], lane: usize, strength: &Strength) -> Vec<Accepted> {
    let mut sailor = Sailor { client, counts, kept: None };
    let mut dice = Dice(strength.seed ^ (lane as u64 + 1));
    let mut accepted: Vec<Accepted> = Vec::new();
    for job in jobs.iter().skip(lane).step_by(CLIENTS) {
        // As many jobs between any two events, and some while the first is awaited.
        let due = (job.n * strength.events.len() / strength.jobs).saturating_sub(1);
        wait_for("the storm goes on", BOUND * 4, || counts.events_over.load(Ordering::Relaxed) >= due);
        let request = Request::submit(job.task(), &job.payload())
            .header("Idempotency-Key", format!("{}-{}", strength.seed, job.n));
        let answer = sailor.ask(&request, dice.below(2) == 0);
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        accepted.push(Accepted { id: answer.job_id(), job: *job, cancelled: false });
        if dice.below(3) == 0 {
            let any = dice.below(accepted.len() as u64) as usize;
            cancel(&mut sailor, &mut accepted[any]);
        }
    }
    for accepted in accepted.iter_mut().filter(|accepted| accepted.job.kind == Kind::Endless) {
        cancel(&mut sailor, accepted);
    }
    accepted
}

/// Submits families and jobs of several attempts, one for every ten of the others, in step with the
/// events.
fn submit_kin(client: &Client, counts: &Counts, strength: &Strength) -> Vec<(String, Kin)> {
    let mut sailor = Sailor { client, counts, kept: None };
    let mut dice = Dice(strength.seed.wrapping_mul(77));
    let many = strength.jobs / 10;
    let submit = |n: usize| {
        let due = (n * strength.events.len() / many).saturating_sub(1);
        wait_for("the storm goes on", BOUND * 4, || counts.events_over.load(Ordering::Relaxed) >= due);
        let kin = Kin::deal(&mut dice);
        let request = kin.request().header("Idempotency-Key", format!("kin-{}-{n}", strength.seed));
        let answer = sailor.ask(&request, n.is_multiple_of(2));
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        (answer.job_id(), kin)
    };
    (0..many).map(submit).collect()
}

fn cancel(sailor: &mut Sailor<'_>, accepted: &mut Accepted) {
    if !matches!(accepted.job.kind, Kind::Endless | Kind::Slow) {
        return;
    }
    let answer = sailor.ask(&Request::post(format!("/v1/jobs/{}/cancel", accepted.id)), true);
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    accepted.cancelled = true;
}

/// Lets the events happen, one after another.
fn blow(server: &Server, counts: &Counts, strength: &Strength) {
    let mut dice = Dice(strength.seed);
    for &(calm, event) in &strength.events {
        let since = Instant::now();
        wait_for("the next event", BOUND, || since.elapsed() >= calm);
        let before = server.server_pid();
        match event {
            Event::Kill => {
                signal(before, Signal::KILL);
                if dice.below(5) == 0 {
                    wait_for("another server starts", BOUND, || server.server_pid() != before);
                    signal(server.server_pid(), Signal::KILL);
                }
            }
            Event::Hup => signal(server.keeper_pid(), Signal::HUP),
            Event::Usr2 => {
                signal(server.keeper_pid(), Signal::USR2);
                wait_for("another server takes over", BOUND, || server.server_pid() != before);
            }
        }
        let began = Instant::now();
        let mut sailor = Sailor { client: server, counts, kept: None };
        let answer = sailor.ask(&Request::get("/readyz"), false);
        assert_eq!(answer.status, 200, "{answer:?}");
        if event == Event::Kill {
            counts.answered_after.lock().expect("no panic").push(began.elapsed());
        }
        *counts.happened.lock().expect("no panic").entry(format!("{event:?}")).or_default() += 1;
        counts.events_over.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is wrong with a job; nothing, if all is as it must be.
fn faults_of(server: &Server, accepted: &Accepted) -> Vec<String> {
    let Accepted { id, job: planned, cancelled } = accepted;
    let job = server.over(id);
    let mut faults = Vec::new();
    let mut complain = |what: &str, found: &dyn Display| {
        faults.push(format!("{what} of {planned:?}, job {id}: {found}"));
    };
    let was_cancelled = job["outcome"]["kind"] == "cancelled" && job["outcome"]["by"] == "client";
    let ended_well = job["outcome"] == planned.outcome() && planned.kind != Kind::Endless;
    if !(ended_well || (*cancelled && was_cancelled)) || job["attempt"].as_u64() > Some(1) {
        complain("code", &job);
    }
    // What was ended from outside had written a part of it.
    let whole = ended_well && planned.kind != Kind::Timed;
    for (stream, expected) in [("stdout", planned.stdout()), ("stderr", planned.stderr())] {
        let answer = server.get(&format!("/v1/jobs/{id}/{stream}"));
        if answer.status != 200 || !is_as_written(&answer, &expected, whole, planned.kind) {
            complain("bytes", &format!("{stream}: {} of {} bytes", answer.body.len(), expected.len()));
        }
    }
    for (path, expected) in planned.left().into_iter().filter(|_| ended_well) {
        let answer = server.get(&format!("/v1/jobs/{id}/{path}"));
        if answer.status != 200 || sha256(&answer.body) != sha256(&expected) {
            complain("bytes", &format!("{path}: {} of {} bytes", answer.body.len(), expected.len()));
        }
    }
    faults
}

/// Head and tail and the count of the middle where more was written than is kept.
fn is_as_written(answer: &Response, expected: &[u8], whole: bool, kind: Kind) -> bool {
    let Some(dropped) = answer.header("procession-dropped") else {
        let kept_all = kind != Kind::Ring || expected.len() <= RING;
        return match whole {
            true => kept_all && sha256(&answer.body) == sha256(expected),
            false => expected.starts_with(&answer.body),
        };
    };
    let parsed =
        dropped.split_once('+').and_then(|(at, length)| Some((at.parse().ok()?, length.parse().ok()?)));
    let Some((at, length)): Option<(usize, usize)> = parsed else { return false };
    let Some(tail) = expected.get(at + length..) else { return false };
    let kept = at + tail.len() == RING && kind == Kind::Ring;
    kept && answer.body.get(..at) == expected.get(..at) && answer.body.ends_with(tail)
}

/// How often each said that it ran, in this file.
fn times_ran(server: &Server, file: &str) -> BTreeMap<String, usize> {
    let ran = fs::read_to_string(server.path().join(file)).unwrap_or_default();
    let mut times = BTreeMap::new();
    ran.lines().for_each(|who| *times.entry(who.to_owned()).or_default() += 1);
    times
}

/// How often each job said that it ran, against how often it may have.
fn ran_wrongly(server: &Server, accepted: &[Accepted]) -> Vec<String> {
    let times = times_ran(server, "ran");
    let wrong = |accepted: &&Accepted| {
        let times = times.get(accepted.id.as_str()).copied().unwrap_or_default();
        times > 1 || (times == 0 && !accepted.cancelled)
    };
    accepted.iter().filter(wrong).map(|accepted| format!("{} of {:?}", accepted.id, accepted.job)).collect()
}

/// Files in scratch folders, half-arrived bodies, and the folder of cgroups.
fn left_behind(server: &Server) -> Vec<String> {
    let below = |folder: &str| fs::read_dir(server.data().join(folder)).expect("readable").flatten();
    let mut left: Vec<_> = below("incoming").map(|entry| entry.path()).collect();
    for scratch in below("scratch") {
        let inside = fs::read_dir(scratch.path()).expect("readable").flatten().map(|entry| entry.path());
        let full = |path: &std::path::PathBuf| {
            !path.ends_with("artifacts") || fs::read_dir(path).map_or(0, Iterator::count) > 0
        };
        left.extend(inside.filter(full));
    }
    let label = &sha256(server.data().as_os_str().as_encoded_bytes())[..12];
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
    let cgroups =
        mounts.lines().filter(|line| line.contains(" - cgroup2 ")).filter_map(|line| line.split(' ').nth(4));
    left.extend(
        cgroups
            .map(|mount| format!("{mount}/procession-{label}").into())
            .filter(|path: &std::path::PathBuf| path.exists()),
    );
    left.into_iter().map(|path| path.display().to_string()).collect()
}

/// Runs a storm and fails with all that went wrong in it.
fn storm(strength: &Strength) {
    let kills = strength.events.iter().filter(|(_, event)| *event == Event::Kill).count();
    println!("storm: STORM_JOBS={} STORM_KILLS={kills} STORM_SEED={}", strength.jobs, strength.seed);
    // It fails now and then, as receivers do.
    let receiver = Receiver::start().says(&[Says::Status(500, ""), Says::HangsUp]);
    let config = format!("{}{}", job::config(), kin::tasks(&receiver.url("/ended")));
    let mut server = Setup::new(&config).file("job.sh", PROGRAM).start();
    // Once a job has run the keeper has heard that the server is ready, and starts another.
    server.run("plain", json!({"n": 0, "lines": 1, "errors": 0, "code": 0}));
    let mut dice = Dice(strength.seed.wrapping_mul(31));
    let jobs: Vec<Job> = (0..strength.jobs).map(|n| Job::deal(n, &mut dice)).collect();
    let counts = Counts::default();
    let began = Instant::now();
    let (accepted, kin): (Vec<Accepted>, Vec<(String, Kin)>) = std::thread::scope(|scope| {
        let events = scope.spawn(|| blow(&server, &counts, strength));
        let kin = scope.spawn(|| submit_kin(&server, &counts, strength));
        let lanes = at_once(CLIENTS, |lane| submit(&server, &counts, &jobs, lane, strength));
        events.join().expect("the events happened");
        (lanes.into_iter().flatten().collect(), kin.join().expect("they were submitted"))
    });
    for id in accepted.iter().map(|accepted| &accepted.id).chain(kin.iter().map(|(id, _)| id)) {
        server.over(id);
    }
    let blew = began.elapsed();
    wait_for("no process of a job is left", BOUND, || server.processes().is_empty());
    assert_eq!(server.stop().code(), Some(0));
    let left = left_behind(&server);
    let ran = ran_wrongly(&server, &accepted);
    // What is found now was on the disk.
    server.start_again();
    let mut faults: Vec<String> = at_once(CLIENTS, |lane| {
        accepted
            .iter()
            .skip(lane)
            .step_by(CLIENTS)
            .flat_map(|one| faults_of(&server, one))
            .collect::<Vec<_>>()
    })
    .concat();
    let times = times_ran(&server, "kin");
    faults.extend(kin.iter().flat_map(|(id, kin)| kin.faults(&server, id, &times)));
    let told = kin::told_wrongly(&server, &receiver, &kin);
    let kept = server.all_jobs("limit=200").len();
    let below: usize = kin.iter().map(|(_, kin)| kin.jobs()).sum();
    let missing = (strength.jobs + 1 + below).abs_diff(kept);
    let answers = counts.answered_after.into_inner().expect("no panic");
    let worst = answers.iter().max().copied().unwrap_or_default();
    let failed = counts.failed.into_inner().expect("no panic");
    let of = |what: &str| faults.iter().filter(|fault| fault.starts_with(what)).count();
    let broken = counts.broken.into_inner();
    let rows: [(&str, &dyn Display); 16] = [
        ("jobs accepted", &accepted.len()),
        ("families, retries and theirs", &below),
        ("events", &format!("{:?}", counts.happened.into_inner().expect("no panic"))),
        ("took", &format!("{:.1} s", blew.as_secs_f64())),
        ("jobs missing or too many", &missing),
        ("wrong codes", &of("code")),
        ("wrong bytes", &of("bytes")),
        ("connections refused", &counts.refused.load(Ordering::Relaxed)),
        ("answers that never came", &broken),
        ("answers of 5xx", &failed.len()),
        ("ran twice, or never", &ran.len()),
        ("callbacks", &receiver.calls().len()),
        ("told wrongly, or never", &told.len()),
        ("left behind", &left.len()),
        ("slowest answer after a kill", &format!("{} ms", worst.as_millis())),
        ("kills answered later than 1 s", &answers.iter().filter(|took| **took >= ANSWERS_WITHIN).count()),
    ];
    for (what, count) in rows {
        println!("storm: {what:<30} {count:>8}");
    }
    assert_eq!((faults, failed, ran, told, left), Default::default(), "seed {}", strength.seed);
    assert_eq!((missing, counts.refused.into_inner()), (0, 0), "seed {}", strength.seed);
    // What a dead server was asked for is asked again; a living one answers everything.
    assert!(kills > 0 || broken == 0, "{broken}, seed {}", strength.seed);
    assert!(worst < ANSWERS_WITHIN, "{worst:?}, seed {}", strength.seed);
}

#[test]
fn f01_in_a_storm_of_kills_no_job_no_code_and_no_byte_is_lost_heavy() {
    storm(&Strength::from_env(400, 12, "kill,hup,usr2"));
}

#[test]
fn f05_in_a_storm_of_reloads_and_upgrades_no_request_fails_heavy() {
    let strength = Strength::from_env(200, 8, "hup,usr2");
    let only_asked_for = |event: &&(Duration, Event)| event.1 != Event::Kill;
    let events = strength.events.iter().filter(only_asked_for).copied().collect();
    storm(&Strength { events, ..strength });
}

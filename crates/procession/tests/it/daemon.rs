//! The server as a daemon: started, asked how it is, stopped, by the command line.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getsid, kill_process};
use serde_json::{Value, json};

use crate::harness::{
    BOUND, Daemon, Process, Ran, Request, Server, Setup, command, is_alive, kill, procession, signal,
    wait_for, wait_for_some,
};

const TASKS: &str = r#"
[task.gate]
command = ["sh", "-c", 'echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 3']
[task.quick]
command = ["sh", "-c", 'echo quick']
"#;

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id")).expect("not 0")
}

fn leads_to(process: u32, descriptor: u32) -> PathBuf {
    fs::read_link(format!("/proc/{process}/fd/{descriptor}")).expect("open")
}

/// A verb that is not waited for.
struct Verb {
    process: Process,
    said: PathBuf,
}

impl Verb {
    fn begin(folder: &Path, args: &[&str]) -> Self {
        let said = folder.join("verb.log");
        let log = fs::File::create(&said).expect("made");
        let mut verb = procession();
        verb.args(args).arg("--config").arg(folder.join("procession.toml")).stderr(log);
        Self { process: Process(verb.spawn().expect("it starts")), said }
    }

    #[track_caller]
    fn says(&self, what: &str) {
        wait_for(&format!("it says {what:?}"), BOUND, || {
            fs::read_to_string(&self.said).is_ok_and(|said| said.contains(what))
        });
    }

    #[track_caller]
    fn code(mut self) -> Option<i32> {
        wait_for_some("it ends", BOUND, || self.process.0.try_wait().expect("a child")).code()
    }
}

fn status(daemon: &Daemon, code: i32) -> Value {
    let ran = daemon.cli(&["status", "--output", "json"]);
    assert_eq!(ran.code, Some(code), "{ran:?}");
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn a_daemon_answers_when_its_start_returns_and_has_nothing_of_its_caller() {
    let mut daemon = Daemon::start(Setup::new(TASKS));
    assert_eq!(daemon.get("/readyz").status, 200, "at once");
    let (keeper, server) = (daemon.pid("pid"), daemon.pid("server.pid"));
    let listen = fs::read_to_string(daemon.data().join("listen")).expect("readable");
    let said = format!("listening on http://{}\nrunning as process {keeper}\n", listen.trim());
    assert_eq!((daemon.said.stdout.clone(), daemon.said.stderr.as_str()), (said, ""));
    assert_eq!(getsid(Some(pid(keeper))).expect("it lives"), pid(keeper), "a session of its own");
    let log = daemon.data().join("log/stderr.log");
    for process in [keeper, server] {
        assert_eq!(leads_to(process, 0), PathBuf::from("/dev/null"));
        wait_for("its output goes to the log", BOUND, || {
            leads_to(process, 1) == log && leads_to(process, 2) == log
        });
    }
    assert_eq!(daemon.run("quick", Value::Null)["exit_code"], 0);
    // Whoever rotates logs moves the file away.
    fs::rename(&log, daemon.path().join("moved")).expect("moved");
    kill_process(pid(keeper), Signal::USR1).expect("it lives");
    wait_for("a new log", BOUND, || leads_to(keeper, 2) == log);

    let stopped = daemon.cli(&["stop"]);
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(0), "stopped\n"));
    assert!(!is_alive(keeper) && !is_alive(server));
    for file in ["listen", "pid", "server.pid", "keeper/control"] {
        assert!(!daemon.data().join(file).exists(), "{file}");
    }
    daemon.start_again();
    assert_eq!(daemon.get("/readyz").status, 200);
    assert_ne!(daemon.pid("pid"), keeper);
}

#[test]
fn what_keeps_a_daemon_from_starting_is_told_to_its_caller() {
    let refused = |setup: &Setup, code: i32, word: &str| {
        let ran = Ran::from(setup.refused());
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.contains(word), "{word} in {ran:?}");
        assert_eq!(ran.stdout, "");
    };
    refused(&Setup::new("[task.t]\ncomand = ['true']\n").arg("--daemon"), 78, "comand");

    let server = Server::start(TASKS);
    let data = server.data().display().to_string();
    let config = format!("[server]\nlisten = ['127.0.0.1:0']\ndata_dir = '{data}'\n{TASKS}");
    refused(&Setup::new(&config).arg("--daemon"), 75, &server.keeper_pid().to_string());

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let config = format!("[server]\nlisten = ['{address}']\ndata_dir = 'data'\n{TASKS}");
    refused(&Setup::new(&config).arg("--daemon"), 1, &address.to_string());

    // The server itself, which only the keeper sees.
    let setup = Setup::new(TASKS).arg("--daemon");
    fs::create_dir(setup.path().join("data")).expect("new");
    fs::write(setup.path().join("data/procession.db"), vec![b'x'; 8192]).expect("written");
    refused(&setup, 78, "procession.db");
    assert!(!setup.path().join("data/pid").exists(), "and nothing is left running");
}

#[test]
fn status_says_how_it_is() {
    let mut daemon = Daemon::start(Setup::new(TASKS));
    let id = daemon.running("gate", Value::Null);
    let said = status(&daemon, 0);
    assert_eq!((&said["state"], &said["ready"]), (&json!("ready"), &json!(true)));
    assert_eq!(said["keeper_pid"], daemon.pid("pid"));
    assert_eq!(said["server_pid"], daemon.pid("server.pid"));
    assert_eq!((&said["running"], &said["queued"], &said["attempts"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    assert!(said["uptime_ms"].as_u64().expect("a time") < 60_000, "{said}");
    let listen = fs::read_to_string(daemon.data().join("listen")).expect("readable");
    assert_eq!(said["listeners"], json!([listen.trim()]));
    let shown = daemon.cli(&["status"]).ok();
    for word in ["ready", &daemon.pid("pid").to_string(), listen.trim(), "1 running"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    // A config that is broken by now hides nothing.
    let config = daemon.path().join("procession.toml");
    let good = fs::read_to_string(&config).expect("readable");
    fs::write(&config, format!("{good}\n[task.x\ncomand = 1")).expect("written");
    assert_eq!(status(&daemon, 0)["state"], "ready");
    // What waits for its jobs is not ready.
    kill_process(pid(daemon.pid("pid")), Signal::TERM).expect("it lives");
    wait_for("it stops", BOUND, || daemon.get("/readyz").status == 503);
    let said = status(&daemon, 4);
    assert_eq!((&said["state"], &said["stopping"]), (&json!("stopping"), &json!(true)));
    let stopped = daemon.cli(&["stop", "--now"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(status(&daemon, 3)["state"], "stopped");
    let stopped = daemon.cli(&["stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(stopped.stdout.contains("nothing runs"), "{stopped:?}");
    fs::write(&config, good).expect("written");
    daemon.start_again();
    assert_eq!(daemon.over(&id)["outcome"]["by"], "shutdown");
}

#[test]
fn a_stop_waits_for_what_runs_and_says_so() {
    let daemon = Daemon::start(Setup::new(TASKS));
    daemon.running("gate", Value::Null);
    let (folder, data) = (daemon.path().to_owned(), daemon.data());
    let stopped = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| daemon.cli(&["stop", "--timeout", "60s"]));
        wait_for("it drains", BOUND, || daemon.get("/readyz").status == 503);
        assert!(!stopping.is_finished() && data.join("pid").exists());
        wait_for("it has explained itself", BOUND, || {
            fs::write(folder.join("go"), "").expect("written");
            stopping.is_finished()
        });
        stopping.join().expect("no panic")
    });
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(0), "stopped\n"), "{stopped:?}");
}

#[test]
fn f45_p24_a_lock_that_names_somebody_else_harms_nobody() {
    let daemon = Daemon::start(Setup::new(TASKS));
    let bystander = Process(command("sleep").arg("600").spawn().expect("it starts"));
    let lock = daemon.data().join("LOCK");
    let true_name = fs::read_to_string(&lock).expect("readable");
    let number = daemon.pid("pid").to_string();
    // The keeper's socket is away too: nothing but the lock's word is left.
    let (socket, away) = (daemon.data().join("keeper/control"), daemon.path().join("away"));
    fs::rename(&socket, &away).expect("moved");
    fs::write(&lock, true_name.replacen(&number, &bystander.0.id().to_string(), 1)).expect("written");
    let stopped = daemon.cli(&["stop", "--now"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(is_alive(bystander.0.id()) && is_alive(daemon.pid("pid")));
    let said = daemon.cli(&["status"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    fs::write(&lock, true_name).expect("written");
    fs::rename(&away, &socket).expect("moved back");
    assert_eq!(daemon.cli(&["status"]).code, Some(0));
}

#[test]
fn a_stop_without_a_control_socket_goes_by_the_lock() {
    let daemon = Daemon::start(Setup::new(TASKS));
    let keeper = daemon.pid("pid");
    fs::remove_file(daemon.data().join("keeper/control")).expect("removed");
    let refused = daemon.cli(&["stop", "--keep-jobs"]);
    assert_eq!(refused.code, Some(1), "a signal cannot say that: {refused:?}");
    assert!(is_alive(keeper));
    let stopped = daemon.cli(&["stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(!is_alive(keeper));
}

#[test]
fn a_server_that_hangs_is_not_called_ready_and_a_reload_replaces_it() {
    let daemon = Daemon::start(Setup::new(TASKS));
    let id = daemon.running("gate", Value::Null);
    let hanging = daemon.pid("server.pid");
    signal(hanging, Signal::STOP);
    assert_eq!(status(&daemon, 4)["state"], "hanging");
    let reloaded = daemon.cli(&["reload"]);
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert_eq!(status(&daemon, 0)["state"], "ready");
    assert!(!is_alive(hanging));
    fs::write(daemon.path().join("go"), "").expect("written");
    assert_eq!(daemon.over(&id)["exit_code"], 3);
}

#[test]
fn f40_a_stop_now_without_a_control_socket_does_not_wait_for_what_runs() {
    let config =
        format!("[server]\nlisten = ['127.0.0.1:0']\ndata_dir = 'data'\nstop_timeout = '600s'\n{TASKS}");
    let mut daemon = Daemon::start(Setup::new(&config));
    let id = daemon.running("gate", Value::Null);
    fs::remove_file(daemon.data().join("keeper/control")).expect("removed");
    let stopped = daemon.cli(&["stop", "--now"]);
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(0), "stopped\n"), "{stopped:?}");
    assert!(!stopped.stderr.contains("too long"), "it was asked for what was meant: {stopped:?}");
    daemon.start_again();
    assert_eq!(daemon.over(&id)["outcome"], json!({"kind": "cancelled", "by": "shutdown", "signal": 15}));
}

#[test]
fn f40_a_stop_that_is_heard_late_ends_nothing_early() {
    let mut daemon = Daemon::start(Setup::new(TASKS));
    let id = daemon.running("gate", Value::Null);
    let keeper = daemon.pid("pid");
    signal(keeper, Signal::STOP);
    let stop = Verb::begin(daemon.path(), &["stop", "--timeout", "60s"]);
    stop.says("slow to answer");
    signal(keeper, Signal::CONT);
    wait_for("it drains", BOUND, || daemon.get("/readyz").status == 503);
    assert_eq!(daemon.job(&id)["state"], "running");
    fs::write(daemon.path().join("go"), "").expect("written");
    assert_eq!(stop.code(), Some(0));
    daemon.start_again();
    assert_eq!(daemon.over(&id)["outcome"], json!({"kind": "exited", "code": 3}), "nobody ended it");
}

/// The server of a keeper that was killed may finish what ran; here it is stopped, and thereby
/// takes as long as the test wants.
#[test]
fn f02_f12_whoever_comes_while_the_server_of_a_killed_keeper_ends_waits_for_it() {
    let mut server = Server::start(TASKS);
    let orphan = |server: &Server| {
        let left = server.server_pid();
        signal(left, Signal::STOP);
        kill(server.keeper_pid());
        wait_for("the keeper is gone", BOUND, || !is_alive(server.keeper_pid()));
        left
    };
    let left = orphan(&server);
    let said = server.cli(&["status"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stdout.contains("orphaned") && said.stdout.contains("its server finishes"), "{said:?}");
    let refused = server.cli(&["reload"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("not reloaded"), "{refused:?}");
    assert_eq!(server.cli(&["stop", "--keep-jobs"]).code, Some(1));
    let stop = Verb::begin(server.path(), &["stop"]);
    stop.says("waiting for the server it left");
    signal(left, Signal::CONT);
    assert_eq!(stop.code(), Some(0));
    assert_eq!(server.cli(&["status"]).code, Some(3));

    server.start_again();
    let left = orphan(&server);
    let log = server.path().join("serve.log");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let waits = "waiting for the server it left";
            wait_for("serve says so", BOUND, || {
                fs::read_to_string(&log).is_ok_and(|log| log.contains(waits))
            });
            signal(left, Signal::CONT);
        });
        server.take_over();
    });
    assert_eq!(server.log().matches("waiting for").count(), 1, "{}", server.log());
    assert_eq!(server.run("quick", Value::Null)["exit_code"], 0);
    // One whose keeper lives is refused at once, and named.
    let began = Instant::now();
    let second = server.cli(&["serve"]);
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(second.stderr.contains(&server.keeper_pid().to_string()), "{second:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "it did not wait for it");
}

#[test]
fn f02_a_stop_that_comes_before_a_server_takes_its_keepers_place_ends_that_too() {
    let server = Setup::new(TASKS).env("PROCESSION_ON_KEEPER_DEATH", "serve").start();
    let left = server.server_pid();
    signal(left, Signal::STOP);
    kill(server.keeper_pid());
    wait_for("the keeper is gone", BOUND, || !is_alive(server.keeper_pid()));
    let stop = Verb::begin(server.path(), &["stop"]);
    stop.says("waiting for the server it left");
    signal(left, Signal::CONT);
    assert_eq!(stop.code(), Some(0));
    assert!(!is_alive(left));
    assert_eq!(server.cli(&["status"]).code, Some(3));
}

#[test]
fn f45_what_a_killed_keeper_left_behind_does_not_hinder_the_next() {
    let mut server = Server::start(TASKS);
    let (keeper, data) = (server.keeper_pid(), server.data());
    let left = fs::read_to_string(data.join("LOCK")).expect("readable");
    server.crash();
    assert!(data.join("keeper/control").exists());
    let said = server.cli(&["status"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert_eq!(server.cli(&["stop"]).code, Some(0));
    assert_eq!(server.cli(&["reload"]).code, Some(1));
    // Not even a program that listens there now is taken for a keeper.
    fs::remove_file(data.join("keeper/control")).expect("removed");
    let _other = UnixListener::bind(data.join("keeper/control")).expect("bound");
    assert_eq!(server.cli(&["status"]).code, Some(3));
    server.start_again();
    assert_ne!(server.keeper_pid(), keeper);
    assert_ne!(fs::read_to_string(data.join("LOCK")).expect("readable"), left);
    assert_eq!(server.cli(&["status"]).code, Some(0));
}

#[test]
fn what_runs_is_kept_over_a_stop_and_taken_over_by_the_next_serve() {
    for setup in [Setup::new(TASKS), Setup::new(TASKS).monitor()] {
        let mut daemon = Daemon::start(setup);
        let keeper = daemon.pid("pid");
        let id = daemon.running("gate", Value::Null);
        let quick = daemon.run("quick", Value::Null);
        let stopped = daemon.cli(&["stop", "--keep-jobs"]);
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        assert!(stopped.stdout.contains("1 running job"), "{stopped:?}");
        assert!(daemon.try_send(&Request::get("/readyz")).is_err(), "nobody listens");
        let said = status(&daemon, 4);
        assert_eq!((&said["state"], &said["attempts"]), (&json!("alone"), &json!(1)));
        assert_eq!(said["listeners"], json!([]));
        assert_eq!(daemon.cli(&["stop", "--keep-jobs"]).code, Some(0), "again is the same");
        daemon.start_again();
        assert_eq!(daemon.pid("pid"), keeper, "the keeper is the same");
        assert_eq!(status(&daemon, 0)["generation"], 2);
        assert_eq!(daemon.job(&id)["state"], "running");
        fs::write(daemon.path().join("go"), "").expect("written");
        let job = daemon.over(&id);
        assert_eq!(
            (&job["outcome"], &job["attempt"]),
            (&json!({"kind": "exited", "code": 3}), &json!(1)),
            "{job}"
        );
        assert_eq!(daemon.stdout(&id), b"before\nafter\n");
        assert_eq!(daemon.job(quick["id"].as_str().expect("an id")), quick);
    }
}

#[test]
fn a_serve_that_takes_over_stands_where_the_keeper_would() {
    let mut server = Server::start(TASKS);
    let id = server.running("gate", Value::Null);
    assert_eq!(server.cli(&["stop", "--keep-jobs"]).code, Some(0));
    let keeper = server.keeper_pid();
    server.take_over();
    assert_ne!(server.keeper_pid(), keeper, "another process stands for it");
    assert_eq!(server.get("/readyz").status, 200);
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&id)["exit_code"], 3);
    // A signal to the one is a signal to the other, and the end of the other its own.
    assert_eq!(server.stop().code(), Some(0));
    wait_for("the keeper has ended", BOUND, || !is_alive(keeper));
}

#[test]
fn what_ends_while_the_keeper_is_alone_is_known_to_the_next_server() {
    let mut daemon = Daemon::start(Setup::new(TASKS));
    let keeper = daemon.pid("pid");
    let id = daemon.running("gate", Value::Null);
    assert_eq!(daemon.cli(&["stop", "--keep-jobs"]).code, Some(0));
    fs::write(daemon.path().join("go"), "").expect("written");
    wait_for("the keeper ends with its last job", BOUND, || !is_alive(keeper));
    assert_eq!(daemon.cli(&["status"]).code, Some(3));
    daemon.start_again();
    let job = daemon.over(&id);
    assert_eq!((&job["exit_code"], &job["attempt"]), (&json!(3), &json!(1)));
    assert_eq!(daemon.stdout(&id), b"before\nafter\n");
}

#[test]
fn a_stop_ends_what_a_lonely_keeper_waits_for_in_bounded_time() {
    let mut daemon = Daemon::start(Setup::new(TASKS));
    let id = daemon.running("gate", Value::Null);
    assert_eq!(daemon.cli(&["stop", "--keep-jobs"]).code, Some(0));
    let began = Instant::now();
    let stopped = daemon.cli(&["stop", "--timeout", "1s"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&began.elapsed()), "{stopped:?}");
    daemon.start_again();
    assert_eq!(daemon.over(&id)["outcome"], json!({"kind": "cancelled", "by": "shutdown", "signal": 15}));
}

#[test]
fn f40_term_during_startup_ends_it_with_the_right_code_heavy() {
    let setup = Setup::new(TASKS);
    for round in 0..25u64 {
        let delay = Duration::from_micros(round * 1_500);
        let mut child = setup.spawn();
        let began = Instant::now();
        while began.elapsed() < delay {
            std::hint::spin_loop();
        }
        kill_process(pid(child.id()), Signal::TERM).expect("it lives or is not reaped");
        let mut status = None;
        wait_for("it ends", BOUND, || {
            status = child.try_wait().expect("a child of ours");
            status.is_some()
        });
        let status = status.expect("just seen");
        // Before it listens to signals the default ends it; then it says 128 + 15 itself, until a
        // server is there to end in order.
        use std::os::unix::process::ExitStatusExt;
        let right = status.signal() == Some(15) || matches!(status.code(), Some(0 | 143));
        let said = || fs::read_to_string(setup.path().join("serve.log")).unwrap_or_default();
        assert!(right, "round {round}: {status:?}: {}", said());
    }
    // And nothing of all these is in the way.
    fs::remove_file(setup.path().join("serve.log")).expect("what they said");
    assert_eq!(setup.start().run("quick", Value::Null)["exit_code"], 0);
}

#[test]
fn f40_term_during_an_accept_storm_is_a_clean_end_heavy() {
    let mut server = Server::start(TASKS);
    let id = server.running("gate", Value::Null);
    let client = (*server).clone();
    let (answered, refused) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut answered, mut refused) = (0, 0);
                    while let Ok(answer) = client.try_send(&Request::get("/readyz")) {
                        match answer.status {
                            200 => answered += 1,
                            503 => refused += 1,
                            other => panic!("{other}"),
                        }
                    }
                    (answered, refused)
                })
            })
            .collect();
        wait_for("it is busy", BOUND, || server.get("/v1/stats").json()["connections"].as_u64() > Some(1));
        server.terminate();
        wait_for("it drains", BOUND, || server.get("/readyz").status == 503);
        assert_eq!(server.job(&id)["state"], "running");
        fs::write(server.path().join("go"), "").expect("written");
        assert_eq!(server.ended().code(), Some(0));
        let counts = clients.into_iter().map(|client| client.join().expect("no panic"));
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    assert!(answered > 0 && refused > 0, "{answered} {refused}");
    server.start_again();
    assert_eq!(server.job(&id)["exit_code"], 3);
}

#[test]
fn a_daemon_whose_server_is_killed_goes_on() {
    let daemon = Daemon::start(Setup::new(TASKS));
    let before = daemon.pid("server.pid");
    kill(before);
    wait_for("another server", BOUND, || {
        daemon.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
            && daemon.pid("server.pid") != before
    });
    wait_for("the keeper has heard so", BOUND, || daemon.cli(&["status"]).code == Some(0));
    let log = fs::read_to_string(daemon.data().join("log/stderr.log")).expect("readable");
    assert!(log.contains("ended by signal 9"), "{log}");
}

#[test]
fn a_daemon_is_the_same_after_an_upgrade() {
    let daemon = Daemon::start(Setup::new(TASKS));
    let keeper = daemon.pid("pid");
    let id = daemon.running("gate", Value::Null);
    let upgraded = daemon.cli(&["reload", "--binary"]);
    assert_eq!((upgraded.code, upgraded.stdout.as_str()), (Some(0), "reloaded\n"), "{upgraded:?}");
    let said = status(&daemon, 0);
    assert_eq!((&said["keeper_pid"], &said["generation"]), (&json!(keeper), &json!(2)));
    assert!(said["last_reload"]["at"].is_string() && said["last_reload"]["error"].is_null(), "{said}");
    // The lock is as held as before, and names the same process.
    let config = daemon.path().join("procession.toml");
    let second = Ran::of(crate::harness::procession().arg("serve").arg("--config").arg(config));
    assert_eq!(second.code, Some(75), "{second:?}");
    let log = daemon.data().join("log/stderr.log");
    wait_for("its output goes to the log still", BOUND, || leads_to(keeper, 2) == log);
    fs::rename(&log, daemon.path().join("moved")).expect("moved");
    wait_for("a new log", BOUND, || {
        kill_process(pid(keeper), Signal::USR1).expect("it lives");
        leads_to(keeper, 2) == log
    });
    fs::write(daemon.path().join("go"), "").expect("written");
    assert_eq!(daemon.over(&id)["exit_code"], 3);
    let stopped = daemon.cli(&["stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(!is_alive(keeper));
}

#[test]
fn who_stands_in_for_a_keeper_does_so_after_an_upgrade() {
    let mut server = Server::start(TASKS);
    let id = server.running("gate", Value::Null);
    assert_eq!(server.cli(&["stop", "--keep-jobs"]).code, Some(0));
    let keeper = server.keeper_pid();
    server.take_over();
    assert_eq!(server.cli(&["reload", "--binary"]).code, Some(0));
    fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&id)["exit_code"], 3);
    assert_eq!(server.stop().code(), Some(0));
    wait_for("the keeper has ended", BOUND, || !is_alive(keeper));
}

#[test]
fn a_reload_that_is_refused_says_everything_to_who_asked_and_to_who_asks_later() {
    let daemon = Daemon::start(Setup::new(TASKS));
    let config = daemon.path().join("procession.toml");
    let good = fs::read_to_string(&config).expect("readable");
    fs::write(&config, format!("{good}\n[task.x]\ncomand = ['true']\nmax_runing = 1\n")).expect("written");
    let refused = daemon.cli(&["reload"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    for word in ["comand", "max_runing", "goes on as it was"] {
        assert!(refused.stderr.contains(word), "{word} in {refused:?}");
    }
    let said = status(&daemon, 0);
    let error = said["last_reload"]["error"].as_str().expect("a complaint");
    assert!(error.contains("comand") && error.contains("max_runing"), "{error}");
    assert!(daemon.cli(&["status"]).ok().contains("max_runing"));
    fs::write(&config, good).expect("written");
    assert_eq!(daemon.cli(&["reload"]).code, Some(0));
    assert!(status(&daemon, 0)["last_reload"]["error"].is_null());
}

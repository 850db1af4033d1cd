//! The data directory and the listeners: who may read what, and that there is one server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Address, Client, Ran, Request, Server, Setup, procession};

const TASKS: &str = "[task.t]\ncommand = ['true']\n";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn what_is_private_is_private() {
    let server = Server::start(TASKS);
    server.run("t", json!({}));
    let data = server.data();
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("token")), 0o600);
    for file in ["procession.db", "LOCK"] {
        assert_eq!(mode(&data.join(file)) & 0o077, 0, "{file}");
    }
    for folder in ["jobs", "log"] {
        assert_eq!(mode(&data.join(folder)) & 0o077, 0, "{folder}");
    }
    let token = fs::read_to_string(data.join("token")).expect("readable");
    assert_eq!(token.trim().len(), 64, "256 bits");
    let keeper: u32 = fs::read_to_string(data.join("pid")).expect("readable").trim().parse().expect("a pid");
    assert_eq!(keeper, server.keeper_pid());
    assert_ne!(server.server_pid(), keeper);
}

#[test]
fn the_token_stays_the_same_over_a_restart() {
    let mut server = Server::start(TASKS);
    let before = server.token.clone();
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    assert_eq!(server.token, before);
}

#[test]
fn f12_a_second_server_on_the_same_data_is_refused_and_told_by_whom() {
    let server = Server::start(TASKS);
    let began = Instant::now();
    let second = Ran::of(procession().arg("serve").arg("--config").arg(server.config()));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(second.stderr.contains(&server.keeper_pid().to_string()), "{}", second.stderr);
    assert_eq!(server.run("t", json!({}))["exit_code"], 0, "the first goes on");
    let listen = fs::read_to_string(server.data().join("listen")).expect("readable");
    assert!(listen.contains(&server.address.host()), "and its files are its own");
}

#[test]
fn a_listener_that_other_machines_reach_is_refused_unless_insecure() {
    let config = |listen: &str| format!("[server]\nlisten = ['{listen}']\ndata_dir = 'data'\n{TASKS}");
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let refused = Setup::new(&config(listen)).refused();
        assert_eq!(refused.status.code(), Some(78));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("--insecure"), "{said}");
    }
    let server = Setup::new(&config("0.0.0.0:0")).arg("--insecure").start();
    let listen = fs::read_to_string(server.data().join("listen")).expect("readable");
    let port = listen.trim().rsplit(':').next().expect("a port").to_owned();
    let near = Client { address: Address::parse(&format!("http://127.0.0.1:{port}")), ..(*server).clone() };
    assert_eq!(near.send(&Request::get("/v1/tasks")).status, 200);
    assert_eq!(Client { token: None, ..near }.send(&Request::get("/v1/tasks")).status, 401);
}

#[test]
fn without_a_token_only_local_listeners_are_taken() {
    let config = format!("[server]\nlisten = ['0.0.0.0:0']\nauth = 'none'\n{TASKS}");
    let refused = Setup::new(&config).arg("--insecure").refused();
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
}

#[test]
fn a_unix_socket_is_its_owners_alone_and_as_good_as_a_port() {
    let config = format!("[server]\nlisten = ['unix:s.sock', '127.0.0.1:0']\ndata_dir = 'data'\n{TASKS}");
    let server = Server::start(&config);
    let socket = server.path().join("s.sock");
    assert_eq!(mode(&socket), 0o600);
    assert!(matches!(&server.address, Address::Unix(path) if *path == socket), "{:?}", server.address);
    assert_eq!(server.run("t", json!({}))["exit_code"], 0);
    assert_eq!(server.stranger().send(&Request::get("/v1/jobs")).status, 401);
    // No browser can be tricked into a socket: its Host says nothing.
    assert_eq!(server.send(&Request::get("/healthz").header("Host", "anything")).status, 200);
    assert_eq!(server.cli(&["submit", "t", "--wait"]).code, Some(0));
}

#[test]
fn a_unix_socket_gets_the_mode_of_the_config_and_takes_the_place_of_a_dead_one() {
    let config =
        format!("[server]\nlisten = ['unix:s.sock']\nsocket_mode = '0660'\ndata_dir = 'data'\n{TASKS}");
    let setup = Setup::new(&config);
    // What a server that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(setup.path().join("s.sock")).expect("bound"));
    let server = setup.start();
    assert_eq!(mode(&server.path().join("s.sock")), 0o660);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let config = format!("[server]\nlisten = ['unix:s.sock']\ndata_dir = 'data'\n{TASKS}");
    let setup = Setup::new(&config).file("s.sock", "precious");
    let refused = setup.refused();
    assert_ne!(refused.status.code(), Some(0));
    assert_eq!(fs::read_to_string(setup.path().join("s.sock")).expect("there"), "precious");
}

#[test]
fn a_job_with_little_output_makes_no_file() {
    let server = Server::start("[task.t]\ncommand = ['sh', '-c', 'echo one; echo two; echo err >&2']\n");
    for _ in 0..5 {
        let job = server.run("t", json!({"a": 1}));
        assert_eq!(server.stdout(job["id"].as_str().expect("an id")), b"one\ntwo\n");
    }
    assert_eq!(fs::read_dir(server.data().join("jobs")).expect("readable").count(), 0);
}

//! Under a service manager: sockets it passes, what it is told. The manager is a fake one.

use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::harness::{BOUND, Request, Server, Setup, wait_for_some};
use serde_json::Value;

const TASKS: &str = "[task.t]\ncommand = ['sh', '-c', 'env; ls /proc/self/fd | wc -l']\n";

/// Starts the server as a service manager does: with these sockets from descriptor 3 on. A
/// shell moves them there; `exec` keeps its pid, which is the one it names.
fn passing(setup: Setup, sockets: &[OwnedFd]) -> Setup {
    let moved: String =
        sockets.iter().enumerate().map(|(at, fd)| format!("{}<&{} ", 3 + at, fd.as_raw_fd())).collect();
    for socket in sockets {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).expect("ours");
    }
    let count = sockets.len();
    let script = format!("exec {moved}; LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES=a:b exec \"$@\"");
    setup.under(&["bash", "-c", &script, "sh"])
}

/// At numbers above those they are moved to.
fn high(socket: impl Into<OwnedFd>) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(socket.into(), 40).expect("a number")
}

#[test]
fn sockets_that_were_passed_are_served_and_stay_open_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.sock");
    let (tcp, unix) =
        (TcpListener::bind("127.0.0.1:0").expect("bound"), UnixListener::bind(&path).expect("bound"));
    let address = tcp.local_addr().expect("bound").to_string();
    let sockets = [high(tcp), high(unix)];
    // In another order, and with one more that nobody passed.
    let config = format!(
        "[server]\nlisten = ['unix:{}', '{address}', '127.0.0.1:0']\ndata_dir = 'data'\n{TASKS}",
        path.display()
    );
    let mut server = passing(Setup::new(&config), &sockets).start();
    let listen = fs::read_to_string(server.data().join("listen")).expect("readable");
    let names: Vec<&str> = listen.lines().collect();
    assert_eq!(names[..2], [&*format!("unix:{}", path.display()), &*address]);
    assert_eq!(server.get("/readyz").status, 200);
    let by_tcp = crate::harness::Client {
        address: crate::harness::Address::parse(&address),
        token: server.token.clone(),
    };
    assert_eq!(by_tcp.send(&Request::get("/readyz")).status, 200);
    // Neither the sockets nor their variables reach a job.
    let job = server.run("t", Value::Null);
    let said = String::from_utf8(server.stdout(job["id"].as_str().expect("an id"))).expect("text");
    assert!(!said.contains("LISTEN_") && said.trim_end().ends_with("\n4"), "{said}");
    assert_eq!(server.stop().code(), Some(0));
    // The manager's own end keeps them open: who comes now waits instead of being refused.
    let waiting = std::thread::spawn(move || by_tcp.send(&Request::get("/readyz")).status);
    server.start_again();
    assert_eq!(waiting.join().expect("no panic"), 200);
}

#[test]
fn a_passed_socket_that_nobody_asked_for_is_an_error_that_names_it() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = other.local_addr().expect("bound").to_string();
    let config = format!("[server]\nlisten = ['unix:s.sock']\ndata_dir = 'data'\n{TASKS}");
    let refused = passing(Setup::new(&config), &[high(other)]).refused();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&address) && said.contains("listen"), "{said}");
}

#[test]
fn sockets_meant_for_another_process_are_left_alone() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let socket = high(other);
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).expect("ours");
    let server = Setup::new(TASKS).env("LISTEN_PID", "1").env("LISTEN_FDS", "1").start();
    assert_eq!(server.get("/readyz").status, 200);
}

fn hear(manager: &UnixDatagram, wanted: &str) -> String {
    manager.set_nonblocking(true).expect("set");
    wait_for_some(wanted, BOUND, || {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).ok()?;
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        said.contains(wanted).then_some(said)
    })
}

fn told(setup: Setup) -> (Server, UnixDatagram) {
    let path = setup.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let path = path.display().to_string();
    (setup.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000").start(), manager)
}

#[test]
fn the_manager_hears_ready_that_the_server_is_well_reloads_and_the_end() {
    let (mut server, manager) = told(Setup::new(TASKS));
    let said = hear(&manager, "READY=1");
    assert!(said.contains(&format!("MAINPID={}", server.keeper_pid())), "{said}");
    hear(&manager, "WATCHDOG=1");
    let job = server.run("t", Value::Null);
    let environment = String::from_utf8(server.stdout(job["id"].as_str().expect("an id"))).expect("text");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
    assert_eq!(server.cli(&["reload"]).code, Some(0));
    let said = hear(&manager, "RELOADING=1");
    let since: u64 =
        said.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse().ok()).expect("a time");
    assert!(since > 0);
    hear(&manager, "READY=1");
    hear(&manager, "WATCHDOG=1");
    assert_eq!(server.stop().code(), Some(0));
    hear(&manager, "STOPPING=1");
}

/// What the unit file promises, as far as it can be seen without a service manager.
#[test]
fn the_unit_files_say_what_the_program_does() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib");
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("readable");
    let (service, socket) = (read("procession.service"), read("procession.socket"));
    for line in ["Type=notify", "KillMode=mixed", "Delegate=yes", "Restart=always", "NotifyAccess=main"] {
        assert!(service.lines().any(|l| l == line), "{line}");
    }
    // Given up only where nothing but a person can help; the limit is a key of the first section.
    let unit = service.split_once("[Service]").expect("the sections").0;
    assert!(unit.contains("[Unit]\n") && unit.contains("\nStartLimitIntervalSec=0\n"), "{unit}");
    let prevent = service.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    assert_eq!(prevent, Some("78"));
    // What it says is set in a config is a key of a config.
    assert!(!service.contains("retry ="), "not in this version");
    for verb in ["ExecStart=", "ExecReload="] {
        let line = service.lines().find(|line| line.starts_with(verb)).expect("a line");
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let shown = crate::harness::Ran::of(crate::harness::procession().args(&words).arg("--help"));
        assert_eq!(shown.code, Some(0), "{line}: {shown:?}");
    }
    assert!(socket.contains("ListenStream=127.0.0.1:8080"));
}

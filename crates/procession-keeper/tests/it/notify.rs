//! What a service manager hears: a fake one, by a path and by a name in no folder.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use procession_core::frame::{ToKeeper, ToServer};
use procession_core::record::Containment;
use rustix::process::Signal;

use crate::keeper::{BOUND, Keeper, Server};

/// The next message that holds `wanted`.
fn hear(manager: &UnixDatagram, wanted: &str) -> String {
    let began = Instant::now();
    loop {
        let left = BOUND.saturating_sub(began.elapsed());
        assert!(!left.is_zero(), "waited in vain for {wanted}");
        manager.set_read_timeout(Some(left)).expect("set");
        let mut buffer = [0; 1024];
        let Ok(length) = manager.recv(&mut buffer) else { continue };
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if said.contains(wanted) {
            return said;
        }
    }
}

fn answer_ping(server: &mut Server) {
    server.hear("PING", |message| (*message == ToServer::Ping).then_some(()));
    server.say(&ToKeeper::Pong);
}

#[test]
fn ready_once_and_stopping_once_by_a_path_and_by_a_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify").display().to_string();
    let name = format!("procession-test-{}", std::process::id());
    let by_name = SocketAddr::from_abstract_name(&name).expect("a name");
    let managers = [
        (UnixDatagram::bind(&path).expect("bound"), path),
        (UnixDatagram::bind_addr(&by_name).expect("bound"), format!("@{name}")),
    ];
    for (manager, address) in managers {
        let (mut keeper, server) = Keeper::start_by(Containment::Monitor, |command| {
            command.env("NOTIFY_SOCKET", &address);
        });
        let said = hear(&manager, "READY=1");
        assert!(said.contains(&format!("MAINPID={}\n", keeper.pid())), "{said}");
        let environment = std::fs::read(format!("/proc/{}/environ", server.pid)).expect("readable");
        assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));
        // Another server is no other service.
        server.kill();
        let server = keeper.next_server();
        keeper.signal(Signal::TERM);
        let mut heard = String::new();
        while !heard.contains("STOPPING=1") {
            heard = hear(&manager, "");
            assert!(!heard.contains("READY=1"), "{heard}");
        }
        server.goodbye(0);
        assert_eq!(keeper.wait().code(), Some(0));
        manager.set_nonblocking(true).expect("set");
        assert!(manager.recv(&mut [0; 16]).is_err(), "said once");
    }
}

#[test]
fn a_server_that_answers_nothing_is_ended_and_the_watchdog_hears_that_the_keeper_is_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let (mut keeper, mut server) = Keeper::start_by(Containment::Monitor, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    let runs = keeper.launch(&["sleep"]);
    server.spawn(&runs);
    server.started(runs.key);
    for _ in 0..8 {
        answer_ping(&mut server);
        hear(&manager, "WATCHDOG=1");
    }
    // It hangs. What runs does not end for that, nor does the service manager have to do anything.
    let began = Instant::now();
    let mut next = keeper.next_server();
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    manager.set_nonblocking(true).expect("set");
    while manager.recv(&mut [0; 256]).is_ok() {}
    manager.set_nonblocking(false).expect("set");
    hear(&manager, "WATCHDOG=1");
    assert_eq!(next.hello.generation, 2);
    // It answers late, and with less than what ends it.
    for _ in 0..2 {
        next.hear("PING", |message| (*message == ToServer::Ping).then_some(()));
    }
    answer_ping(&mut next);
    assert_eq!(next.list().0.len(), 1);
    answer_ping(&mut next);
}

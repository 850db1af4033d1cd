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
fn the_watchdog_hears_of_a_server_that_answers_and_of_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let (_keeper, mut server) = Keeper::start_by(Containment::Monitor, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    });
    for _ in 0..3 {
        answer_ping(&mut server);
        hear(&manager, "WATCHDOG=1");
    }
    // It hangs: at most the word about its last answer is still under way.
    server.hear("PING", |message| (*message == ToServer::Ping).then_some(()));
    let mut words = 0;
    manager.set_read_timeout(Some(Duration::from_millis(1_500))).expect("set");
    while manager.recv(&mut [0; 256]).is_ok() {
        words += 1;
    }
    assert!(words <= 1, "{words}");
    server.say(&ToKeeper::Pong);
    hear(&manager, "WATCHDOG=1");
}

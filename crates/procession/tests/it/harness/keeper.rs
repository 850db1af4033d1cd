//! A keeper of the test's own: starts the server process and says to it what a keeper would,
//! and what the real one says only when it is asked to by somebody else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use procession_core::frame::{Decoder, Hello, Message, Started, ToKeeper, ToServer, VERSION};
use procession_core::record::Containment;
use rustix::io::{FdFlags, fcntl_setfd};

use super::address::Address;
use super::client::Client;
use super::process::Process;
use super::server::Server;
use super::wait::{BOUND, wait_for_some};

/// What every server of it gets: a listener on the data a real server left.
#[derive(Debug)]
pub struct OwnKeeper {
    listener: TcpListener,
    /// Whom the data directory's lock names.
    pid: u32,
    generation: u64,
}

/// A server it started.
#[derive(Debug)]
pub struct Child {
    process: Process,
    socket: UnixStream,
    decoder: Decoder<ToKeeper>,
}

impl OwnKeeper {
    /// On the data of a server that was stopped.
    #[track_caller]
    pub fn of(stopped: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { listener, pid: stopped.keeper_pid(), generation: 0 }
    }

    /// Who asks its servers.
    pub fn client(&self, stopped: &Server) -> Client {
        let address = Address::Tcp(self.listener.local_addr().expect("bound"));
        Client { address, token: stopped.token.clone() }
    }

    /// Starts a server; `standby`: with or without force.
    #[track_caller]
    pub fn start(&mut self, stopped: &Server, standby: Option<bool>) -> Child {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        fcntl_setfd(&theirs, FdFlags::empty()).expect("handed on");
        let mut server = stopped.program();
        server.env("PROCESSION_CONTROL_FD", theirs.as_raw_fd().to_string());
        server.arg("server").arg("--config").arg(stopped.config()).stdin(Stdio::null());
        let process = Process(server.spawn().expect("it starts"));
        drop(theirs);
        ours.set_read_timeout(Some(BOUND)).expect("a bound");
        self.generation += 1;
        let hello = Hello {
            version: VERSION,
            generation: self.generation,
            boot_id: [7; 16],
            keeper_pid: self.pid,
            containment: Containment::Cgroup,
            listeners: vec![self.listener.local_addr().expect("bound").to_string().into()],
            held: 0,
            standby: standby.is_some(),
            renew: false,
            force: standby == Some(true),
            cgroups: Default::default(),
            settled: self.generation > 1,
            managed: false,
        };
        let mut bytes = Vec::new();
        ToServer::Hello(hello).encode(&mut bytes);
        let sent = procession_keeper::control::send(&ours, &bytes, &[self.listener.as_fd()]).expect("sent");
        assert_eq!(sent, bytes.len());
        Child { process, socket: ours, decoder: Decoder::default() }
    }
}

impl Child {
    /// Says something.
    #[track_caller]
    pub fn say(&mut self, frame: &ToServer) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.socket.write_all(&bytes).expect("it listens");
    }

    /// What is found in the first frame that has it; those before are passed over.
    #[track_caller]
    pub fn hear<T>(&mut self, what: &str, find: impl Fn(ToKeeper) -> Option<T>) -> T {
        let mut buffer = [0; 64 * 1024];
        loop {
            while let Some(frame) = self.decoder.next().expect("a frame") {
                if let Some(found) = find(frame) {
                    return found;
                }
            }
            let read = self.socket.read(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(read > 0, "it hung up, and was to say {what}");
            self.decoder.feed(&buffer[..read]);
        }
    }

    /// The same, for a frame that is only that.
    #[track_caller]
    pub fn says(&mut self, frame: &ToKeeper) {
        self.hear(&format!("{frame:?}"), |said| (said == *frame).then_some(()));
    }

    /// Answers what it asks first, and waits until it serves.
    #[track_caller]
    pub fn serves(&mut self, running: Vec<Started>) {
        self.says(&ToKeeper::List);
        self.say(&ToServer::Attempts { running, over: vec![], more: false });
        self.says(&ToKeeper::Ready { version: VERSION });
    }

    /// Goes away.
    pub fn hang_up(&self) {
        self.socket.shutdown(Shutdown::Both).expect("a socket");
    }

    /// How it ended.
    #[track_caller]
    pub fn code(&mut self) -> Option<i32> {
        wait_for_some("a server ends", BOUND, || self.process.0.try_wait().expect("a child")).code()
    }
}

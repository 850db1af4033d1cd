//! A server as a service manager keeps it: started again whenever it ends, asked again until
//! it answers. For faults that may end keeper and server at any moment, also at the start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::address::Address;
use super::client::Client;
use super::process::{end, is_alive, kill, pid, processes_with};
use super::request::Request;
use super::response::Response;
use super::setup::Setup;
use super::wait::{BOUND, wait_for, wait_for_some};

/// The service, its folder, and how often it was started.
#[derive(Debug)]
pub struct Service {
    setup: Setup,
    child: Child,
    pub starts: usize,
}

impl Service {
    /// Starts it and does not wait.
    pub fn start(setup: Setup) -> Self {
        let child = spawn(&setup);
        Self { setup, child, starts: 1 }
    }

    /// The folder with the config.
    pub fn path(&self) -> &Path {
        self.setup.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// What all its starts said on stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(self.setup.log_path()).unwrap_or_default()
    }

    /// The answer to this, that is none of a server in trouble; it is asked as often as it takes.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Response {
        wait_for_some("an answer", BOUND, || {
            let answer = self.client().and_then(|client| client.try_send(request).ok());
            if answer.is_none() {
                self.start_again_if_it_ended();
            }
            answer.filter(|answer| answer.status < 500)
        })
    }

    /// Where it listens now, if it has come so far.
    pub fn client(&self) -> Option<Client> {
        let listen = fs::read_to_string(self.data().join("listen")).ok()?;
        let token = fs::read_to_string(self.data().join("token")).ok()?;
        let address = Address::parse(listen.lines().next()?);
        Some(Client { address, token: Some(token.trim().into()) })
    }

    fn start_again_if_it_ended(&mut self) {
        if self.child.try_wait().expect("a child of ours").is_some() {
            self.child = spawn(&self.setup);
            self.starts += 1;
        }
    }

    /// Sends a signal to the keeper; it must have answered before.
    pub fn signal(&self, signal: Signal) {
        // One that has just died is not reaped yet, and takes it as well.
        let _ = kill_process(pid(self.child.id()), signal);
    }

    /// Living processes of its jobs.
    pub fn processes(&self) -> Vec<u32> {
        processes_with(&format!("PROCESSION_DIR={}/", self.data().display()))
    }

    /// Processes named by the files of the data directory: the keeper and its server.
    fn own(&self) -> Vec<u32> {
        let named = ["pid", "server.pid"].map(|name| self.data().join(name));
        let read = |path: &PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
        let beside = processes_with(&format!("PROCESSION_TEST_SERVICE={}", self.path().display()));
        named.iter().filter_map(read).filter(|pid| beside.contains(pid)).collect()
    }

    /// Stops it; whatever it consists of has ended then.
    #[track_caller]
    pub fn stop(&mut self) {
        end(&mut self.child, Duration::from_secs(8));
        wait_for("no process of it is left", BOUND, || self.own().is_empty());
    }
}

fn spawn(setup: &Setup) -> Child {
    let mut serve = setup.command();
    serve.env("PROCESSION_TEST_SERVICE", setup.path());
    serve.stdin(Stdio::null()).stdout(setup.log()).stderr(setup.log());
    serve.spawn().expect("the program starts")
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the service said:\n{}---", self.log());
        }
        end(&mut self.child, Duration::from_secs(8));
        for left in self.own().into_iter().chain(self.processes()) {
            if is_alive(left) {
                kill(left);
            }
        }
    }
}

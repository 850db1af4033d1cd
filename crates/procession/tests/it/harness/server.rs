//! The program under test, running.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::address::Address;
use super::client::Client;
use super::process::{self, pid, processes_with};
use super::request::Request;
use super::setup::Setup;
use super::wait::{BOUND, wait_for, wait_for_some};

/// How long a server gets to end by itself when its test is over.
const PATIENCE: Duration = Duration::from_secs(8);

/// A server, a client of it, and its folder. Ends with the test.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    child: Child,
    client: Client,
}

impl Server {
    /// A server with these tasks.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::of(Setup::new(config))
    }

    #[track_caller]
    pub(super) fn of(setup: Setup) -> Self {
        let child = setup.spawn();
        let nobody = Client { address: Address::Unix(PathBuf::new()), token: None };
        let mut server = Self { setup, child, client: nobody };
        server.wait_until_it_listens();
        server
    }

    #[track_caller]
    fn wait_until_it_listens(&mut self) {
        wait_for("the server listens", BOUND, || {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "the server ended at its start: {ended:?}\n{}", self.log());
            self.log().contains("listening on ")
        });
        let listen = fs::read_to_string(self.data().join("listen")).expect("the file `listen`");
        let address = Address::parse(listen.lines().next().expect("an address"));
        let token = fs::read_to_string(self.data().join("token")).expect("the file `token`");
        self.client = Client { address, token: Some(token.trim().into()) };
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The folder with the config.
    pub fn path(&self) -> &Path {
        self.setup.path()
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.setup.config()
    }

    /// The program it runs, to be started by hand.
    pub fn program(&self) -> Command {
        self.setup.bare_command()
    }

    /// What it said on stderr since it was started last.
    pub fn log(&self) -> String {
        let log = fs::read(self.setup.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The process that speaks HTTP.
    #[track_caller]
    pub fn server_pid(&self) -> u32 {
        wait_for_some("the file `server.pid`", BOUND, || {
            // Empty for a moment while the next server writes it.
            fs::read_to_string(self.data().join("server.pid")).ok()?.trim().parse().ok()
        })
    }

    /// The process that `serve` became.
    pub fn keeper_pid(&self) -> u32 {
        self.child.id()
    }

    /// The same server to somebody without a token.
    pub fn stranger(&self) -> Client {
        Client { token: None, ..self.client.clone() }
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        kill_process(pid(self.child.id()), Signal::TERM).expect("it runs");
    }

    /// Signals the keeper.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).expect("it runs");
    }

    /// Writes another config, without `[server]`, which stays as it was.
    pub fn configure(&self, tasks: &str) {
        self.setup.write_config(tasks);
    }

    /// Lets another server take over, with the config as it is now, and waits until it has.
    #[track_caller]
    pub fn reload(&self) {
        self.taken_over_by(Signal::HUP);
    }

    /// The same, with the program as it is now.
    #[track_caller]
    pub fn upgrade(&self) {
        self.taken_over_by(Signal::USR2);
    }

    #[track_caller]
    fn taken_over_by(&self, signal: Signal) {
        let before = self.server_pid();
        self.signal(signal);
        wait_for("another server has taken over", BOUND, || {
            let stats = self.try_send(&Request::get("/v1/stats"));
            stats.is_ok_and(|stats| stats.status == 200 && stats.json()["server_pid"] != before)
        });
    }

    /// Waits until the log says this, `times` times.
    #[track_caller]
    pub fn says(&self, what: &str, times: usize) {
        wait_for(&format!("the log says {what:?}"), BOUND, || self.log().matches(what).count() >= times);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        wait_for_some("the server ends", BOUND, || self.child.try_wait().expect("a child of ours"))
    }

    /// Ends keeper and server by SIGKILL, and waits until both are gone.
    pub fn crash(&mut self) {
        let server = self.server_pid();
        process::kill(self.child.id());
        process::kill(server);
        self.ended();
        wait_for("the server is gone", BOUND, || !process::is_alive(server));
    }

    /// Stops it as its service manager would, and waits.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended()
    }

    /// Sets a variable for its next start.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.setup.set_env(name, value);
    }

    /// Starts it again on the same data, on a new port.
    #[track_caller]
    pub fn start_again(&mut self) {
        fs::remove_file(self.setup.log_path()).expect("the log before");
        self.child = self.setup.spawn();
        self.wait_until_it_listens();
    }

    /// Starts another one on the same data, while the keeper of the one before lives on. That
    /// one is reaped once it has ended.
    #[track_caller]
    pub fn take_over(&mut self) {
        fs::remove_file(self.setup.log_path()).expect("the log before");
        let mut before = std::mem::replace(&mut self.child, self.setup.spawn());
        std::thread::spawn(move || before.wait());
        self.wait_until_it_listens();
    }

    /// Another one on the same data, which is to refuse; how it ended.
    pub fn again(&self) -> Output {
        self.setup.refused()
    }

    /// Living processes of its jobs.
    pub fn processes(&self) -> Vec<u32> {
        processes_with(&format!("PROCESSION_DIR={}/", self.data().display()))
    }

    /// Living processes of one job.
    pub fn processes_of(&self, job: &str) -> Vec<u32> {
        processes_with(&format!("PROCESSION_JOB_ID={job}"))
    }
}

/// What a client can do, with the server's token.
impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server said:\n{}---", self.log());
        }
        process::end(&mut self.child, PATIENCE);
        // Only a server that had to be killed leaves any.
        for leftover in self.processes() {
            let _ = kill_process(pid(leftover), Signal::KILL);
        }
    }
}

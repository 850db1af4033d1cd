//! A server that left whoever started it.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use super::address::Address;
use super::cli::{Ran, procession};
use super::client::Client;
use super::process::{is_alive, kill};
use super::setup::Setup;
use super::wait::{BOUND, wait_for};

/// A daemon, a client of it, and its folder. Ends with the test.
#[derive(Debug)]
pub struct Daemon {
    setup: Setup,
    client: Client,
    /// What its start printed.
    pub said: Ran,
}

impl Daemon {
    /// Started as `serve --daemon`; it answers when this returns.
    #[track_caller]
    pub fn start(setup: Setup) -> Self {
        let setup = setup.arg("--daemon");
        let said = Ran::from(setup.refused());
        assert_eq!(said.code, Some(0), "{said:?}");
        let client = client(&setup);
        Self { setup, client, said }
    }

    /// Started again, after it has stopped.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.said = Ran::from(self.setup.refused());
        assert_eq!(self.said.code, Some(0), "{:?}", self.said);
        self.client = client(&self.setup);
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The folder with the config.
    pub fn path(&self) -> &std::path::Path {
        self.setup.path()
    }

    /// The process of this file: `pid`, `server.pid`.
    pub fn pid(&self, file: &str) -> u32 {
        let text = fs::read_to_string(self.data().join(file)).expect("the file");
        text.trim().parse().expect("a process id")
    }

    /// Runs a verb of the command line against it.
    pub fn cli(&self, args: &[&str]) -> Ran {
        Ran::of(procession().args(args).arg("--config").arg(self.setup.config()))
    }
}

fn client(setup: &Setup) -> Client {
    let file = |name: &str| fs::read_to_string(setup.path().join("data").join(name)).expect("the file");
    let address = Address::parse(file("listen").lines().next().expect("an address"));
    Client { address, token: Some(file("token").trim().into()) }
}

/// What a client can do, with the server's token.
impl Deref for Daemon {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Ok(keeper) = fs::read_to_string(self.data().join("pid")) else { return };
        let stopped = self.cli(&["stop", "--now"]);
        let keeper: u32 = keeper.trim().parse().expect("a process id");
        if stopped.code != Some(0) && is_alive(keeper) {
            eprintln!("the daemon does not stop: {stopped:?}");
            kill(keeper);
        }
        wait_for("the daemon is gone", BOUND, || !is_alive(keeper));
    }
}

//! A server before it starts: its folder, its config, its environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::address::Address;
use super::client::Client;
use super::process::command;
use super::request::Request;
use super::server::Server;
use super::wait::{BOUND, wait_for_some};

/// What goes before a config without `[server]`.
const SERVER: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\ndata_dir = \"data\"\nstop_timeout = \"10s\"\n";

/// Where a server will run and how it is started.
#[derive(Debug)]
pub struct Setup {
    folder: TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
    launcher: Vec<String>,
    program: PathBuf,
}

impl Setup {
    /// A folder of its own with this config; `[server]` is added where it is not said.
    pub fn new(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("procession-").tempdir().expect("a folder");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_procession"));
        let setup = Self { folder, env: Vec::new(), args: Vec::new(), launcher: Vec::new(), program };
        setup.write_config(config);
        setup
    }

    pub(super) fn write_config(&self, config: &str) {
        let head = if config.contains("[server]") { "" } else { SERVER };
        fs::write(self.config(), format!("{head}{config}")).expect("written");
    }

    /// With a program of its own, `procession` in the folder, which can be replaced.
    pub fn own_program(mut self) -> Self {
        let own = self.path().join("procession");
        fs::copy(&self.program, &own).expect("copied");
        self.program = own;
        self
    }

    /// With a file in the folder.
    pub fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        fs::write(self.path().join(name), contents).expect("written");
        self
    }

    /// With a variable in the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The same, for one that is there.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// With an argument to `serve`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Without cgroups.
    pub fn monitor(self) -> Self {
        self.env("PROCESSION_CONTAINMENT", "monitor")
    }

    /// Started by a program that becomes the server, such as `nohup`.
    pub fn under(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().map(|&word| word.into()).collect();
        self
    }

    /// The folder with the config.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.path().join("procession.toml")
    }

    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn start(self) -> Server {
        Server::of(self)
    }

    /// Starts it where it is to refuse; how it ended.
    pub fn refused(&self) -> Output {
        self.command().output().expect("it ends")
    }

    /// Starts it and leaves it to the test.
    pub fn spawn(&self) -> Child {
        let mut serve = self.command();
        serve.stdin(Stdio::null()).stdout(self.log()).stderr(self.log());
        serve.spawn().expect("the program starts")
    }

    /// A client of the server that was started from this, once that answers.
    #[track_caller]
    pub fn client(&self) -> Client {
        let file = |name: &str| fs::read_to_string(self.path().join("data").join(name)).ok();
        wait_for_some("the server answers", BOUND, || {
            let address = Address::parse(file("listen")?.lines().next()?);
            let client = Client { address, token: Some(file("token")?.trim().into()) };
            client
                .try_send(&Request::get("/readyz"))
                .is_ok_and(|answer| answer.status == 200)
                .then_some(client)
        })
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut serve = self.bare_command();
        serve.arg("serve").arg("--config").arg(self.config()).args(&self.args);
        serve
    }

    /// The program in its environment, without arguments.
    pub fn bare_command(&self) -> Command {
        let program = &self.program;
        let mut serve = match self.launcher.split_first() {
            None => command(program),
            Some((launcher, rest)) => {
                let mut command = command(launcher);
                command.args(rest).arg(program);
                command
            }
        };
        // The system's own programs first: a wrapper in somebody's PATH is slow.
        let path = std::env::var("PATH").unwrap_or_default();
        serve.env("PATH", format!("/usr/local/bin:/usr/bin:/bin:{path}"));
        // What becomes of a server whose keeper was killed must not depend on the machine.
        serve.env("PROCESSION_ON_KEEPER_DEATH", "exit");
        serve.envs(self.env.iter().map(|(name, value)| (name, value))).current_dir("/");
        serve
    }

    pub(super) fn log(&self) -> File {
        File::options().create(true).append(true).open(self.log_path()).expect("a log")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.path().join("serve.log")
    }
}

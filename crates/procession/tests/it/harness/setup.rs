//! A server before it starts: its folder, its config, its environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::process::command;
use super::server::Server;

/// What goes before a config without `[server]`.
const SERVER: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\ndata_dir = \"data\"\nstop_timeout = \"10s\"\n";

/// Where a server will run and how it is started.
#[derive(Debug)]
pub struct Setup {
    folder: TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
    launcher: Vec<String>,
}

impl Setup {
    /// A folder of its own with this config; `[server]` is added where it is not said.
    pub fn new(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("procession-").tempdir().expect("a folder");
        let head = if config.contains("[server]") { "" } else { SERVER };
        fs::write(folder.path().join("procession.toml"), format!("{head}{config}")).expect("written");
        Self { folder, env: Vec::new(), args: Vec::new(), launcher: Vec::new() }
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

    pub(super) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_procession");
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
        serve.arg("serve").arg("--config").arg(self.config()).args(&self.args);
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

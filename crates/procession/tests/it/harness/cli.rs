//! The command line, as a person or a script uses it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::process::command;
use super::server::Server;

/// How a command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program, to be given arguments.
pub fn procession() -> Command {
    let mut program = command(env!("CARGO_BIN_EXE_procession"));
    program.stdin(Stdio::null());
    program
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        command.output().expect("it runs").into()
    }

    /// Its stdout, where it exited with 0.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Server {
    /// Runs a verb of the command line against this server.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Ran {
        Ran::of(procession().args(args).arg("--config").arg(self.config()))
    }

    /// The same, with something on its stdin.
    #[track_caller]
    pub fn cli_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let mut verb = procession();
        verb.args(args).arg("--config").arg(self.config());
        verb.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = verb.spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(stdin).expect("it reads");
        child.wait_with_output().expect("it ends").into()
    }
}

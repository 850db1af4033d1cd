//! What becomes of the server when its keeper is dead and the jobs are settled: it ends, where
//! somebody starts the service again; else it becomes the keeper, on the same sockets and
//! under the same lock, and no client is refused.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procession_core::frame::Hello;
use procession_keeper::{ContainmentChoice, ServerCommand, Setup};

use crate::data::DataDir;

/// Overrides the choice: `exit` or `serve`.
pub const VARIABLE: &str = "PROCESSION_ON_KEEPER_DEATH";

/// One of these in the environment: a service manager, or a container's, started us.
const MANAGERS: [&str; 3] = ["INVOCATION_ID", "NOTIFY_SOCKET", "container"];

/// One of these files: we are in a container, whose end is seen from outside.
const CONTAINERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Whoever started the service starts it again.
    Exit,
    /// Nobody does.
    Serve,
}

impl Choice {
    /// By the environment of this process and the machine.
    pub fn here() -> Self {
        Self::by(|name| std::env::var_os(name), |path| Path::new(path).exists())
    }

    fn by(variable: impl Fn(&str) -> Option<OsString>, exists: impl Fn(&str) -> bool) -> Self {
        match variable(VARIABLE).as_deref().and_then(|value| value.to_str()) {
            Some("exit") => return Choice::Exit,
            Some("serve") => return Choice::Serve,
            _ => {}
        }
        let managed = MANAGERS.iter().any(|name| variable(name).is_some());
        let contained = CONTAINERS.iter().any(|path| exists(path));
        if managed || contained { Choice::Exit } else { Choice::Serve }
    }
}

/// What a new keeper needs, kept for that day.
#[derive(Debug)]
pub struct Estate {
    listeners: Vec<(OwnedFd, String)>,
    held: Vec<OwnedFd>,
    state_dir: PathBuf,
    label: String,
}

impl Estate {
    /// Duplicates of the listeners, and what the keeper gave to be held.
    pub fn new(
        listeners: &[OwnedFd],
        held: Vec<OwnedFd>,
        hello: &Hello,
        data: &DataDir,
    ) -> std::io::Result<Self> {
        let names = hello.listeners.iter().map(|name| String::from_utf8_lossy(name).into_owned());
        let copies = listeners.iter().zip(names).map(|(fd, name)| Ok((fd.try_clone()?, name)));
        Ok(Self {
            listeners: copies.collect::<std::io::Result<_>>()?,
            held,
            state_dir: data.keeper(),
            label: data.label(),
        })
    }

    /// Becomes the keeper; returns only where that failed. Servers are then started as this one
    /// was.
    pub fn serve(self) -> std::io::Error {
        let mut words = std::env::args_os();
        let Some(program) = words.next().map(PathBuf::from).filter(|program| program.is_absolute()) else {
            return std::io::Error::other("the program's own path is not known");
        };
        let monitor = std::env::var("PROCESSION_CONTAINMENT").is_ok_and(|value| value == "monitor");
        procession_keeper::begin_anew(&Setup {
            listeners: self.listeners,
            held: self.held,
            state_dir: self.state_dir,
            server: ServerCommand { program, args: words.collect(), env: Vec::new() },
            containment: if monitor { ContainmentChoice::MonitorOnly } else { ContainmentChoice::Best },
            label: self.label,
            daemon: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f02_it_ends_where_somebody_starts_it_again_and_serves_where_nobody_does() {
        let by = |set: &'static [(&'static str, &'static str)], file: &'static str| {
            let value = move |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            };
            Choice::by(value, move |path| path == file)
        };
        assert_eq!(by(&[], ""), Choice::Serve);
        for managed in [&[("INVOCATION_ID", "x")], &[("NOTIFY_SOCKET", "/run/x")], &[("container", "lxc")]] {
            assert_eq!(by(managed, ""), Choice::Exit);
        }
        assert_eq!(by(&[], "/.dockerenv"), Choice::Exit);
        assert_eq!(by(&[(VARIABLE, "serve"), ("INVOCATION_ID", "x")], "/.dockerenv"), Choice::Serve);
        assert_eq!(by(&[(VARIABLE, "exit")], ""), Choice::Exit);
        assert_eq!(by(&[(VARIABLE, "what")], ""), Choice::Serve);
    }
}

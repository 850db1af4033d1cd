//! What becomes of the server when its keeper is dead and the jobs are settled: it ends, where
//! somebody starts the service again; else it becomes the keeper, on the same sockets and
//! under the same lock, and no client is refused.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procession_core::frame::Hello;
use procession_keeper::{ContainmentChoice, ServerCommand, Setup};

use crate::data::DataDir;

/// Overrides the choice: `exit` or `serve`.
pub const VARIABLE: &str = "PROCESSION_ON_KEEPER_DEATH";

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
    /// By what the keeper said of itself, the environment it gave us, and the machine.
    pub fn here(hello: &Hello) -> Self {
        let keeper = (hello.managed, hello.keeper_pid);
        Self::by(keeper, |name| std::env::var_os(name), |path| Path::new(path).exists())
    }

    fn by(
        (managed, keeper): (bool, u32),
        variable: impl Fn(&str) -> Option<OsString>,
        exists: impl Fn(&str) -> bool,
    ) -> Self {
        match variable(VARIABLE).as_deref().and_then(|value| value.to_str()) {
            Some("exit") => return Choice::Exit,
            Some("serve") => return Choice::Serve,
            _ => {}
        }
        // A unit's variable is inherited by all below it; newer systemds say whom they started.
        let is_its_own = variable("SYSTEMD_EXEC_PID").is_none_or(|pid| pid == *keeper.to_string());
        let is_unit = variable("INVOCATION_ID").is_some() && is_its_own;
        let is_contained = variable("container").is_some() || CONTAINERS.iter().any(|path| exists(path));
        if managed || is_unit || is_contained { Choice::Exit } else { Choice::Serve }
    }
}

/// How a keeper started here holds trees together: `PROCESSION_CONTAINMENT=monitor` is for machines,
/// and tests, without cgroups.
pub fn containment() -> ContainmentChoice {
    match std::env::var("PROCESSION_CONTAINMENT").as_deref() {
        Ok("monitor") => ContainmentChoice::MonitorOnly,
        _ => ContainmentChoice::Best,
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
        let names = hello.listener_names().map(Cow::into_owned);
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
        procession_keeper::begin_anew(&Setup {
            listeners: self.listeners,
            held: self.held,
            state_dir: self.state_dir,
            server: ServerCommand { program, args: words.collect(), env: Vec::new() },
            containment: containment(),
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
        let by = |managed: bool, set: &[(&str, &str)], file: &str| {
            let value = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            };
            Choice::by((managed, 42), value, |path| path == file)
        };
        let id = ("INVOCATION_ID", "x");
        assert_eq!(by(false, &[], ""), Choice::Serve);
        assert_eq!(by(false, &[id], ""), Choice::Exit);
        assert_eq!(by(false, &[id, ("SYSTEMD_EXEC_PID", "42")], ""), Choice::Exit);
        assert_eq!(by(false, &[id, ("SYSTEMD_EXEC_PID", "7")], ""), Choice::Serve, "it is a shell's unit");
        assert_eq!(by(false, &[("container", "lxc")], ""), Choice::Exit);
        assert_eq!(by(false, &[], "/.dockerenv"), Choice::Exit);
        assert_eq!(by(false, &[(VARIABLE, "serve"), id], "/.dockerenv"), Choice::Serve);
        assert_eq!(by(false, &[(VARIABLE, "exit")], ""), Choice::Exit);
        assert_eq!(by(false, &[(VARIABLE, "what")], ""), Choice::Serve);
        assert_eq!(by(true, &[], ""), Choice::Exit);
        assert_eq!(by(true, &[(VARIABLE, "serve")], ""), Choice::Serve);
    }
}

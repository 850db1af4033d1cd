//! `serve`: becomes the keeper. Everything that can be wrong with config, data directory
//! and addresses is said here, before anything runs. As a daemon a copy of this process becomes
//! it, and this one waits until that answers. Where a keeper was left alone with its jobs, it
//! gets a server again, and this process stands where the keeper would.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use procession_core::frame::admin::{Answer, Ask, Attach, Status};
use procession_keeper::{Conversation, Daemon, Detached, Followed, ServerCommand, Setup, Start, detach};

use super::holder::{self, Holder, Lock, Taken};
use super::listeners::{self, Named};
use super::{Global, ServeArgs};
use crate::background::EXIT_CONFIG;
use crate::config::{self, Config, LoadOptions, Severity, load};
use crate::data::{DataDir, Unfit, write_atomically};
use crate::random;
use crate::succession::containment;

/// Somebody else has the data directory (sysexits' `EX_TEMPFAIL`).
const EXIT_HELD: u8 = 75;

/// The keeper that was followed was killed (sysexits' `EX_SOFTWARE`).
const EXIT_LOST: u8 = 70;

/// A keeper that is there answers at once; whoever starts a second one is told within a second.
const ANSWER: Duration = Duration::from_millis(500);

/// How long a server may take until it answers: it may have much to recover.
const START: Duration = Duration::from_secs(90);

/// Serves until it is stopped; as a daemon until it answers.
pub fn run(args: &ServeArgs, global: &Global) -> ExitCode {
    // Before anything else opens descriptors.
    let passed = procession_keeper::passed_sockets();
    let config = match read_config(args, global) {
        Ok(config) => config,
        Err(wrong) => {
            eprintln!("{wrong}");
            return EXIT_CONFIG.into();
        }
    };
    let passed = passed.context("the sockets that were passed (LISTEN_FDS) cannot be used");
    match passed.and_then(|passed| serve(&config, passed, args.daemon)) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            let held = error.downcast_ref::<Held>().map(|_| EXIT_HELD);
            let unfit = error.downcast_ref::<Unfit>().map(|_| EXIT_CONFIG);
            held.or(unfit).unwrap_or(1).into()
        }
    }
}

fn read_config(args: &ServeArgs, global: &Global) -> Result<Config, String> {
    let path = global.config_file().map_err(|e| format!("error: {e}"))?;
    let options = LoadOptions { insecure: args.insecure, ..LoadOptions::default() };
    let config = load(&path, &options).map_err(|wrong| wrong.to_string())?;
    for warning in config.warnings.iter().filter(|warning| warning.severity == Severity::Warning) {
        eprintln!("{warning}");
    }
    Ok(config)
}

fn serve(config: &Config, passed: Vec<OwnedFd>, daemon: bool) -> anyhow::Result<u8> {
    DataDir::check_place(&config.server.data_dir)?;
    let data = DataDir::create(&config.server.data_dir)
        .with_context(|| format!("the data directory {} cannot be made", config.server.data_dir.display()))?;
    match holder::take(&data, wait_for_heir)? {
        Taken::Theirs(holder) => {
            if !status(&data).is_some_and(|status| status.alone) {
                return Err(Held::by(&holder).into());
            }
            let listeners = listeners::open(&config.server.listen, passed)?;
            take_over(config, &data, listeners, &holder, daemon)
        }
        Taken::Ours(lock) => {
            let listeners = listeners::open(&config.server.listen, passed)?;
            if !daemon {
                return keep(config, &data, lock, listeners, None);
            }
            match detach(&data.stderr_log()).context("no process of its own")? {
                Detached::Daemon(daemon) => keep(config, &data, lock, listeners, Some(daemon)),
                Detached::Caller(child) => {
                    let names = listeners.into_iter().map(|(_, name)| name).collect();
                    drop(lock);
                    report(child.wait(START)?, names)
                }
            }
        }
    }
}

/// Somebody else has the data directory.
#[derive(Debug, thiserror::Error)]
enum Held {
    #[error(
        "the data directory is in use by process {0}; one server per data directory (`procession stop` ends it; or set another data_dir)"
    )]
    ByKeeper(String),
    #[error(
        "the data directory is still held, though process {0}, which took it, is gone: a server it left behind does not end; its process id is in the file `server.pid`"
    )]
    ByItsServer(String),
}

impl Held {
    fn by(holder: &Holder) -> Self {
        let pid = holder.pid().to_owned();
        if holder.process.is_some() { Held::ByKeeper(pid) } else { Held::ByItsServer(pid) }
    }
}

fn wait_for_heir(holder: &Holder) {
    eprintln!(
        "procession: process {} is gone; waiting for the server it left, which finishes what ran, at most {} s",
        holder.pid(),
        holder::HEIR.as_secs()
    );
}

fn status(data: &DataDir) -> Option<Status> {
    match procession_keeper::ask(&data.keeper(), &Ask::Status, ANSWER) {
        Ok(Answer::Status(status)) => Some(status),
        _ => None,
    }
}

/// The life of the keeper.
fn keep(
    config: &Config,
    data: &DataDir,
    mut lock: Lock,
    listeners: Vec<Named>,
    daemon: Option<Daemon>,
) -> anyhow::Result<u8> {
    lock.sign().context("the data directory's lock cannot be written")?;
    write_files(data, &listeners, &std::process::id().to_string())?;
    forget_config_in_force(data);
    let (program, args) = server_command(config, data, daemon.is_some())?;
    let setup = Setup {
        listeners,
        held: vec![lock.into()],
        state_dir: data.keeper(),
        server: ServerCommand { program, args: args.iter().map(Into::into).collect(), env: Vec::new() },
        containment: containment(),
        label: data.label(),
        daemon,
    };
    let status = procession_keeper::run(setup)?;
    remove_names(data);
    Ok(status)
}

/// What is left behind names nobody; the next start writes it anew.
pub(super) fn remove_names(data: &DataDir) {
    for path in [data.listen(), data.pid(), data.server_pid()] {
        let _ = std::fs::remove_file(path);
    }
}

fn server_command(config: &Config, data: &DataDir, daemon: bool) -> anyhow::Result<(PathBuf, Vec<PathBuf>)> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let mut args: Vec<PathBuf> = vec!["server".into(), "--config".into(), config.path.clone()];
    args.extend(["--in-force".into(), data.config_in_force()]);
    if daemon {
        args.push("--daemon".into());
    }
    Ok((program, args))
}

/// What became of the daemon, to whoever called for it.
fn report(start: Start, names: Vec<String>) -> anyhow::Result<u8> {
    match start {
        Start::Ready(pid) => {
            for name in names {
                println!("listening on {}", config::address(&name));
            }
            println!("running as process {pid}");
            Ok(0)
        }
        // It has said why.
        Start::Ended(status) => Ok(status),
        Start::Late => bail!("no answer from the server within {} s; it was stopped again", START.as_secs()),
    }
}

/// Gives a keeper that was left alone a server, and stands in for it, unless as a daemon: it is
/// one already.
fn take_over(
    config: &Config,
    data: &DataDir,
    listeners: Vec<Named>,
    keeper: &Holder,
    daemon: bool,
) -> anyhow::Result<u8> {
    let process = keeper.process.as_ref().with_context(|| {
        format!("the jobs left running belong to process {}, which is not seen from here", keeper.pid())
    })?;
    write_files(data, &listeners, keeper.pid())?;
    let (program, args) = server_command(config, data, daemon)?;
    forget_config_in_force(data);
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec().into();
    let (sockets, names): (Vec<OwnedFd>, Vec<String>) = listeners.into_iter().unzip();
    let variables =
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let attach = Attach {
        program: bytes(&program),
        args: args.iter().map(|arg| bytes(arg)).collect(),
        env: variables.map(Into::into).collect(),
        listeners: names.iter().map(|name| name.clone().into()).collect(),
    };
    let log = match daemon {
        true => Some(procession_keeper::open_log(&data.stderr_log())?),
        false => None,
    };
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let output = match &log {
        Some(log) => [log.as_fd(), log.as_fd()],
        None => [stdout.as_fd(), stderr.as_fd()],
    };
    let (conversation, answer) = Conversation::attach(&data.keeper(), attach, &sockets, output, START)?;
    drop(sockets);
    match answer {
        Answer::Done => {}
        Answer::Failed { message } => bail!("{message}"),
        other => bail!("the keeper answered {other:?}"),
    }
    if daemon {
        return report(Start::Ready(keeper.pid().parse().unwrap_or_default()), names);
    }
    match procession_keeper::follow(conversation, process)? {
        Followed::Ended(status) => Ok(status),
        Followed::Lost => Ok(EXIT_LOST),
    }
}

/// Whoever types `serve` means the file as it is now. Where there is none all is well.
fn forget_config_in_force(data: &DataDir) {
    let _ = std::fs::remove_file(data.config_in_force());
}

fn write_files(data: &DataDir, listeners: &[Named], keeper: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(data.keeper())?;
    let addresses: String = listeners.iter().map(|(_, name)| format!("{name}\n")).collect();
    write(&data.listen(), &addresses, 0o644)?;
    write(&data.pid(), &format!("{keeper}\n"), 0o644)?;
    if !data.token().exists() {
        let token: String = random::bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
        write(&data.token(), &format!("{token}\n"), 0o600)?;
    }
    if !data.node().exists() {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        write(&data.node(), &format!("{name}\n"), 0o644)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    write_atomically(path, text, mode).with_context(|| {
        format!("{} cannot be written; on a full disk, make room and start again", path.display())
    })
}

//! `serve`: becomes the keeper. Everything that can be wrong with config, data directory
//! and addresses is said here, before anything runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use procession_keeper::{ContainmentChoice, ServerCommand, Setup};
use sha2::{Digest, Sha256};

use super::{Global, ServeArgs};
use crate::config::{Config, Listen, LoadOptions, Severity, find, load};
use crate::data::{DataDir, write_atomically};
use crate::random;

/// Somebody else has the data directory (sysexits' `EX_TEMPFAIL`).
const EXIT_HELD: u8 = 75;

/// The config is wrong (sysexits' `EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// Names the containment to use: `monitor` for machines, and tests, without cgroups.
const CONTAINMENT: &str = "PROCESSION_CONTAINMENT";

/// Serves until it is stopped.
pub fn run(args: &ServeArgs, global: &Global) -> ExitCode {
    let config = match read_config(args, global) {
        Ok(config) => config,
        Err(wrong) => {
            eprintln!("{wrong}");
            return EXIT_CONFIG.into();
        }
    };
    match keep(&config) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            let held = error.downcast_ref::<Held>().is_some();
            (if held { EXIT_HELD } else { 1 }).into()
        }
    }
}

fn read_config(args: &ServeArgs, global: &Global) -> Result<Config, String> {
    let variable = std::env::var_os("PROCESSION_CONFIG");
    let path = find(global.config.as_deref(), variable.as_deref().map(Path::new))
        .map_err(|e| format!("error: {e}"))?;
    let options = LoadOptions { insecure: args.insecure, ..LoadOptions::default() };
    let config = load(&path, &options).map_err(|wrong| wrong.to_string())?;
    for warning in config.warnings.iter().filter(|warning| warning.severity == Severity::Warning) {
        eprintln!("{warning}");
    }
    Ok(config)
}

fn keep(config: &Config) -> anyhow::Result<u8> {
    let data = DataDir::create(&config.server.data_dir)
        .with_context(|| format!("the data directory {} cannot be made", config.server.data_dir.display()))?;
    let _lock = lock(&data)?;
    let listeners = config.server.listen.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
    write_files(&data, &listeners)?;
    let setup = Setup {
        listeners,
        state_dir: data.keeper(),
        server: ServerCommand {
            program: std::env::current_exe().context("this program cannot find itself")?,
            args: vec![
                "server".into(),
                "--config".into(),
                config.path.clone().into(),
                "--data-dir".into(),
                data.root().into(),
            ],
            env: Vec::new(),
        },
        containment: match std::env::var(CONTAINMENT).as_deref() {
            Ok("monitor") => ContainmentChoice::MonitorOnly,
            _ => ContainmentChoice::Best,
        },
        label: label(data.root()),
    };
    let status = procession_keeper::run(setup)?;
    for path in [data.listen(), data.pid(), data.server_pid()] {
        // What is left behind names nobody; the next start writes it anew.
        let _ = std::fs::remove_file(path);
    }
    Ok(status)
}

/// Another keeper has the data directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the data directory is in use by process {0}; one server per data directory (stop it, or set another data_dir)"
)]
struct Held(String);

/// Locks the data directory for the life of this process.
fn lock(data: &DataDir) -> anyhow::Result<File> {
    let path = data.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Err(Held(holder.trim().to_owned()).into());
        }
        Err(TryLockError::Error(error)) => return Err(error).context("the data directory cannot be locked"),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn write_files(data: &DataDir, listeners: &[(OwnedFd, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(data.keeper())?;
    let addresses: String = listeners.iter().map(|(_, name)| format!("{name}\n")).collect();
    write_atomically(&data.listen(), &addresses, 0o644)?;
    write_atomically(&data.pid(), &format!("{}\n", std::process::id()), 0o644)?;
    if !data.token().exists() {
        let token: String = random::bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
        write_atomically(&data.token(), &format!("{token}\n"), 0o600)?;
    }
    if !data.node().exists() {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        write_atomically(&data.node(), &format!("{name}\n"), 0o644)?;
    }
    Ok(())
}

/// Binds one address; its name is the one really bound.
fn bind(listen: &Listen) -> anyhow::Result<(OwnedFd, String)> {
    match listen {
        Listen::Tcp(address) => {
            let listener =
                TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
            let bound = listener.local_addr()?;
            // A burst of clients waits in the kernel, not in a retry.
            rustix::net::listen(&listener, 4096)?;
            Ok((listener.into(), bound.to_string()))
        }
        Listen::Unix { path, mode, group } => {
            let listener = bind_unix(path).with_context(|| format!("cannot listen on {listen}"))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
            if let Some(group) = group {
                let id = group_id(group)?;
                std::os::unix::fs::chown(path, None, Some(id))
                    .with_context(|| format!("group {group} of {listen}"))?;
            }
            Ok((listener.into(), format!("unix:{}", path.display())))
        }
    }
}

/// Takes the place of a socket nobody listens on; never of anything else.
fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => bail!("there is something else at this path"),
        Ok(_) if UnixStream::connect(path).is_ok() => bail!("another program listens there"),
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    Ok(UnixListener::bind(path)?)
}

fn group_id(name: &str) -> anyhow::Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = std::fs::read_to_string("/etc/group")?;
    let id = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    });
    id.with_context(|| format!("there is no group `{name}`"))
}

/// The same for every keeper of a data directory, and for no other.
fn label(data: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(data.as_os_str().as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
